//! Watch: history and live events, refusals, cancels, progress, filters.

use std::time::Duration;

use keystead_proto::etcdserverpb::WatchCreateRequest;
use keystead_tests::on_both;

use super::requests::{FROM_KEY, compact, delete, delete_range, op, put, txn, watch};

const QUIET: Duration = Duration::from_millis(400);

#[tokio::test]
async fn live_events_come_one_message_a_revision() {
    on_both(async |s| {
        let mut stream = s.watch();
        stream.create(
            s,
            WatchCreateRequest {
                prev_kv: true,
                ..watch("a", "c", 0)
            },
        );
        stream.next(s).await;
        s.call(put("a", "1")).await.ok();
        stream.next(s).await;
        s.call(put("a", "2")).await.ok();
        stream.next(s).await;
        s.call(put("c", "outside")).await.ok();
        s.call(txn(
            vec![],
            vec![op(put("b", "1")), op(delete("a")), op(put("a2", "x"))],
            vec![],
        ))
        .await
        .ok();
        stream.next(s).await;
        s.call(delete_range("a", "z")).await.ok();
        stream.next(s).await;
        s.call(delete("a")).await.ok();
        stream.silence(s, QUIET).await;
    })
    .await;
}

#[tokio::test]
async fn history_is_replayed_from_any_revision() {
    on_both(async |s| {
        for number in 0..20 {
            s.call(put(&format!("k{}", number % 3), &number.to_string()))
                .await
                .ok();
        }
        s.call(delete("k1")).await.ok();
        for (start, count) in [(1, 21), (2, 21), (10, 13), (22, 1)] {
            let mut stream = s.watch();
            stream.create(
                s,
                WatchCreateRequest {
                    prev_kv: true,
                    ..watch("k", "l", start)
                },
            );
            stream.next(s).await;
            stream.events(s, count).await;
        }
        let mut stream = s.watch();
        stream.create(s, watch("k1", "", 1));
        stream.next(s).await;
        stream.events(s, 8).await;
        stream.silence(s, QUIET).await;
    })
    .await;
}

#[tokio::test]
async fn a_future_start_gets_nothing_earlier_and_no_progress_before_it() {
    on_both(async |s| {
        s.call(put("a", "1")).await.ok();
        let mut stream = s.watch();
        stream.create(s, watch("a", "", 5));
        stream.next(s).await;
        stream.progress(s);
        s.call(put("a", "2")).await.ok();
        s.call(put("a", "3")).await.ok();
        stream.silence(s, QUIET).await;
        s.call(put("a", "4")).await.ok();
        stream.next(s).await;
        s.call(put("a", "5")).await.ok();
        stream.next(s).await;
    })
    .await;
}

#[tokio::test]
async fn refused_watchers_say_why_and_leave_the_stream_open() {
    on_both(async |s| {
        s.call(put("a", "1")).await.ok();
        let mut stream = s.watch();
        let refused = [
            watch("b", "a", 0),
            watch("b", "b", 0),
            watch("a", "", -1),
            watch("a", "", -7),
            WatchCreateRequest {
                watch_id: 3,
                ..watch("a", "", 0)
            },
            WatchCreateRequest {
                watch_id: 3,
                ..watch("b", "", 0)
            },
            WatchCreateRequest {
                watch_id: -5,
                ..watch("b", "", 0)
            },
            watch("c", "", 0),
            watch("d", "", 0),
            watch("e", "", 0),
            watch("f", "", 0),
        ];
        for request in refused {
            stream.create(s, request);
            stream.next(s).await;
        }
        stream.cancel(s, 99);
        stream.silence(s, QUIET).await;
        stream.cancel(s, 3);
        stream.next(s).await;
        stream.cancel(s, 3);
        stream.silence(s, QUIET).await;
        s.call(put("a", "2")).await.ok();
        stream.silence(s, QUIET).await;
        s.call(put("b", "2")).await.ok();
        stream.next(s).await;
    })
    .await;
}

#[tokio::test]
async fn a_compacted_start_is_created_and_then_cancelled() {
    on_both(async |s| {
        for value in ["1", "2", "3", "4"] {
            s.call(put("a", value)).await.ok();
        }
        s.call(compact(4)).await.ok();
        for start in [1, 2, 3] {
            let mut stream = s.watch();
            stream.create(s, watch("a", "", start));
            stream.next(s).await;
            stream.next(s).await;
        }
        let mut stream = s.watch();
        stream.create(
            s,
            WatchCreateRequest {
                prev_kv: true,
                ..watch("a", "", 4)
            },
        );
        stream.next(s).await;
        stream.events(s, 2).await;
    })
    .await;
}

#[tokio::test]
async fn progress_is_told_when_all_is_delivered_and_never_without_watchers() {
    on_both(async |s| {
        let mut stream = s.watch();
        stream.progress(s);
        stream.create(s, watch("a", "", 0));
        stream.next(s).await;
        s.call(put("b", "elsewhere")).await.ok();
        stream.progress(s);
        stream.next(s).await;
        s.call(put("a", "here")).await.ok();
        stream.next(s).await;
        stream.create(s, watch("b", "", 0));
        stream.next(s).await;
        stream.progress(s);
        stream.next(s).await;
    })
    .await;
}

#[tokio::test]
async fn filters_drop_kinds_of_events() {
    on_both(async |s| {
        let mut no_puts = s.watch();
        no_puts.create(
            s,
            WatchCreateRequest {
                filters: vec![0],
                prev_kv: true,
                ..watch("a", "z", 0)
            },
        );
        no_puts.next(s).await;
        let mut no_deletes = s.watch();
        no_deletes.create(
            s,
            WatchCreateRequest {
                filters: vec![1],
                ..watch("a", "z", 0)
            },
        );
        no_deletes.next(s).await;
        let mut nothing = s.watch();
        nothing.create(
            s,
            WatchCreateRequest {
                filters: vec![0, 1],
                ..watch("a", "z", 0)
            },
        );
        nothing.next(s).await;
        s.call(put("a", "1")).await.ok();
        s.call(put("b", "1")).await.ok();
        s.call(delete_range("a", "c")).await.ok();
        no_puts.events(s, 2).await;
        no_deletes.events(s, 2).await;
        nothing.silence(s, QUIET).await;
        let mut history = s.watch();
        history.create(
            s,
            WatchCreateRequest {
                filters: vec![1],
                ..watch("a", "z", 1)
            },
        );
        history.next(s).await;
        history.events(s, 2).await;
    })
    .await;
}

#[tokio::test]
async fn an_empty_key_watches_from_the_first() {
    on_both(async |s| {
        let mut stream = s.watch();
        stream.create(s, watch("", FROM_KEY, 0));
        stream.next(s).await;
        // A stream of its own: which of a stream's watchers is served first is chance in etcd.
        let mut single = s.watch();
        single.create(s, watch("", "", 0));
        single.next(s).await;
        s.call(put("\0", "least")).await.ok();
        stream.next(s).await;
        single.next(s).await;
        s.call(put("z", "last")).await.ok();
        stream.next(s).await;
    })
    .await;
}

#[tokio::test]
async fn large_revisions_are_fragmented_only_when_asked() {
    on_both(async |s| {
        let value = "v".repeat(12 * 1024);
        for round in 0..2 {
            let puts = (0..100)
                .map(|number| op(put(&format!("k{number:03}"), &format!("{round}{value}"))))
                .collect();
            s.call(txn(vec![], puts, vec![])).await.ok();
        }
        let mut whole = s.watch();
        whole.create(s, watch("k", "l", 1));
        whole.next(s).await;
        whole.events(s, 200).await;
        let mut parts = s.watch();
        parts.create(
            s,
            WatchCreateRequest {
                fragment: true,
                prev_kv: true,
                ..watch("k", "l", 1)
            },
        );
        let mut revisions = Vec::new();
        while revisions.len() < 200 {
            let Ok(Some(message)) = parts.message().await else {
                break;
            };
            revisions.extend(
                message
                    .events
                    .iter()
                    .filter_map(|event| event.kv.as_ref())
                    .map(|kv| kv.mod_revision),
            );
        }
        s.note(format!("fragments carried {revisions:?}"));
    })
    .await;
}
