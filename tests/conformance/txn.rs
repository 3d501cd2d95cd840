//! KV.Txn: compares, branches, nesting, and what is refused before anything is written.

use keystead_proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use keystead_proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp};
use keystead_tests::{Session, on_both};

use super::requests::{
    compact, compare, delete, delete_range, everything, get, grant, op, put, range, txn,
};

const RESULTS: [CompareResult; 4] = [
    CompareResult::Equal,
    CompareResult::Greater,
    CompareResult::Less,
    CompareResult::NotEqual,
];

/// Asks by a txn that writes nothing whether a compare holds.
async fn holds(s: &mut Session, compare: Compare) {
    s.call(txn(vec![compare], vec![op(get("a"))], vec![]))
        .await
        .ok();
}

#[tokio::test]
async fn every_target_and_result_on_present_and_missing_keys() {
    on_both(async |s| {
        s.call(grant(9, 1000)).await.ok();
        s.call(PutRequest {
            lease: 9,
            ..put("a", "mm")
        })
        .await
        .ok();
        s.call(put("a2", "mm")).await.ok();
        for key in ["a", "missing"] {
            for result in RESULTS {
                for number in [-1, 0, 1, 2, 3, 9, 100] {
                    holds(s, compare(key, result, TargetUnion::Version(number))).await;
                    holds(s, compare(key, result, TargetUnion::CreateRevision(number))).await;
                    holds(s, compare(key, result, TargetUnion::ModRevision(number))).await;
                    holds(s, compare(key, result, TargetUnion::Lease(number))).await;
                }
                for value in ["", "mm", "m", "mmm", "z"] {
                    holds(s, compare(key, result, TargetUnion::Value(value.into()))).await;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_compare_over_a_range_needs_every_key_to_hold() {
    on_both(async |s| {
        for (key, value) in [("a", "1"), ("b", "2"), ("c", "2"), ("a", "3")] {
            s.call(put(key, value)).await.ok();
        }
        for (key, end) in [("a", "d"), ("b", "d"), ("x", "z"), ("b", "\0"), ("c", "a")] {
            for result in RESULTS {
                for target in [
                    TargetUnion::Value("2".into()),
                    TargetUnion::Version(1),
                    TargetUnion::Version(0),
                ] {
                    let compare = Compare {
                        range_end: end.into(),
                        ..compare(key, result, target)
                    };
                    holds(s, compare).await;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn odd_compares_behave_as_in_etcd() {
    on_both(async |s| {
        s.call(put("a", "v")).await.ok();
        let sound = compare("a", CompareResult::Equal, TargetUnion::Version(1));
        holds(
            s,
            Compare {
                target_union: None,
                ..sound.clone()
            },
        )
        .await;
        holds(
            s,
            Compare {
                result: 17,
                ..sound.clone()
            },
        )
        .await;
        holds(
            s,
            Compare {
                target: 17,
                ..sound.clone()
            },
        )
        .await;
        holds(
            s,
            Compare {
                target: 3,
                ..sound.clone()
            },
        )
        .await;
        holds(
            s,
            Compare {
                key: "".into(),
                ..sound
            },
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn operations_see_what_the_txn_wrote_before_them() {
    on_both(async |s| {
        s.call(put("a", "old")).await.ok();
        let operations = vec![
            op(get("a")),
            op(PutRequest {
                prev_kv: true,
                ..put("a", "new")
            }),
            op(get("a")),
            op(put("b", "1")),
            op(range("a", "z")),
            op(delete_range("c", "z")),
            op(RangeRequest {
                count_only: true,
                ..everything()
            }),
        ];
        s.call(txn(vec![], operations, vec![])).await.ok();
        s.call(txn(
            vec![],
            vec![op(delete("a")), op(delete("a")), op(get("a"))],
            vec![],
        ))
        .await
        .ok();
        s.call(txn(vec![], vec![op(delete("never"))], vec![]))
            .await
            .ok();
        s.call(txn(vec![], vec![], vec![])).await.ok();
        s.call(everything()).await.ok();
    })
    .await;
}

#[tokio::test]
async fn nested_txns_choose_their_path_before_anything_is_written() {
    on_both(async |s| {
        s.call(put("a", "0")).await.ok();
        let exists = |key| compare(key, CompareResult::Greater, TargetUnion::Version(0));
        let inner = txn(
            vec![exists("b")],
            vec![op(put("c", "b was there"))],
            vec![op(put("c", "b was not there"))],
        );
        let middle = txn(
            vec![exists("a")],
            vec![op(inner), op(range("a", "z"))],
            vec![op(delete("a"))],
        );
        s.call(txn(
            vec![],
            vec![op(put("b", "1")), op(middle), op(get("c"))],
            vec![],
        ))
        .await
        .ok();
        let reads = txn(vec![], vec![op(get("a"))], vec![]);
        s.call(txn(
            vec![exists("none")],
            vec![],
            vec![op(reads.clone()), op(txn(vec![], vec![op(reads)], vec![]))],
        ))
        .await
        .ok();
        s.call(everything()).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_key_written_twice_is_refused_wherever_it_is_nested() {
    on_both(async |s| {
        let nest = |operation: RequestOp| op(txn(vec![], vec![operation], vec![]));
        let cases = [
            vec![op(put("k", "1")), op(put("k", "2"))],
            vec![op(put("k", "1")), op(delete("k"))],
            vec![op(delete_range("a", "z")), op(put("k", "1"))],
            vec![op(delete("k")), op(delete_range("a", "z"))],
            vec![op(put("k", "1")), nest(op(put("k", "2")))],
            vec![nest(op(put("k", "1"))), nest(op(put("k", "2")))],
            vec![nest(op(put("k", "1"))), nest(op(delete("k")))],
            vec![op(delete_range("a", "z")), nest(op(put("k", "2")))],
            vec![op(delete_range("\0", "\0")), op(put("k", "1"))],
            vec![op(put("k", "1")), nest(op(delete_range("k", "\0")))],
        ];
        for operations in cases {
            s.call(txn(vec![], operations.clone(), vec![])).await.ok();
            s.call(txn(vec![], vec![], operations)).await.ok();
        }
        s.call(txn(
            vec![],
            vec![op(put("k", "1"))],
            vec![op(put("k", "2"))],
        ))
        .await
        .ok();
        let either = txn(vec![], vec![op(put("x", "1"))], vec![op(put("x", "2"))]);
        s.call(txn(vec![], vec![op(either)], vec![])).await.ok();
        s.call(everything()).await.ok();
    })
    .await;
}

#[tokio::test]
async fn sizes_up_to_the_limit_pass_and_one_more_is_refused() {
    fn puts(count: usize, prefix: &str) -> Vec<RequestOp> {
        (0..count)
            .map(|number| op(put(&format!("{prefix}{number}"), "v")))
            .collect()
    }
    on_both(async |s| {
        let compares =
            |count| vec![compare("k", CompareResult::Equal, TargetUnion::Version(0)); count];
        s.call(txn(vec![], puts(128, "a"), vec![])).await.ok();
        s.call(txn(vec![], puts(129, "a"), vec![])).await.ok();
        s.call(txn(vec![], vec![], puts(129, "a"))).await.ok();
        s.call(txn(compares(128), vec![], vec![])).await.ok();
        s.call(txn(compares(129), vec![], vec![])).await.ok();
        for (outer, inner) in [(63, 64), (63, 65), (127, 1), (126, 1), (0, 127), (0, 128)] {
            let mut operations = puts(outer, "outer");
            operations.push(op(txn(vec![], puts(inner, "inner"), vec![])));
            s.call(txn(vec![], operations, vec![])).await.ok();
        }
    })
    .await;
}

#[tokio::test]
async fn one_bad_operation_leaves_no_trace_of_the_others() {
    on_both(async |s| {
        for value in ["1", "2", "3", "4"] {
            s.call(put("a", value)).await.ok();
        }
        s.call(compact(3)).await.ok();
        let at = |revision| {
            op(RangeRequest {
                revision,
                ..get("a")
            })
        };
        let bad = [
            op(PutRequest {
                lease: 404,
                ..put("b", "v")
            }),
            op(PutRequest {
                ignore_value: true,
                ..put("b", "")
            }),
            op(PutRequest {
                ignore_lease: true,
                ..put("b", "v")
            }),
            op(PutRequest {
                ignore_value: true,
                ..put("a2", "value")
            }),
            at(-1),
            at(2),
            at(3),
            at(5),
            at(6),
            at(100),
            op(put("", "v")),
            op(get("")),
            op(delete("")),
            RequestOp { request: None },
        ];
        for operation in bad {
            s.call(txn(
                vec![],
                vec![op(put("trace", "v")), operation.clone()],
                vec![],
            ))
            .await
            .ok();
            s.call(txn(vec![], vec![op(get("a")), operation.clone()], vec![]))
                .await
                .ok();
            let not_taken = txn(vec![], vec![op(get("a"))], vec![operation]);
            s.call(txn(vec![], vec![op(not_taken)], vec![])).await.ok();
            s.call(get("trace")).await.ok();
        }
    })
    .await;
}

#[tokio::test]
async fn keys_made_in_a_txn_can_be_read_and_kept_by_ignore_flags_only_when_they_existed() {
    on_both(async |s| {
        let keep = PutRequest {
            ignore_value: true,
            ..put("k", "")
        };
        s.call(txn(
            vec![],
            vec![op(put("other", "1")), op(keep.clone())],
            vec![],
        ))
        .await
        .ok();
        s.call(put("k", "v")).await.ok();
        s.call(txn(vec![], vec![op(keep.clone())], vec![]))
            .await
            .ok();
        s.call(txn(vec![], vec![op(delete("x")), op(keep)], vec![]))
            .await
            .ok();
        s.call(everything()).await.ok();
    })
    .await;
}
