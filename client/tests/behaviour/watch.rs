//! Watches on streams that break, lie, hang and fall silent.

use std::time::Duration;

use keystead_client::{
    Client, ConnectOptions, EventKind, KeyRange, Kind, Notice, OnGap, Watch, Watcher,
};
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use tokio::time::{Instant, sleep, timeout};

use crate::puppet::{LIMIT, Puppet, Stream, begin, kv, opened};

/// A client that doubts a silent stream after a fraction of a second.
fn client_of<const N: usize>(endpoints: [String; N]) -> Client {
    let mut options = ConnectOptions::new(endpoints);
    options.keepalive_interval = Duration::from_millis(100);
    options.keepalive_timeout = Duration::from_millis(100);
    options.call.deadline = Duration::from_secs(2);
    let client = Client::lazy(options).expect("the URLs are right");
    client.with_deadline(LIMIT)
}

/// The same with the usual patience.
fn patient(puppet: &Puppet) -> Client {
    Client::lazy(puppet.options()).expect("the URL is right")
}

fn all() -> Watch {
    Watch::new(KeyRange::all())
}

async fn next(watcher: &Watcher) -> Notice {
    let next = timeout(LIMIT, watcher.next()).await;
    next.expect("the watch has something to tell")
        .expect("the watch goes on")
        .expect("the watch has not ended")
}

/// A notice in a few words.
fn brief(notice: &Notice) -> String {
    let last = |last: &bool| if *last { "" } else { " ..." };
    match notice {
        Notice::Events {
            revision,
            events,
            last: end,
        } => {
            let events = events.iter().map(|event| change(event, *revision));
            let events = events.collect::<Vec<_>>().join(" ");
            format!("{revision}: {events}{}", last(end))
        }
        Notice::Progress { revision } => format!("progress {revision}"),
        Notice::Disconnected { .. } => "disconnected".to_owned(),
        Notice::Resumed { revision } => format!("resumed {revision}"),
        Notice::Reset {
            cause,
            revision,
            page,
            kvs,
            last: end,
        } => {
            let keys = kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key));
            let keys = keys.collect::<Vec<_>>().join(" ");
            format!("{cause:?} {revision} page {page}: {keys}{}", last(end))
        }
        Notice::Diff {
            cause,
            revision,
            events,
            last: end,
        } => {
            let events = events.iter().map(|event| change(event, *revision));
            let events = events.collect::<Vec<_>>().join(" ");
            format!("{cause:?} {revision} diff: {events}{}", last(end))
        }
        other => format!("{other:?}"),
    }
}

fn change(event: &keystead_client::Event, revision: i64) -> String {
    let key = String::from_utf8_lossy(&event.kv.key);
    let sign = match event.kind {
        EventKind::Put => "+",
        EventKind::Delete => "-",
    };
    let at = if event.kv.mod_revision == revision {
        String::new()
    } else {
        format!("@{}", event.kv.mod_revision)
    };
    format!("{sign}{key}{at}")
}

/// What comes next, in a few words.
async fn told<const N: usize>(watcher: &Watcher, expected: [&str; N]) {
    for expected in expected {
        assert_eq!(brief(&next(watcher).await), expected);
    }
}

/// Nothing is waiting, and nothing comes for a moment.
async fn quiet(watcher: &Watcher) {
    let next = timeout(Duration::from_millis(200), watcher.next()).await;
    assert!(next.is_err(), "not quiet: {next:?}");
}

#[tokio::test]
async fn a_broken_watch_goes_on_after_the_last_event_it_handed_out_and_says_so() {
    let mut puppet = Puppet::start().await;
    let (watcher, stream) = begin(&patient(&puppet), &mut puppet, all()).await;
    stream.puts(1, &[("a", 11), ("b", 12)]);
    told(&watcher, ["11: +a", "12: +b"]).await;
    stream.break_off();
    told(&watcher, ["disconnected"]).await;
    let (stream, request) = opened(&mut puppet).await;
    assert_eq!(request.start_revision, 13);
    stream.puts(request.watch_id, &[("c", 13)]);
    told(&watcher, ["resumed 12", "13: +c"]).await;
    quiet(&watcher).await;
}

#[tokio::test]
async fn an_interruption_that_nobody_saw_is_not_told() {
    let mut puppet = Puppet::start().await;
    let (watcher, stream) = begin(&patient(&puppet), &mut puppet, all()).await;
    stream.puts(1, &[("a", 11)]);
    while watcher.lag().buffered_bytes == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let one = watcher.lag().buffered_bytes;
    stream.break_off();
    let (stream, request) = opened(&mut puppet).await;
    assert_eq!(request.start_revision, 12);
    stream.puts(request.watch_id, &[("b", 12)]);
    while watcher.lag().buffered_bytes < 2 * one {
        sleep(Duration::from_millis(1)).await;
    }
    told(&watcher, ["11: +a", "12: +b"]).await;
    quiet(&watcher).await;
}

#[tokio::test]
async fn the_created_header_is_a_place_to_go_on_from_only_when_now_was_asked_for() {
    for (start, resumed) in [(0, 101), (5, 5)] {
        let mut puppet = Puppet::start().await;
        puppet.set(|store| store.revision = 100);
        let watch = Watch {
            start_revision: start,
            ..all()
        };
        let (_watcher, stream) = begin(&patient(&puppet), &mut puppet, watch).await;
        stream.break_off();
        let (_stream, request) = opened(&mut puppet).await;
        assert_eq!(request.start_revision, resumed, "asked for {start}");
    }
}

#[tokio::test]
async fn a_watch_that_no_server_takes_is_refused_before_it_can_end_the_stream_of_others() {
    let mut puppet = Puppet::start().await;
    let client = patient(&puppet);
    let (_watcher, mut stream) = begin(&client, &mut puppet, all()).await;
    let large = Watch::new(KeyRange::prefix(vec![b'x'; 600 << 10]));
    let refused = client.watch(large).await.err().expect("it is refused");
    assert_eq!(refused.kind, Kind::TooLarge);
    let (next, request) = tokio::join!(
        client.watch(Watch::new(KeyRange::key("small"))),
        stream.create_one()
    );
    assert!(next.is_ok());
    assert_eq!(request.key, "small");
}

#[tokio::test]
async fn a_stream_that_breaks_between_fragments_hands_out_no_half_revision() {
    let mut puppet = Puppet::start().await;
    let (watcher, stream) = begin(&patient(&puppet), &mut puppet, all()).await;
    stream.fragment(1, &[("a", 11), ("b", 12)]);
    stream.fragment(1, &[("c", 12)]);
    told(&watcher, ["11: +a"]).await;
    quiet(&watcher).await;
    stream.break_off();
    told(&watcher, ["disconnected"]).await;
    let (stream, request) = opened(&mut puppet).await;
    assert_eq!(request.start_revision, 12);
    stream.fragment(request.watch_id, &[("b", 12), ("c", 12)]);
    stream.puts(request.watch_id, &[("d", 12)]);
    told(&watcher, ["resumed 11", "12: +b +c +d"]).await;
}

#[tokio::test]
async fn a_revision_larger_than_the_buffer_comes_in_parts_even_over_two_streams() {
    let mut puppet = Puppet::start().await;
    let watch = Watch {
        buffer_bytes: 1,
        ..all()
    };
    let (watcher, stream) = begin(&patient(&puppet), &mut puppet, watch).await;
    stream.fragment(1, &[("a", 11), ("b", 11)]);
    told(&watcher, ["11: +a +b ..."]).await;
    stream.break_off();
    told(&watcher, ["disconnected"]).await;
    let (stream, request) = opened(&mut puppet).await;
    assert_eq!(request.start_revision, 11);
    told(&watcher, ["resumed 10"]).await;
    stream.fragment(request.watch_id, &[("a", 11)]);
    stream.fragment(request.watch_id, &[("b", 11), ("c", 11)]);
    told(&watcher, ["11: +c ..."]).await;
    stream.puts(request.watch_id, &[("d", 11)]);
    told(&watcher, ["11: +d"]).await;
}

#[tokio::test]
async fn a_creation_that_is_never_answered_is_made_on_another_stream() {
    let mut puppet = Puppet::start().await;
    let client = client_of([puppet.url()]);
    let play = async {
        let mut silent = puppet.stream().await;
        silent.create().await;
        opened(&mut puppet).await
    };
    let (watcher, (stream, request)) = tokio::join!(client.watch(all()), play);
    let watcher = watcher.expect("the second stream answers");
    stream.puts(request.watch_id, &[("a", 11)]);
    told(&watcher, ["11: +a"]).await;
}

#[tokio::test]
async fn a_watch_that_was_away_while_history_was_compacted_tells_the_state() {
    let mut puppet = Puppet::start().await;
    let (watcher, stream) = begin(&patient(&puppet), &mut puppet, all()).await;
    stream.puts(1, &[("a", 11)]);
    told(&watcher, ["11: +a"]).await;
    puppet.set(|store| {
        store.revision = 60;
        store.kvs = vec![kv("b", 40), kv("c", 60)];
    });
    stream.break_off();
    told(&watcher, ["disconnected"]).await;
    let (mut stream, request) = opened(&mut puppet).await;
    stream.compacted(request.watch_id, 50);
    let reset = "Compacted { revision: 50 } 60 page 0: b c";
    told(&watcher, ["resumed 11", reset]).await;
    let request = stream.create_one().await;
    assert_eq!(request.start_revision, 61);
    stream.puts(request.watch_id, &[("d", 61)]);
    told(&watcher, ["61: +d"]).await;
}

#[tokio::test]
async fn a_state_that_is_compacted_between_two_pages_begins_anew() {
    let mut puppet = Puppet::start().await;
    let keys: Vec<String> = (0..501).map(|key| format!("k{key:03}")).collect();
    puppet.set(|store| {
        store.kvs = keys
            .iter()
            .map(|key| keystead_proto::mvccpb::KeyValue {
                key: key.clone().into(),
                ..Default::default()
            })
            .collect();
    });
    let watch = Watch {
        state_first: true,
        ..all()
    };
    let client = patient(&puppet);
    let watcher = client.watch(watch).await.expect("it needs no stream yet");
    let page = |notice: Notice| match notice {
        Notice::Reset {
            revision,
            page,
            kvs,
            last,
            ..
        } => (revision, page, kvs.len(), last),
        other => panic!("not a page: {other:?}"),
    };
    assert_eq!(page(next(&watcher).await), (10, 0, 500, false));
    puppet.set(|store| {
        store.revision = 20;
        store.compacted = 15;
    });
    assert_eq!(page(next(&watcher).await), (20, 0, 500, false));
    assert_eq!(page(next(&watcher).await), (20, 1, 1, true));
    let (_stream, request) = opened(&mut puppet).await;
    assert_eq!(request.start_revision, 21);
}

#[tokio::test]
async fn a_watch_that_may_not_skip_anything_ends_where_history_does() {
    let mut puppet = Puppet::start().await;
    let watch = Watch {
        on_gap: OnGap::Fail,
        start_revision: 5,
        ..all()
    };
    let (watcher, mut stream) = begin(&patient(&puppet), &mut puppet, watch).await;
    stream.puts(1, &[("a", 5)]);
    stream.compacted(1, 9);
    told(&watcher, ["5: +a"]).await;
    let ended = timeout(LIMIT, watcher.next()).await.expect("it ends");
    assert_eq!(ended.expect_err("it says why").kind, Kind::Compacted);
    assert_eq!(watcher.next().await, Ok(None));
    stream.left().await;
}

#[tokio::test]
async fn a_watch_that_knows_its_keys_tells_only_what_differs() {
    let mut puppet = Puppet::start().await;
    puppet.set(|store| store.kvs = vec![kv("a", 2), kv("b", 3), kv("c", 4)]);
    let watch = Watch {
        state_first: true,
        on_gap: OnGap::Diff { most_keys: 4 },
        ..all()
    };
    let client = patient(&puppet);
    let watcher = client.watch(watch).await.expect("it needs no stream yet");
    told(&watcher, ["Begun 10 page 0: a b c"]).await;
    let (mut stream, request) = opened(&mut puppet).await;
    assert_eq!(request.start_revision, 11);
    stream.puts(request.watch_id, &[("d", 11)]);
    told(&watcher, ["11: +d"]).await;
    puppet.set(|store| {
        store.revision = 60;
        store.kvs = vec![kv("a", 2), kv("b", 50), kv("d", 11)];
    });
    stream.compacted(request.watch_id, 50);
    told(&watcher, ["Compacted { revision: 50 } 60 diff: +b@50 -c"]).await;
    // One key more than it may know: it does as if it knew nothing.
    let request = stream.create_one().await;
    assert_eq!(request.start_revision, 61);
    stream.puts(request.watch_id, &[("e", 61), ("f", 62)]);
    told(&watcher, ["61: +e", "62: +f"]).await;
    stream.compacted(request.watch_id, 70);
    told(&watcher, ["Compacted { revision: 70 } 62 page 0: a b d"]).await;
}

#[tokio::test]
async fn a_cluster_that_went_back_to_an_older_revision_is_a_restore() {
    let mut puppet = Puppet::start().await;
    let (watcher, stream) = begin(&patient(&puppet), &mut puppet, all()).await;
    stream.puts(1, &[("a", 100)]);
    told(&watcher, ["100: +a"]).await;
    puppet.set(|store| {
        store.revision = 40;
        store.kvs = vec![kv("old", 30)];
    });
    stream.break_off();
    let (_doubted, request) = opened(&mut puppet).await;
    assert_eq!(request.start_revision, 101);
    told(&watcher, ["disconnected", "Restored 40 page 0: old"]).await;
    let (stream, request) = opened(&mut puppet).await;
    assert_eq!(request.start_revision, 41);
    stream.puts(request.watch_id, &[("b", 41)]);
    told(&watcher, ["41: +b"]).await;
}

#[tokio::test]
async fn a_restored_cluster_is_known_by_its_term_when_its_revision_has_passed_ours() {
    let mut puppet = Puppet::start().await;
    puppet.set(|store| store.raft_term = 7);
    let watch = Watch {
        on_gap: OnGap::Fail,
        ..all()
    };
    let (watcher, stream) = begin(&patient(&puppet), &mut puppet, watch).await;
    stream.puts(1, &[("a", 100)]);
    told(&watcher, ["100: +a"]).await;
    puppet.set(|store| {
        store.revision = 140;
        store.raft_term = 3;
    });
    stream.break_off();
    let _doubted = opened(&mut puppet).await;
    told(&watcher, ["disconnected"]).await;
    let ended = timeout(LIMIT, watcher.next()).await.expect("it ends");
    assert_eq!(ended.expect_err("it says why").kind, Kind::FutureRevision);
}

#[tokio::test]
async fn a_member_that_lags_is_not_a_restore() {
    let mut puppet = Puppet::start().await;
    let (watcher, stream) = begin(&patient(&puppet), &mut puppet, all()).await;
    stream.puts(1, &[("a", 100)]);
    told(&watcher, ["100: +a"]).await;
    puppet.set(|store| store.revision = 120);
    stream.break_off();
    told(&watcher, ["disconnected"]).await;
    let lagging = |request: &WatchCreateRequest| WatchResponse {
        header: Some(keystead_proto::etcdserverpb::ResponseHeader {
            cluster_id: 1,
            revision: 90,
            raft_term: 2,
            ..Default::default()
        }),
        watch_id: request.watch_id,
        created: true,
        ..Default::default()
    };
    // Twice: the second time it is taken for what it is.
    for _ in 0..2 {
        let mut stream = puppet.stream().await;
        let request = stream.create().await;
        assert_eq!(request.start_revision, 101);
        stream.say(lagging(&request));
        if puppet.reads() > 0 {
            stream.puts(request.watch_id, &[("b", 101)]);
            told(&watcher, ["resumed 100", "101: +b"]).await;
            return;
        }
        stream.left().await;
    }
    panic!("the cluster was not asked how far it is");
}

#[tokio::test]
async fn a_member_of_another_cluster_is_left_for_one_of_ours() {
    let (mut first, mut second) = (Puppet::start().await, Puppet::start().await);
    let client = client_of([first.url(), second.url()]);
    let (watcher, on_first, stream) = {
        let watching = client.watch(all());
        tokio::pin!(watching);
        let (on_first, stream) = tokio::select! {
            (stream, _) = opened(&mut first) => (true, stream),
            (stream, _) = opened(&mut second) => (false, stream),
            _ = &mut watching => panic!("nobody has created it"),
        };
        (watching.await.expect("it was created"), on_first, stream)
    };
    let (taken_over, ours) = match on_first {
        true => (&mut first, &mut second),
        false => (&mut second, &mut first),
    };
    stream.puts(1, &[("a", 11)]);
    told(&watcher, ["11: +a"]).await;
    taken_over.set(|store| store.cluster_id = 99);
    ours.set(|store| store.revision = 11);
    stream.puts(1, &[("not ours", 12)]);
    told(&watcher, ["disconnected"]).await;
    let (stream, request) = opened(ours).await;
    assert_eq!(request.start_revision, 12);
    stream.puts(request.watch_id, &[("b", 12)]);
    told(&watcher, ["resumed 11", "12: +b"]).await;
}

#[tokio::test]
async fn when_every_endpoint_is_of_one_other_cluster_ours_was_restored() {
    let mut puppet = Puppet::start().await;
    let (watcher, stream) = begin(&patient(&puppet), &mut puppet, all()).await;
    stream.puts(1, &[("a", 11)]);
    told(&watcher, ["11: +a"]).await;
    puppet.set(|store| {
        store.cluster_id = 99;
        store.raft_term = 1;
        store.revision = 20;
        store.kvs = vec![kv("new", 5)];
    });
    stream.break_off();
    let _doubted = opened(&mut puppet).await;
    told(&watcher, ["disconnected", "Restored 20 page 0: new"]).await;
    let (_stream, request) = opened(&mut puppet).await;
    assert_eq!(request.start_revision, 21);
}

#[tokio::test]
async fn a_slow_consumer_is_taken_off_the_stream_and_delays_nobody() {
    let mut puppet = Puppet::start().await;
    let client = patient(&puppet);
    let (fast, mut stream) = begin(&client, &mut puppet, all()).await;
    let watch = Watch {
        buffer_bytes: 1000,
        ..all()
    };
    let (slow, request) = tokio::join!(client.watch(watch), stream.create_one());
    let (slow, slow_id) = (slow.expect("it was created"), request.watch_id);
    for revision in 11..=100 {
        stream.puts(slow_id, &[("k", revision)]);
        stream.puts(1, &[("k", revision)]);
    }
    assert_eq!(stream.cancellation().await, slow_id);
    stream.cancelled(slow_id);
    for revision in 11..=100 {
        told(&fast, [format!("{revision}: +k").as_str()]).await;
    }
    assert!(slow.lag().buffered_bytes <= 1000 && !slow.lag().connected);
    let mut resumed = 0;
    for revision in 11..=100 {
        if slow.lag().buffered_bytes == 0 {
            let request = next_creation(&mut stream).await;
            assert_eq!(request.start_revision, revision, "just after what it has");
            let rest: Vec<_> = (revision..=100).map(|revision| ("k", revision)).collect();
            stream.puts(request.watch_id, &rest);
            resumed += 1;
        }
        told(&slow, [format!("{revision}: +k").as_str()]).await;
    }
    assert!(resumed > 5, "a buffer of 1000 bytes holds no {resumed}th");
    quiet(&slow).await;
}

#[tokio::test]
async fn a_watch_that_left_comes_back_when_the_server_has_answered_that() {
    let mut puppet = Puppet::start().await;
    let watch = Watch {
        buffer_bytes: 100,
        ..all()
    };
    let (watcher, mut stream) = begin(&patient(&puppet), &mut puppet, watch).await;
    stream.puts(1, &[("k", 11)]);
    stream.puts(1, &[("k", 12)]);
    assert_eq!(stream.cancellation().await, 1);
    told(&watcher, ["11: +k"]).await;
    let nothing = timeout(Duration::from_millis(100), stream.request()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    // What was on its way.
    stream.puts(1, &[("k", 13)]);
    stream.cancelled(1);
    let request = next_creation(&mut stream).await;
    assert_eq!((request.watch_id, request.start_revision), (2, 12));
    stream.puts(2, &[("k", 12)]);
    told(&watcher, ["12: +k"]).await;
}

#[tokio::test]
async fn a_server_that_never_answers_a_watch_that_left_is_left() {
    let mut puppet = Puppet::start().await;
    let client = client_of([puppet.url()]);
    let watch = Watch {
        buffer_bytes: 100,
        ..all()
    };
    let (watcher, stream) = begin(&client, &mut puppet, watch).await;
    stream.puts(1, &[("k", 11)]);
    stream.puts(1, &[("k", 12)]);
    told(&watcher, ["11: +k", "disconnected"]).await;
    let (_stream, request) = opened(&mut puppet).await;
    assert_eq!(request.start_revision, 12);
}

/// Answers the next creation; watches may be cancelled before it, but never the first.
async fn next_creation(stream: &mut Stream) -> WatchCreateRequest {
    loop {
        match stream.request().await {
            Some(RequestUnion::CreateRequest(request)) => {
                stream.say(WatchResponse {
                    watch_id: request.watch_id,
                    created: true,
                    ..Default::default()
                });
                return request;
            }
            Some(RequestUnion::CancelRequest(request)) => {
                assert_ne!(request.watch_id, 1);
                stream.cancelled(request.watch_id);
            }
            Some(RequestUnion::ProgressRequest(_)) => {}
            None => panic!("the stream was left"),
        }
    }
}

#[tokio::test]
async fn a_dropped_watch_leaves_its_stream_and_the_last_one_closes_it() {
    let mut puppet = Puppet::start().await;
    let client = patient(&puppet);
    let (first, mut stream) = begin(&client, &mut puppet, all()).await;
    let (second, _) = tokio::join!(client.watch(all()), stream.create_one());
    drop(second.expect("it was created"));
    assert_eq!(stream.cancellation().await, 2);
    stream.puts(2, &[("late", 11)]);
    stream.puts(1, &[("a", 11)]);
    told(&first, ["11: +a"]).await;
    drop(first);
    stream.left().await;
    let (third, mut stream) = begin(&client, &mut puppet, all()).await;
    let waiting = tokio::spawn(async move { (third.next().await, third) });
    client.close();
    let (ended, third) = waiting.await.expect("no panic");
    assert_eq!(ended.expect_err("the client was closed").kind, Kind::Closed);
    assert_eq!(third.next().await, Ok(None));
    assert!(client.watch(all()).await.is_err());
    stream.left().await;
}

#[tokio::test]
async fn a_cancelled_watch_ends_whoever_waits_for_it() {
    let mut puppet = Puppet::start().await;
    let (watcher, mut stream) = begin(&patient(&puppet), &mut puppet, all()).await;
    let watcher = std::sync::Arc::new(watcher);
    let waiting = tokio::spawn({
        let watcher = watcher.clone();
        async move { watcher.next().await }
    });
    stream.puts(1, &[("a", 11)]);
    watcher.cancel();
    // Either it was quick enough for the event, or it is not told any more.
    let first = timeout(LIMIT, waiting)
        .await
        .expect("it ends")
        .expect("no panic");
    assert!(first.is_ok());
    assert_eq!(watcher.next().await, Ok(None));
    stream.left().await;
}

#[tokio::test]
async fn a_watch_that_nobody_waits_for_any_more_is_not_made() {
    let mut puppet = Puppet::start().await;
    let client = patient(&puppet);
    let mut stream = {
        let watching = client.watch(all());
        tokio::pin!(watching);
        tokio::select! {
            stream = puppet.stream() => stream,
            _ = &mut watching => panic!("nobody has created it"),
        }
    };
    stream.left().await;
    let (watcher, stream) = begin(&client, &mut puppet, all()).await;
    stream.puts(1, &[("a", 11)]);
    told(&watcher, ["11: +a"]).await;
}

#[tokio::test]
async fn a_stream_that_is_silent_though_the_store_has_moved_is_left() {
    let mut puppet = Puppet::start().await;
    let client = client_of([puppet.url()]);
    let (watcher, mut stream) = begin(&client, &mut puppet, all()).await;
    stream.asked_for_progress().await;
    puppet.set(|store| store.revision = 50);
    stream.left().await;
    told(&watcher, ["disconnected"]).await;
    let (stream, request) = opened(&mut puppet).await;
    assert_eq!(request.start_revision, 11);
    stream.puts(request.watch_id, &[("a", 50)]);
    told(&watcher, ["resumed 10", "50: +a"]).await;
}

#[tokio::test]
async fn a_stream_that_is_silent_because_nothing_happens_is_left_alone_and_known_to_be_current() {
    let mut puppet = Puppet::start().await;
    let client = client_of([puppet.url()]);
    let (watcher, mut stream) = begin(&client, &mut puppet, all()).await;
    let begun = Instant::now();
    while puppet.reads() < 3 {
        stream.asked_for_progress().await;
    }
    assert!(!puppet.has_stream(), "another stream was opened");
    assert!(watcher.lag().connected);
    assert!(watcher.lag().staleness < begun.elapsed());
    stream.puts(1, &[("a", 11)]);
    told(&watcher, ["11: +a"]).await;
}

#[tokio::test]
async fn progress_moves_the_cursor_of_those_watches_that_it_was_asked_for() {
    let mut puppet = Puppet::start().await;
    let client = client_of([puppet.url()]);
    let watch = Watch {
        progress: true,
        ..all()
    };
    let (idle, mut stream) = begin(&client, &mut puppet, watch).await;
    stream.asked_for_progress().await;
    // It begins in the past, and the answer was made before it was created.
    let watch = Watch {
        start_revision: 5,
        ..all()
    };
    let (behind, _) = tokio::join!(client.watch(watch), stream.create_one());
    let _behind = behind.expect("it was created");
    puppet.set(|store| store.revision = 80);
    stream.progress();
    told(&idle, ["progress 80"]).await;
    assert_eq!(idle.lag().revision, 80);
    stream.break_off();
    let mut stream = puppet.stream().await;
    let mut starts = [
        stream.create_one().await.start_revision,
        stream.create_one().await.start_revision,
    ];
    starts.sort_unstable();
    assert_eq!(starts, [5, 81]);
}

#[tokio::test]
async fn a_refused_watch_says_why_and_leaves_the_others_alone() {
    let mut puppet = Puppet::start().await;
    let client = patient(&puppet);
    let (watcher, mut stream) = begin(&client, &mut puppet, all()).await;
    let refusals = [
        (
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            Kind::PermissionDenied,
        ),
        ("mvcc: watcher range is empty", Kind::InvalidArgument),
    ];
    for (text, kind) in refusals {
        let refuse = async {
            stream.create().await;
            stream.say(WatchResponse {
                watch_id: -1,
                created: true,
                canceled: true,
                cancel_reason: text.to_owned(),
                ..Default::default()
            });
        };
        let (refused, ()) = tokio::join!(client.watch(all()), refuse);
        let error = refused.err().expect("it was refused");
        assert_eq!(error.kind, kind);
        assert!(text.ends_with(&error.message), "{error}");
    }
    stream.puts(1, &[("a", 11)]);
    told(&watcher, ["11: +a"]).await;
}

#[tokio::test]
async fn a_member_that_loses_its_leader_or_resets_the_stream_is_left_for_a_while() {
    let mut puppet = Puppet::start().await;
    let (watcher, mut stream) = begin(&patient(&puppet), &mut puppet, all()).await;
    for round in 0..3 {
        match round {
            0 => stream.end(14, "etcdserver: no leader"),
            1 => stream.reset(),
            _ => stream.end(0, ""),
        }
        told(&watcher, ["disconnected"]).await;
        let request;
        (stream, request) = opened(&mut puppet).await;
        assert_eq!(request.start_revision, 11);
        told(&watcher, ["resumed 10"]).await;
    }
}

#[tokio::test]
async fn a_server_that_is_never_there_is_told_within_the_deadline() {
    let options = ConnectOptions::new(["http://127.0.0.1:1"]);
    let client = Client::lazy(options).expect("the URL is right");
    let client = client.with_deadline(Duration::from_millis(300));
    let error = client.watch(all()).await.err().expect("nobody is there");
    assert!(
        matches!(error.kind, Kind::Unavailable | Kind::DeadlineExceeded),
        "{error:?}"
    );
}

#[tokio::test]
async fn keys_of_a_namespace_come_without_it() {
    let mut puppet = Puppet::start().await;
    puppet.set(|store| store.kvs = vec![kv("app/a", 2), kv("other", 3)]);
    let client = patient(&puppet).namespace("app/");
    let watch = Watch {
        state_first: true,
        ..all()
    };
    let watcher = client.watch(watch).await.expect("it needs no stream yet");
    told(&watcher, ["Begun 10 page 0: a"]).await;
    let (stream, request) = opened(&mut puppet).await;
    assert_eq!(request.key, "app/\0");
    stream.puts(request.watch_id, &[("app/b", 11)]);
    told(&watcher, ["11: +b"]).await;
}

#[tokio::test]
async fn a_batch_is_what_has_come_and_no_more_than_was_asked_for() {
    let mut puppet = Puppet::start().await;
    let (watcher, stream) = begin(&patient(&puppet), &mut puppet, all()).await;
    stream.puts(1, &[("a", 11), ("b", 12), ("c", 12), ("d", 13)]);
    let mut sizes = Vec::new();
    for _ in 0..2 {
        let batch = timeout(LIMIT, watcher.next_batch(3))
            .await
            .expect("it came");
        let batch = batch.expect("the watch goes on").expect("it has not ended");
        sizes.push(batch.len());
    }
    assert_eq!(sizes, [2, 1]);
}

#[tokio::test]
async fn wishes_that_contradict_each_other_are_refused_before_anything_is_sent() {
    let mut puppet = Puppet::start().await;
    let client = patient(&puppet);
    let diff = OnGap::Diff { most_keys: 10 };
    let wrong = [
        Watch {
            start_revision: -1,
            ..all()
        },
        Watch {
            start_revision: 5,
            state_first: true,
            ..all()
        },
        Watch {
            on_gap: diff,
            ..all()
        },
        Watch {
            on_gap: diff,
            state_first: true,
            no_delete: true,
            ..all()
        },
    ];
    for watch in wrong {
        let error = client.watch(watch).await.err().expect("it is refused");
        assert_eq!(error.kind, Kind::InvalidArgument);
    }
    assert!(!puppet.has_stream());
}
