//! Get, range, put, delete, compare-and-swap, update and compact, with every option.

use keystead_client::{
    Change, Client, Compact, Delete, Expected, KeyRange, KeyValue, Kind, Order, Outcome, Put,
    Range, Sort, SortBy, Swap,
};

use super::{client, on_each};

fn names(kvs: &[KeyValue]) -> Vec<String> {
    let name = |kv: &KeyValue| String::from_utf8_lossy(&kv.key).into_owned();
    kvs.iter().map(name).collect()
}

#[tokio::test]
async fn a_put_is_read_back_with_its_revisions() {
    on_each(async |server| {
        let client = client(server);
        assert_eq!(client.get("k").await, Ok(None));
        let first = client.put("k", "1").await.expect("a put");
        let second = client
            .put_with(Put {
                prev_kv: true,
                ..Put::new("k", "2")
            })
            .await
            .expect("a put");
        assert_eq!(second.header.revision, first.header.revision + 1);
        assert_eq!(second.header.cluster_id, first.header.cluster_id);
        let before = second.prev_kv.expect("it was asked for");
        assert_eq!((&before.value[..], before.version), (&b"1"[..], 1));
        let now = client.get("k").await.expect("a get").expect("it is there");
        assert_eq!((&now.value[..], now.version), (&b"2"[..], 2));
        assert_eq!(now.create_revision, first.header.revision);
        assert_eq!(now.mod_revision, second.header.revision);
    })
    .await;
}

#[tokio::test]
async fn a_put_keeps_the_value_or_the_lease_that_is_there() {
    on_each(async |server| {
        let client = client(server);
        client.put("k", "1").await.expect("a put");
        let keep = Put {
            ignore_value: true,
            ..Put::new("k", "")
        };
        client.put_with(keep.clone()).await.expect("it is there");
        let now = client.get("k").await.expect("a get").expect("it is there");
        assert_eq!((&now.value[..], now.version), (&b"1"[..], 2));
        let keep = Put {
            ignore_lease: true,
            ..Put::new("k", "2")
        };
        client.put_with(keep).await.expect("it is there");
        let now = client.get("k").await.expect("a get").expect("it is there");
        assert_eq!((&now.value[..], now.lease), (&b"2"[..], 0));
    })
    .await;
}

/// Writes `a`, `b`, `c`, `d` with values and versions that sort otherwise, and gives the revision of the first.
async fn four_keys(client: &Client) -> i64 {
    let first = client.put("b", "4").await.expect("a put").header.revision;
    for (key, value) in [("d", "1"), ("a", "3"), ("c", "2"), ("d", "0"), ("d", "1")] {
        client.put(key, value).await.expect("a put");
    }
    client.put("b", "4").await.expect("a put");
    first
}

#[tokio::test]
async fn a_range_takes_every_option() {
    on_each(async |server| {
        let client = client(server);
        let first = four_keys(&client).await;
        let all = || Range::new(KeyRange::all());
        let sorted = |by, order| Range {
            sort: Some(Sort { by, order }),
            ..all()
        };
        let of = |keys| Range::new(keys);
        // b: 1st and 7th write, d: 2nd, 5th and 6th, a: 3rd, c: 4th.
        for (range, expected) in [
            (all(), vec!["a", "b", "c", "d"]),
            (of(KeyRange::key("c")), vec!["c"]),
            (of(KeyRange::key("x")), vec![]),
            (of(KeyRange::prefix("c")), vec!["c"]),
            (of(KeyRange::from_key("c")), vec!["c", "d"]),
            (of(KeyRange::between("a", "c")), vec!["a", "b"]),
            (
                sorted(SortBy::Key, Order::Descending),
                vec!["d", "c", "b", "a"],
            ),
            (
                sorted(SortBy::Value, Order::Ascending),
                vec!["d", "c", "a", "b"],
            ),
            (
                sorted(SortBy::Version, Order::Descending),
                vec!["d", "b", "a", "c"],
            ),
            (
                sorted(SortBy::CreateRevision, Order::Ascending),
                vec!["b", "d", "a", "c"],
            ),
            (
                sorted(SortBy::ModRevision, Order::Descending),
                vec!["b", "d", "c", "a"],
            ),
            (Range { limit: 2, ..all() }, vec!["a", "b"]),
            (
                Range {
                    revision: first + 1,
                    ..all()
                },
                vec!["b", "d"],
            ),
            (
                Range {
                    serializable: true,
                    ..all()
                },
                vec!["a", "b", "c", "d"],
            ),
            (
                Range {
                    min_mod_revision: first + 5,
                    ..all()
                },
                vec!["b", "d"],
            ),
            (
                Range {
                    max_mod_revision: first + 3,
                    ..all()
                },
                vec!["a", "c"],
            ),
            (
                Range {
                    min_create_revision: first + 2,
                    ..all()
                },
                vec!["a", "c"],
            ),
            (
                Range {
                    max_create_revision: first + 1,
                    ..all()
                },
                vec!["b", "d"],
            ),
        ] {
            let answer = client.range(range.clone()).await.expect("a range");
            assert_eq!(names(&answer.kvs), expected, "{range:?}");
            assert_eq!(answer.more, range.limit == 2, "{range:?}");
        }
        let cut = Range { limit: 2, ..all() };
        assert_eq!(client.range(cut).await.expect("a range").count, 4);
        let counted = Range {
            count_only: true,
            ..all()
        };
        let counted = client.range(counted).await.expect("a range");
        assert_eq!((counted.count, counted.kvs.len()), (4, 0));
        let keys = Range {
            keys_only: true,
            ..all()
        };
        let keys = client.range(keys).await.expect("a range");
        assert!(keys.kvs.iter().all(|kv| kv.value.is_empty()));
        assert_eq!(names(&keys.kvs), ["a", "b", "c", "d"]);
    })
    .await;
}

#[tokio::test]
async fn a_delete_says_how_many_and_which() {
    on_each(async |server| {
        let client = client(server);
        four_keys(&client).await;
        assert_eq!(client.delete("x").await.expect("no error").deleted, 0);
        assert_eq!(client.delete("a").await.expect("a delete").deleted, 1);
        let rest = Delete {
            prev_kv: true,
            ..Delete::new(KeyRange::from_key("c"))
        };
        let removed = client.delete_with(rest).await.expect("a delete");
        assert_eq!(removed.deleted, 2);
        assert_eq!(names(&removed.prev_kvs), ["c", "d"]);
        let left = client.range(Range::new(KeyRange::all())).await;
        let left = left.expect("a range");
        assert_eq!(names(&left.kvs), ["b"]);
        assert_eq!(left.header.revision, removed.header.revision);
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_was_not_applied_and_is_told_in_the_servers_words() {
    on_each(async |server| {
        let client = client(server);
        let revision = client.put("k", "v").await.expect("a put").header.revision;
        let missing = |put: Put| Put {
            ignore_value: true,
            ..put
        };
        for (put, kind, text) in [
            (
                Put::new("", "v"),
                Kind::InvalidArgument,
                "etcdserver: key is not provided",
            ),
            (
                Put {
                    lease: 12345,
                    ..Put::new("k", "v")
                },
                Kind::LeaseNotFound,
                "etcdserver: requested lease not found",
            ),
            (
                missing(Put::new("x", "")),
                Kind::InvalidArgument,
                "etcdserver: key not found",
            ),
            (
                missing(Put::new("k", "v")),
                Kind::InvalidArgument,
                "etcdserver: value is provided",
            ),
            (
                Put::new("k", vec![7; 1_600_000]),
                Kind::TooLarge,
                "etcdserver: request is too large",
            ),
        ] {
            let error = client.put_with(put).await.expect_err("it is refused");
            assert_eq!(
                (
                    error.kind,
                    error.message.as_str(),
                    error.outcome,
                    error.retryable
                ),
                (kind, text, Outcome::NotApplied, false)
            );
            assert_eq!(error.endpoint, format!("http://{}", server.address()));
        }
        let future = Range {
            revision: revision + 1,
            ..Range::new(KeyRange::key("k"))
        };
        let error = client.range(future).await.expect_err("it is refused");
        assert_eq!(error.kind, Kind::FutureRevision);
        let now = client.get("k").await.expect("a get").expect("it is there");
        assert_eq!(now.mod_revision, revision);
    })
    .await;
}

#[tokio::test]
async fn compacted_history_is_refused_and_the_rest_is_there() {
    on_each(async |server| {
        let client = client(server);
        let first = client.put("k", "1").await.expect("a put").header.revision;
        client.put("k", "2").await.expect("a put");
        let compact = |revision, physical| client.compact(Compact { revision, physical });
        compact(first + 1, true).await.expect("it is new");
        let error = compact(first + 1, false).await.expect_err("it was done");
        assert_eq!(
            (error.kind, error.outcome),
            (Kind::Compacted, Outcome::NotApplied)
        );
        let error = compact(first + 9, false).await.expect_err("too far");
        assert_eq!(
            (error.kind, error.outcome),
            (Kind::FutureRevision, Outcome::NotApplied)
        );
        let at = |revision| {
            client.range(Range {
                revision,
                ..Range::new(KeyRange::key("k"))
            })
        };
        assert_eq!(
            at(first).await.expect_err("it is gone").kind,
            Kind::Compacted
        );
        assert_eq!(at(first + 1).await.expect("it is kept").kvs[0].value, "2");
    })
    .await;
}

#[tokio::test]
async fn a_swap_is_made_only_over_what_was_expected() {
    on_each(async |server| {
        let client = client(server);
        let swap = |expected, change| {
            client.compare_and_swap(Swap {
                key: "k".into(),
                expected,
                change,
            })
        };
        let put = |value: &'static str| Change::Put(value.into());
        let refused = swap(Expected::Present, put("0")).await.expect("an answer");
        assert_eq!((refused.succeeded, refused.current), (false, None));
        let made = swap(Expected::Missing, put("1")).await.expect("an answer");
        assert!(made.succeeded);
        let refused = swap(Expected::Missing, put("2")).await.expect("an answer");
        let current = refused.current.expect("it is there");
        assert!(!refused.succeeded);
        assert_eq!(
            (&current.value[..], current.mod_revision),
            (&b"1"[..], made.header.revision)
        );
        let at = Expected::ModRevision(current.mod_revision);
        assert!(
            swap(at.clone(), put("2"))
                .await
                .expect("an answer")
                .succeeded
        );
        assert!(!swap(at, put("3")).await.expect("an answer").succeeded);
        let held = Expected::Value("2".into());
        assert!(
            swap(held.clone(), Change::Keep)
                .await
                .expect("an answer")
                .succeeded
        );
        assert!(
            swap(held, Change::Delete)
                .await
                .expect("an answer")
                .succeeded
        );
        assert_eq!(client.get("k").await, Ok(None));
        assert!(
            swap(Expected::ModRevision(0), put("4"))
                .await
                .expect("an answer")
                .succeeded
        );
    })
    .await;
}

#[tokio::test]
async fn updates_from_many_callers_are_all_counted() {
    const CALLERS: usize = 8;
    const UPDATES: usize = 12;
    on_each(async |server| {
        let client = client(server);
        let caller = async |_| {
            for _ in 0..UPDATES {
                let updated = client
                    .update("count", |now| {
                        let count = now.map_or(0, |kv| kv.value.len());
                        Change::Put(vec![b'|'; count + 1].into())
                    })
                    .await;
                assert!(updated.expect("it is made in the end").succeeded);
            }
        };
        futures::future::join_all((0..CALLERS).map(caller)).await;
        let count = client
            .get("count")
            .await
            .expect("a get")
            .expect("it is there");
        assert_eq!(count.value.len(), CALLERS * UPDATES);
        assert_eq!(count.version as usize, CALLERS * UPDATES);
    })
    .await;
}
