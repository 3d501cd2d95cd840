//! Locks whose answers come late, twice, or not at all, and whose keys vanish.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use keystead_client::{Compare, Kind, Loss, Outcome, Put, SessionState, Txn};
use keystead_proto::etcdserverpb::compare::TargetUnion;
use keystead_proto::etcdserverpb::request_op::Request;
use keystead_proto::etcdserverpb::response_op::Response;
use keystead_proto::etcdserverpb::{
    LeaseGrantResponse, LeaseRevokeResponse, PutResponse, RangeResponse, ResponseHeader,
    ResponseOp, TxnRequest, TxnResponse, WatchResponse,
};
use keystead_proto::mvccpb::event::EventType;
use keystead_proto::mvccpb::{Event, KeyValue};

use crate::fake::framed;
use crate::member::{Call, Member, Reply, eventually, say, say_all};

/// The lease that is granted, and the key that follows from it.
const LEASE: i64 = 0x2a;
const KEY: &[u8] = b"locks/x/2a";

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..Default::default()
    })
}

/// A range that found one key, created then, or none.
fn found(created: Option<i64>) -> ResponseOp {
    let kvs = created.map(|create_revision| KeyValue {
        key: Bytes::from_static(b"locks/x/1"),
        create_revision,
        ..Default::default()
    });
    ResponseOp {
        response: Some(Response::ResponseRange(RangeResponse {
            kvs: kvs.into_iter().collect(),
            ..Default::default()
        })),
    }
}

fn written() -> ResponseOp {
    ResponseOp {
        response: Some(Response::ResponsePut(PutResponse::default())),
    }
}

/// The answer to a release: the key was there and is not any more, or was not.
fn removed(was_there: bool) -> Reply {
    let deleted = ResponseOp {
        response: Some(Response::ResponseDeleteRange(Default::default())),
    };
    say(&txn(
        was_there,
        9,
        was_there.then_some(deleted).into_iter().collect(),
    ))
}

fn txn(succeeded: bool, revision: i64, responses: Vec<ResponseOp>) -> TxnResponse {
    TxnResponse {
        header: header(revision),
        succeeded,
        responses,
    }
}

/// The watch that was asked for is made, and then this happens. Nothing is said to what is no creation.
fn watched(call: &Call, then: impl IntoIterator<Item = WatchResponse>) -> Reply {
    let Some(create) = call.watch() else {
        return Reply::Silence;
    };
    // Nothing is missed, and nothing told that it does not wait for.
    assert_eq!((create.start_revision, &create.filters[..]), (9, &[0][..]));
    let mut said = vec![WatchResponse {
        header: header(8),
        created: true,
        ..Default::default()
    }];
    said.extend(then);
    for message in &mut said {
        message.watch_id = create.watch_id;
    }
    say_all(&said)
}

/// A key is removed.
fn removal() -> WatchResponse {
    WatchResponse {
        header: header(9),
        events: vec![Event {
            r#type: EventType::Delete.into(),
            kv: Some(KeyValue {
                key: Bytes::from_static(b"locks/x/1"),
                mod_revision: 9,
                ..Default::default()
            }),
            prev_kv: None,
        }],
        ..Default::default()
    }
}

/// The key was made at revision 7; the first in the queue was created at `owner`.
fn entered(owner: i64) -> TxnResponse {
    txn(true, 7, vec![written(), found(Some(owner))])
}

/// Grants a lease that outlives every test, keeps watches silent, and leaves transactions, counted from 0, to the script.
async fn member(script: impl Fn(usize, &Call) -> Reply + Send + Sync + 'static) -> Member {
    let txns = AtomicUsize::new(0);
    Member::start(move |call| match call.method.as_str() {
        "LeaseGrant" => say(&LeaseGrantResponse {
            header: header(1),
            id: LEASE,
            ttl: 600,
            error: String::new(),
        }),
        "LeaseRevoke" => say(&LeaseRevokeResponse { header: header(1) }),
        "Txn" => script(txns.fetch_add(1, Ordering::Relaxed), call),
        "Watch" => script(usize::MAX, call),
        _ => Reply::Silence,
    })
    .await
}

/// Whether it deletes the own key if it was created at 7, and does nothing else.
fn releases(call: &Call) -> bool {
    let txn: TxnRequest = call.read();
    let (Some(compare), Some(op)) = (txn.compare.first(), txn.success.first()) else {
        return false;
    };
    matches!(&op.request, Some(Request::RequestDeleteRange(delete)) if delete.key == KEY)
        && compare.key == KEY
        && compare.target_union == Some(TargetUnion::CreateRevision(7))
        && (txn.compare.len(), txn.success.len(), txn.failure.len()) == (1, 1, 0)
}

async fn released(member: &Member) {
    eventually("the release", async || {
        let calls = member.calls("Txn");
        calls.last().is_some_and(releases).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_free_lock_is_taken_in_one_call_with_gos_key() {
    let member = member(|_, _| say(&entered(7))).await;
    let client = member.client();
    let guard = client.lock("locks/x").lock().await.expect("it is free");
    assert_eq!((guard.fencing_token(), &guard.key()[..]), (7, KEY));
    assert!(guard.held());
    let calls = member.calls("Txn");
    assert_eq!(calls.len(), 1);
    let entry: TxnRequest = calls[0].read();
    let Some(Request::RequestPut(put)) = &entry.success[0].request else {
        panic!("{entry:?}");
    };
    assert_eq!((&put.key[..], put.lease), (KEY, LEASE));
    assert!(put.value.is_empty());
}

#[tokio::test]
async fn an_acquisition_that_is_dropped_removes_the_key_that_it_made_meanwhile() {
    let member = member(|count, _| match count {
        0 => Reply::Late(Duration::from_millis(300), framed(&entered(5))),
        _ => removed(true),
    })
    .await;
    let client = member.client();
    {
        let lock = client.lock("locks/x");
        let mut waiting = Box::pin(lock.lock());
        tokio::select! {
            _ = &mut waiting => panic!("another one has it"),
            _ = member.asked("Txn", 1) => {}
        }
    }
    released(&member).await;
}

#[tokio::test]
async fn an_acquisition_that_is_dropped_while_it_waits_removes_its_key() {
    let member = member(|count, _| match count {
        0 => say(&entered(5)),
        1 => say(&txn(true, 8, vec![found(Some(7)), found(Some(5))])),
        usize::MAX => Reply::Silence,
        _ => removed(true),
    })
    .await;
    let lock = member.client().lock("locks/x");
    let waited = tokio::select! {
        _ = lock.lock() => false,
        _ = member.asked("Watch", 1) => true,
    };
    assert!(waited);
    released(&member).await;
}

#[tokio::test]
async fn a_guard_that_is_dropped_releases_and_one_that_is_unlocked_says_how_it_was() {
    for was_there in [true, false] {
        let member = member(move |count, _| match count {
            0 => say(&entered(7)),
            _ => removed(was_there),
        })
        .await;
        let client = member.client();
        let guard = client.lock("locks/x").lock().await.expect("it is free");
        match guard.unlock().await {
            Ok(()) => assert!(was_there),
            Err(error) => assert_eq!((error.kind, was_there), (Kind::LockLost, false)),
        }
        released(&member).await;
    }
    let member = member(|count, _| match count {
        0 => say(&entered(7)),
        _ => removed(true),
    })
    .await;
    let client = member.client();
    drop(client.lock("locks/x").lock().await.expect("it is free"));
    released(&member).await;
}

#[tokio::test]
async fn a_release_that_was_left_open_is_repeated() {
    let member = member(|count, _| match count {
        0 => say(&entered(7)),
        1 => Reply::Fail(14, "etcdserver: request timed out"),
        _ => removed(false),
    })
    .await;
    let client = member.client();
    let guard = client.lock("locks/x").lock().await.expect("it is free");
    // The first one did it, though it did not say so.
    guard.unlock().await.expect("it was unlocked");
    assert_eq!(member.calls("Txn").len(), 3);
}

#[tokio::test]
async fn an_entry_that_was_left_open_is_repeated_and_finds_its_own_key() {
    let member = member(|count, _| match count {
        0 => Reply::Fail(14, "etcdserver: leader changed"),
        _ => say(&txn(false, 9, vec![found(Some(7)), found(Some(7))])),
    })
    .await;
    let client = member.client();
    let guard = client.lock("locks/x").lock().await.expect("it is free");
    assert_eq!(guard.fencing_token(), 7);
}

#[tokio::test]
async fn whose_key_vanished_while_it_waited_never_holds_the_lock() {
    let member = member(|count, call| match count {
        0 => say(&entered(5)),
        1 => say(&txn(true, 8, vec![found(Some(7)), found(Some(5))])),
        usize::MAX => watched(call, [removal()]),
        // The one before is gone, and so is the own key: its lease ended.
        2 => say(&txn(true, 9, vec![found(None), found(None)])),
        _ => removed(false),
    })
    .await;
    let client = member.client();
    let error = client
        .lock("locks/x")
        .lock()
        .await
        .err()
        .expect("it is not there");
    assert_eq!(
        (error.kind, error.outcome),
        (Kind::LockLost, Outcome::NotApplied)
    );
}

#[tokio::test]
async fn who_waits_goes_on_when_the_stream_breaks_and_when_history_is_compacted() {
    let broken: fn(usize, &Call) -> Reply = |watches, call| match watches {
        0 => Reply::Reset,
        _ => watched(call, [removal()]),
    };
    let compacted: fn(usize, &Call) -> Reply = |_, call| {
        let gone = WatchResponse {
            header: header(20),
            canceled: true,
            compact_revision: 15,
            ..Default::default()
        };
        watched(call, [gone])
    };
    for watch in [broken, compacted] {
        let watches = AtomicUsize::new(0);
        let member = member(move |count, call| match count {
            0 => say(&entered(5)),
            1 => say(&txn(true, 8, vec![found(Some(7)), found(Some(5))])),
            usize::MAX => watch(watches.fetch_add(1, Ordering::Relaxed), call),
            2 => say(&txn(true, 20, vec![found(Some(7)), found(None)])),
            _ => removed(true),
        })
        .await;
        let client = member.client();
        let guard = client.lock("locks/x").lock().await.expect("its turn");
        assert_eq!((guard.fencing_token(), member.calls("Txn").len()), (7, 3));
    }
}

#[tokio::test]
async fn many_who_wait_share_one_watch_stream() {
    const WAITING: usize = 20;
    let member = member(|count, call| match count {
        usize::MAX => watched(call, []),
        _ if call.read::<TxnRequest>().compare.is_empty() => {
            say(&txn(true, 8, vec![found(Some(7)), found(Some(5))]))
        }
        _ => say(&entered(5)),
    })
    .await;
    let client = member.client();
    let waiting = (0..WAITING).map(|n| {
        let lock = client.lock(format!("locks/{n}"));
        async move { lock.lock().await.map(|_| ()) }
    });
    let calls = tokio::select! {
        _ = futures::future::join_all(waiting) => panic!("they are all taken"),
        calls = member.asked("Watch", WAITING) => calls,
    };
    assert!(calls.iter().all(|call| call.stream == calls[0].stream));
}

#[tokio::test]
async fn a_taken_lock_is_not_taken_by_trying_and_not_in_time_by_waiting() {
    let member = member(|count, call| match count {
        0 => {
            // It is in the queue only if nobody is.
            let entry: TxnRequest = call.read();
            let all = entry
                .compare
                .get(1)
                .map(|all| (&all.key[..], &all.range_end[..]));
            assert_eq!(all, Some((&b"locks/x/"[..], &b"locks/x0"[..])));
            say(&txn(false, 6, vec![found(None), found(Some(5))]))
        }
        1 => say(&entered(5)),
        2 => say(&txn(true, 8, vec![found(Some(7)), found(Some(5))])),
        usize::MAX => Reply::Silence,
        _ => removed(true),
    })
    .await;
    let lock = member.client().lock("locks/x");
    assert!(lock.try_lock().await.expect("an answer").is_none());
    let error = lock.lock_within(Duration::from_millis(200)).await;
    let error = error.err().expect("another one has it");
    assert_eq!(
        (error.kind, error.outcome),
        (Kind::DeadlineExceeded, Outcome::NotApplied)
    );
}

#[tokio::test]
async fn a_guarded_txn_is_nested_whole_and_a_stale_holder_runs_neither_branch() {
    let user = || {
        Txn::when([Compare::missing("a")])
            .then([keystead_client::Op::Put(Put::new("a", "1"))])
            .otherwise([keystead_client::Op::Put(Put::new("b", "2"))])
    };
    let inner = |succeeded| ResponseOp {
        response: Some(Response::ResponseTxn(txn(succeeded, 9, vec![written()]))),
    };
    let member = member(move |count, _| match count {
        0 => say(&entered(7)),
        1 => say(&txn(true, 9, vec![inner(false)])),
        _ => say(&txn(false, 10, vec![found(None)])),
    })
    .await;
    let client = member.client();
    let guard = client.lock("locks/x").lock().await.expect("it is free");
    // The user's own compare failed: no loss.
    let done = guard.txn(user()).await.expect("it is held");
    assert_eq!(
        (done.succeeded, done.header.revision, done.results.len()),
        (false, 9, 1)
    );
    assert!(guard.held());
    let sent: TxnRequest = member.calls("Txn")[1].read();
    assert_eq!(
        (sent.compare.len(), sent.success.len(), sent.failure.len()),
        (1, 1, 1)
    );
    assert_eq!(sent.compare[0].key, KEY);
    assert!(matches!(
        sent.success[0].request,
        Some(Request::RequestTxn(_))
    ));
    assert!(matches!(&sent.failure[0].request, Some(Request::RequestRange(own)) if own.key == KEY));

    let error = guard.txn(user()).await.expect_err("the key is gone");
    assert_eq!(
        (error.kind, error.outcome),
        (Kind::LockLost, Outcome::NotApplied)
    );
    assert!(!guard.held());
    assert_eq!(guard.state(), SessionState::Lost(Loss::Revoked));
    assert_eq!(guard.lost().await, Loss::Revoked);
    // What is known to be lost is not sent.
    let error = guard
        .put("a", "2")
        .await
        .expect_err("it is known to be lost");
    assert_eq!((error.kind, member.calls("Txn").len()), (Kind::LockLost, 3));
}

#[tokio::test]
async fn a_guarded_txn_leaves_room_for_the_guards_own_compare() {
    let member = member(|_, _| say(&entered(7))).await;
    let client = member.client();
    let guard = client.lock("locks/x").lock().await.expect("it is free");
    let many = (0..128).map(|n| Compare::missing(format!("{n}")));
    let error = guard.txn(Txn::when(many)).await.expect_err("too many");
    assert_eq!(
        (error.kind, member.calls("Txn").len()),
        (Kind::InvalidArgument, 1)
    );
}

#[tokio::test]
async fn a_second_guard_of_one_name_has_a_key_of_its_own() {
    let member = member(|count, _| match count {
        0 => say(&entered(7)),
        1 => say(&txn(true, 9, vec![written(), found(Some(7))])),
        2 => say(&txn(true, 9, vec![found(Some(9)), found(Some(7))])),
        usize::MAX => Reply::Silence,
        _ => removed(true),
    })
    .await;
    let client = member.client();
    let lock = client.lock("locks/x");
    let _first = lock.lock().await.expect("it is free");
    tokio::select! {
        _ = lock.lock() => panic!("it is taken"),
        _ = member.asked("Txn", 2) => {}
    }
    let entry: TxnRequest = member.calls("Txn")[1].read();
    assert_eq!(entry.compare[0].key, &b"locks/x/2a-1"[..]);
    assert_eq!(member.calls("LeaseGrant").len(), 1, "one session for both");
}

#[tokio::test]
async fn closing_the_session_loses_its_guards_at_once() {
    let member = member(|_, _| say(&entered(7))).await;
    let client = member.client();
    let session = client
        .session(Duration::from_secs(600))
        .await
        .expect("granted");
    let lock = client.lock("locks/x").with_session(&session);
    let guard = lock.lock().await.expect("it is free");
    session.close().await.expect("revoked");
    assert!(!guard.held());
    assert_eq!(guard.lost().await, Loss::Revoked);
    let error = lock.lock().await.err().expect("the session is over");
    assert_eq!(error.kind, Kind::LeaseNotFound);
    let error = guard.unlock().await.expect_err("it was lost");
    assert_eq!(error.kind, Kind::LockLost);
}
