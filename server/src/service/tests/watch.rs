//! Watch on a member: order, history, progress, half-close, and clients that come and go.

use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};

use super::calls::{Call, Client, with_member};

const WATCH: &str = "/etcdserverpb.Watch/Watch";

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(union),
    }
}

fn create(key: &'static str, start_revision: i64) -> WatchRequest {
    let create = WatchCreateRequest {
        key: key.into(),
        start_revision,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    request(RequestUnion::CreateRequest(create))
}

fn progress() -> WatchRequest {
    request(RequestUnion::ProgressRequest(WatchProgressRequest {}))
}

async fn watching(client: &Client, key: &'static str, start_revision: i64) -> Call {
    let mut call = client.open(WATCH).await;
    call.say(&create(key, start_revision));
    let created: WatchResponse = call.heard().await;
    assert!(created.created && !created.canceled && created.watch_id == 0);
    call
}

fn revision(message: &WatchResponse) -> i64 {
    message.header.as_ref().expect("a header").revision
}

#[test]
fn a_watch_sees_history_and_then_what_comes_on_whichever_shard_it_is_written() {
    with_member(async |client| {
        let writer = client.another().await;
        assert_eq!(writer.put("a", "1", 0).await, 2);
        let mut call = watching(&client, "a", 1).await;
        let past: WatchResponse = call.heard().await;
        assert_eq!((past.events.len(), revision(&past)), (1, 2));
        writer.put("a", "2", 0).await;
        writer.put("b", "-", 0).await;
        writer.delete("a").await;
        let put: WatchResponse = call.heard().await;
        let header = put.header.as_ref().expect("a header");
        assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0);
        let event = &put.events[0];
        assert_eq!(
            (revision(&put), &event.kv.as_ref().expect("a kv").value[..]),
            (3, &b"2"[..])
        );
        assert_eq!(event.prev_kv.as_ref().expect("what it was").value, "1");
        let deleted: WatchResponse = call.heard().await;
        let kv = deleted.events[0].kv.as_ref().expect("a kv");
        assert_eq!(
            (revision(&deleted), kv.mod_revision, kv.create_revision),
            (5, 5, 0)
        );
        assert!(call.is_silent::<WatchResponse>().await);
    });
}

#[test]
fn progress_is_told_at_the_revision_that_was_just_written() {
    with_member(async |client| {
        let mut call = watching(&client, "a", 0).await;
        for round in 0..200 {
            let written = client.put("other", "-", 0).await;
            call.say(&progress());
            let told: WatchResponse = call.heard().await;
            assert_eq!((told.watch_id, told.events.len()), (-1, 0), "round {round}");
            assert!(revision(&told) >= written);
        }
    });
}

#[test]
fn a_half_closed_stream_goes_on_and_a_cancelled_watcher_does_not() {
    with_member(async |client| {
        let mut call = watching(&client, "a", 0).await;
        call.say(&create("a", 0));
        let second: WatchResponse = call.heard().await;
        assert_eq!(second.watch_id, 1);
        call.say(&request(RequestUnion::CancelRequest(WatchCancelRequest {
            watch_id: 1,
        })));
        let canceled: WatchResponse = call.heard().await;
        assert!(canceled.canceled && canceled.watch_id == 1);
        call.half_close();
        client.put("a", "1", 0).await;
        let event: WatchResponse = call.heard().await;
        assert_eq!((event.watch_id, event.events.len()), (0, 1));
        assert!(call.is_silent::<WatchResponse>().await);
    });
}

#[test]
fn a_start_below_the_compaction_is_answered_in_two_steps() {
    with_member(async |client| {
        for _ in 0..5 {
            client.put("a", "1", 0).await;
        }
        client.compact(4).await;
        let mut call = watching(&client, "a", 3).await;
        let canceled: WatchResponse = call.heard().await;
        assert!(canceled.canceled && canceled.cancel_reason.is_empty());
        assert_eq!((canceled.compact_revision, revision(&canceled)), (4, 0));
        let mut call = watching(&client, "a", 4).await;
        let history: WatchResponse = call.heard().await;
        assert_eq!(history.events.len(), 3);
        assert!(
            history.events[0].prev_kv.is_none(),
            "its revision is compacted"
        );
        assert!(history.events[1].prev_kv.is_some());
    });
}

#[test]
fn an_idle_watch_that_asked_for_it_hears_progress_at_intervals() {
    with_member(async |client| {
        let mut call = client.open(WATCH).await;
        let create = WatchCreateRequest {
            key: "a".into(),
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        call.say(&request(RequestUnion::CreateRequest(create)));
        let created: WatchResponse = call.heard().await;
        assert!(created.created);
        let written = client.put("other", "-", 0).await;
        loop {
            let told: WatchResponse = call.heard().await;
            assert!(told.events.is_empty() && told.watch_id == 0);
            if revision(&told) == written {
                break;
            }
        }
    });
}

#[test]
fn thousands_of_streams_that_were_cancelled_leave_the_member_well() {
    with_member(async |client| {
        for _ in 0..50 {
            let mut calls = Vec::new();
            for _ in 0..100 {
                let mut call = client.open(WATCH).await;
                call.say(&create("a", 0));
                calls.push(call);
            }
            client.put("a", "1", 0).await;
            let _: WatchResponse = calls[0].heard().await;
            calls.into_iter().for_each(Call::cancel);
        }
        let mut call = watching(&client, "a", 0).await;
        client.put("a", "2", 0).await;
        let event: WatchResponse = call.heard().await;
        assert_eq!(event.events.len(), 1);
    });
}

#[test]
fn a_stopping_member_ends_its_watches() {
    let mut held = None;
    with_member(async |client| held = Some(watching(&client, "a", 0).await));
    // The connection's task is gone with the test's runtime; what matters is that shutting down did not hang.
    assert!(held.is_some());
}
