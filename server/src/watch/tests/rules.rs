//! etcd's rules for watches, one by one.

use bytes::Bytes;
use keystead_proto::etcdserverpb::WatchResponse;

use super::model::{Member, Woken, create, drain, now, poll, put};
use crate::watch::hub::Counts;
use crate::watch::{Create, History, Limits, Span, WaitError};

fn member() -> Member {
    Member::new(Limits::new(1 << 20))
}

fn revision(message: &WatchResponse) -> i64 {
    message.header.as_ref().expect("a header").revision
}

fn revisions(messages: &[WatchResponse]) -> Vec<i64> {
    let events = messages.iter().flat_map(|message| &message.events);
    events
        .map(|event| event.kv.as_ref().expect("a kv").mod_revision)
        .collect()
}

fn all() -> Create<'static> {
    Create {
        key: b"",
        range_end: b"\0",
        ..Create::default()
    }
}

#[test]
fn refusals_are_created_and_canceled_with_id_minus_one_and_etcds_texts() {
    let member = member();
    let stream = member.hub.open();
    create(
        &stream,
        Create {
            watch_id: 7,
            ..all()
        },
    );
    let refused = [
        (
            Create {
                start_revision: -1,
                ..all()
            },
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            Create {
                key: b"b",
                range_end: b"b",
                ..Create::default()
            },
            "mvcc: watcher range is empty",
        ),
        (
            Create {
                watch_id: 7,
                ..all()
            },
            "mvcc: duplicate watch ID provided on the WatchStream",
        ),
    ];
    for (request, _) in &refused {
        create(&stream, request.clone());
    }
    let messages = drain(&stream);
    assert!(messages[0].created && !messages[0].canceled && messages[0].watch_id == 7);
    for (message, (_, text)) in messages[1..].iter().zip(&refused) {
        assert!(message.created && message.canceled);
        assert_eq!((message.watch_id, message.compact_revision), (-1, 0));
        assert_eq!(message.cancel_reason, *text);
        assert_eq!(revision(message), 1);
    }
}

#[test]
fn ids_are_counted_from_zero_around_those_that_were_asked_for() {
    let member = member();
    let stream = member.hub.open();
    for watch_id in [1, 0, 0, -5, -1, 0] {
        create(&stream, Create { watch_id, ..all() });
    }
    let ids: Vec<i64> = drain(&stream)
        .iter()
        .map(|message| message.watch_id)
        .collect();
    assert_eq!(ids, [1, 0, 2, -5, -1, 3]);
    now(stream.cancel(0));
    create(&stream, all());
    let ids: Vec<i64> = drain(&stream)
        .iter()
        .map(|message| message.watch_id)
        .collect();
    assert_eq!(ids, [0, 4], "an id is not given twice");
}

#[test]
fn a_live_event_tells_its_own_revision_and_catch_up_the_stores() {
    let member = member();
    let stream = member.hub.open();
    member.put(&[put(1, "a")]);
    member.put(&[put(2, "b")]);
    create(
        &stream,
        Create {
            key: b"\x01",
            start_revision: 2,
            ..Create::default()
        },
    );
    let messages = drain(&stream);
    assert!(messages[0].created && messages[0].events.is_empty());
    assert_eq!((revisions(&messages), revision(&messages[1])), (vec![2], 3));
    member.publish(
        [
            member.model.write(&[put(1, "c")]),
            member.model.write(&[put(9, "d")]),
        ]
        .concat(),
    );
    member.hub.drain();
    let messages = drain(&stream);
    assert_eq!((revisions(&messages), revision(&messages[0])), (vec![4], 4));
}

#[test]
fn a_start_below_the_compaction_is_created_and_then_canceled() {
    let member = member();
    for _ in 0..5 {
        member.put(&[put(1, "a")]);
    }
    member.model.compact(4);
    let stream = member.hub.open();
    create(
        &stream,
        Create {
            start_revision: 4,
            ..all()
        },
    );
    create(
        &stream,
        Create {
            start_revision: 3,
            ..all()
        },
    );
    let messages = drain(&stream);
    let canceled: Vec<&WatchResponse> =
        messages.iter().filter(|message| message.canceled).collect();
    assert_eq!(canceled.len(), 1);
    assert_eq!(
        (
            canceled[0].watch_id,
            canceled[0].compact_revision,
            revision(canceled[0])
        ),
        (1, 4, 0)
    );
    assert!(canceled[0].cancel_reason.is_empty() && !canceled[0].created);
    assert_eq!(
        revisions(&messages),
        [4, 5, 6],
        "at the compaction revision all is there"
    );
}

#[test]
fn a_future_start_sends_nothing_earlier_and_no_progress_before_it() {
    let member = member();
    let stream = member.hub.open();
    create(
        &stream,
        Create {
            start_revision: 4,
            progress_notify: true,
            ..all()
        },
    );
    assert_eq!(drain(&stream).len(), 1);
    for revision in 2..=3 {
        assert_eq!(member.put(&[put(1, "a")]), revision);
        now(stream.progress());
        stream.tick();
        assert!(drain(&stream).is_empty());
    }
    member.put(&[put(1, "b")]);
    now(stream.progress());
    let messages = drain(&stream);
    assert_eq!(revisions(&messages), [4]);
    assert_eq!((messages[1].watch_id, revision(&messages[1])), (-1, 4));
}

#[test]
fn progress_is_silent_without_watchers_and_while_one_is_behind() {
    let member = member();
    let stream = member.hub.open();
    now(stream.progress());
    assert!(drain(&stream).is_empty());
    member.put(&[put(1, "a")]);
    create(
        &stream,
        Create {
            start_revision: 1,
            ..all()
        },
    );
    now(stream.progress());
    let messages = drain(&stream);
    assert_eq!((messages.len(), revisions(&messages)), (2, vec![2]));
    now(stream.progress());
    let messages = drain(&stream);
    assert_eq!((messages[0].watch_id, revision(&messages[0])), (-1, 2));
}

#[test]
fn an_interval_is_told_to_the_watchers_that_were_quiet() {
    let member = member();
    let stream = member.hub.open();
    create(
        &stream,
        Create {
            key: b"\x01",
            progress_notify: true,
            ..Create::default()
        },
    );
    create(
        &stream,
        Create {
            key: b"\x02",
            progress_notify: true,
            ..Create::default()
        },
    );
    create(
        &stream,
        Create {
            key: b"\x03",
            ..Create::default()
        },
    );
    member.put(&[put(1, "a")]);
    drain(&stream);
    let told = || {
        stream.tick();
        let messages = drain(&stream);
        messages
            .iter()
            .map(|message| (message.watch_id, revision(message)))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(), [(1, 2)]);
    assert_eq!(told(), [(0, 2), (1, 2)]);
}

#[test]
fn cancel_is_answered_for_a_known_id_only() {
    let member = member();
    let stream = member.hub.open();
    create(&stream, all());
    now(stream.cancel(3));
    now(stream.cancel(0));
    member.put(&[put(1, "a")]);
    let messages = drain(&stream);
    assert_eq!(messages.len(), 2);
    assert!(
        messages[1].canceled && messages[1].watch_id == 0 && messages[1].cancel_reason.is_empty()
    );
}

#[test]
fn a_filtered_batch_sends_nothing() {
    let member = member();
    let stream = member.hub.open();
    create(
        &stream,
        Create {
            no_put: true,
            prev_kv: true,
            ..all()
        },
    );
    create(
        &stream,
        Create {
            no_delete: true,
            ..all()
        },
    );
    drain(&stream);
    member.put(&[put(1, "a")]);
    let messages = drain(&stream);
    assert_eq!(
        messages
            .iter()
            .map(|message| message.watch_id)
            .collect::<Vec<_>>(),
        [1]
    );
    member.put(&[(1, None)]);
    let messages = drain(&stream);
    assert_eq!(
        messages
            .iter()
            .map(|message| message.watch_id)
            .collect::<Vec<_>>(),
        [0]
    );
    let event = &messages[0].events[0];
    let kv = event.kv.as_ref().expect("a kv");
    assert_eq!(
        (&kv.key[..], kv.mod_revision, kv.create_revision, kv.version),
        (&b"\x01"[..], 3, 0, 0)
    );
    assert_eq!(event.prev_kv.as_ref().expect("what was deleted").value, "a");
}

#[test]
fn fragments_cut_one_revision_only_for_those_who_asked() {
    let member = Member::new(Limits {
        fragment_bytes: 100,
        ..Limits::new(0)
    });
    let stream = member.hub.open();
    create(
        &stream,
        Create {
            fragment: true,
            ..all()
        },
    );
    create(&stream, all());
    drain(&stream);
    let value = Bytes::from(vec![b'v'; 60]);
    member.put(
        &(1..=5)
            .map(|key| (key, Some(value.clone())))
            .collect::<Vec<_>>(),
    );
    member.put(&[(1, Some(Bytes::from(vec![b'v'; 200])))]);
    let messages = drain(&stream);
    let shape = |id: i64| {
        let own = messages.iter().filter(|message| message.watch_id == id);
        own.map(|message| (message.events.len(), message.fragment))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        shape(0),
        [
            (1, true),
            (1, true),
            (1, true),
            (1, true),
            (1, false),
            (1, false)
        ]
    );
    assert_eq!(shape(1), [(5, false), (1, false)]);
}

#[test]
fn a_stream_that_is_never_read_queues_a_bounded_amount_and_loses_nothing() {
    let member = member();
    let (slow, fast) = (member.hub.open(), member.hub.open());
    create(&slow, all());
    create(&fast, all());
    let value = Bytes::from(vec![b'v'; 100_000]);
    let mut seen = drain(&fast);
    for _ in 0..100 {
        member.put(&[(1, Some(value.clone()))]);
        seen.extend(drain(&fast));
        assert!(member.hub.counts().queued_bytes < 2 << 20);
    }
    assert_eq!(revisions(&seen), (2..102).collect::<Vec<_>>());
    assert!(!slow.is_roomy() && fast.is_roomy());
    assert_eq!(revisions(&drain(&slow)), (2..102).collect::<Vec<_>>());
    assert_eq!(member.hub.counts().behind, 0);
}

#[test]
fn compaction_cancels_a_watcher_that_it_overtakes() {
    let member = Member::new(Limits {
        outbox_floor_bytes: 1,
        outbox_bytes: 1,
        ..Limits::new(0)
    });
    let stream = member.hub.open();
    create(&stream, all());
    for _ in 0..5 {
        member.put(&[put(1, "a")]);
    }
    member.model.compact(6);
    let messages = drain(&stream);
    let last = messages.last().expect("an answer");
    assert_eq!(
        (last.canceled, last.compact_revision, revision(last)),
        (true, 6, 0)
    );
    member.put(&[put(1, "a")]);
    assert!(drain(&stream).is_empty());
    assert_eq!(member.hub.counts().watchers, 0);
}

#[test]
fn ten_thousand_watchers_of_a_stream_that_was_away_share_their_reads() {
    let member = Member::new(Limits {
        outbox_bytes: 4096,
        ..Limits::new(0)
    });
    let stream = member.hub.open();
    for _ in 0..10_000 {
        create(&stream, all());
    }
    for _ in 0..10 {
        member.put(&[put(1, "a")]);
    }
    let messages = drain(&stream);
    assert_eq!(revisions(&messages).len(), 100_000);
    assert!(
        member.model.reads() < 2_000,
        "{} reads",
        member.model.reads()
    );
}

#[test]
fn streams_opened_and_dropped_leave_nothing() {
    let member = member();
    for round in 0..10_000 {
        let stream = member.hub.open();
        create(
            &stream,
            Create {
                key: &[round as u8],
                ..Create::default()
            },
        );
        create(
            &stream,
            Create {
                start_revision: 1,
                ..all()
            },
        );
        if round % 100 == 0 {
            member.put(&[put(1, "a")]);
        }
    }
    assert_eq!(member.hub.counts(), Counts::default());
}

#[test]
fn a_watcher_far_behind_and_one_just_behind_take_turns() {
    let member = Member::new(Limits {
        outbox_floor_bytes: 1,
        outbox_bytes: 1,
        ..Limits::new(0)
    });
    let stream = member.hub.open();
    for _ in 0..10_000 {
        member.put(&[put(1, "a")]);
    }
    create(
        &stream,
        Create {
            start_revision: 2,
            ..all()
        },
    );
    create(&stream, all());
    member.put(&[put(2, "b")]);
    let mut answers = 0;
    while !poll(&stream)
        .iter()
        .any(|message| message.watch_id == 1 && !message.created)
    {
        answers += 1;
        assert!(answers < 8, "the second waits for the first");
    }
}

#[test]
fn a_request_waits_until_the_hub_is_where_the_history_is() {
    let member = member();
    let stream = member.hub.open();
    let written = member.model.write(&[put(1, "a")]);
    let request = all();
    let mut creating = std::pin::pin!(stream.create(&request));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(creating.as_mut().poll(&mut cx).is_pending());
    member.publish(written);
    member.hub.drain();
    assert!(creating.as_mut().poll(&mut cx).is_ready());
    let messages = drain(&stream);
    assert_eq!(
        (messages.len(), revision(&messages[0])),
        (1, 2),
        "what was written before is not an event"
    );
}

#[test]
fn a_hub_that_nobody_watches_rests_and_whoever_comes_next_misses_nothing() {
    let member = member();
    let publish = |key| member.publish(member.model.write(&[put(key, "a")]));
    member.hub.rest();
    publish(1);
    publish(2);
    let stream = member.hub.open();
    create(&stream, all());
    create(
        &stream,
        Create {
            start_revision: 3,
            ..all()
        },
    );
    member.hub.rest();
    publish(3);
    member.hub.drain();
    let messages = drain(&stream);
    assert_eq!(revision(&messages[0]), 3, "it was created after two puts");
    let of = |id: i64| {
        let messages = messages.iter().filter(|message| message.watch_id == id);
        revisions(&messages.cloned().collect::<Vec<_>>())
    };
    assert_eq!((of(0), of(1)), (vec![4], vec![3, 4]));
}

#[test]
fn a_request_that_waits_for_the_hub_goes_on_when_the_hub_rests() {
    let member = member();
    let stream = member.hub.open();
    let written = member.model.write(&[put(1, "a")]);
    let request = all();
    let mut creating = std::pin::pin!(stream.create(&request));
    let woken = std::sync::Arc::new(Woken::default());
    let waker = woken.clone().into();
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(creating.as_mut().poll(&mut cx).is_pending());
    member.hub.rest();
    member.publish(written);
    assert!(woken.is_woken());
    assert!(creating.as_mut().poll(&mut cx).is_ready());
    assert_eq!(revision(&drain(&stream)[0]), 2);
}

#[tokio::test]
async fn a_wait_ends_with_the_first_revision_of_its_span() {
    let member = member();
    member.put(&[put(1, "a"), put(2, "b")]);
    member.put(&[put(1, "c")]);
    let changes = member.hub.changes();
    let local = tokio::task::LocalSet::new();
    let hub = member.hub.clone();
    local.spawn_local(async move { hub.run().await });
    local
        .run_until(async {
            let past = changes
                .next(Span::prefix(b"\x01"), 1)
                .await
                .expect("history");
            assert_eq!((past.revision, past.rows.len()), (2, 1));
            let next = changes.next(Span::prefix(b"\x01"), 4);
            let published = async {
                tokio::task::yield_now().await;
                member.publish(member.model.write(&[put(2, "d")]));
                member.publish(member.model.write(&[(1, None)]));
            };
            let (next, ()) = tokio::join!(next, published);
            let next = next.expect("live");
            assert_eq!((next.revision, next.rows[0].tombstone), (5, true));
            // A wait that nobody waits for any more leaves nothing behind.
            let never = changes.next(Span::prefix(b"\x09"), 6);
            assert!(
                tokio::time::timeout(std::time::Duration::from_millis(5), never)
                    .await
                    .is_err()
            );
            member.model.compact(4);
            let compacted = changes.next(Span::prefix(b"\x01"), 3).await;
            assert!(matches!(
                compacted,
                Err(WaitError::History(keystead_mvcc::ReadError::Compacted))
            ));
        })
        .await;
    assert_eq!(member.model.revision(), 5);
}
