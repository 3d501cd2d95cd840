//! KV.Range: every option, at the newest revision and at old ones.

use keystead_proto::etcdserverpb::RangeRequest;
use keystead_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keystead_tests::{Session, on_both};

use super::requests::{FROM_KEY, compact, delete, everything, get, put, range};

/// Eight keys with different versions, revisions and value orders; one deleted and made again.
async fn fill(s: &mut Session) {
    for (key, value) in [
        ("a", "9"),
        ("b", "7"),
        ("c", "8"),
        ("d", "1"),
        ("e", "2"),
        ("c", "0"),
        ("f", "5"),
        ("a", "3"),
    ] {
        s.call(put(key, value)).await.ok();
    }
    s.call(delete("d")).await.ok();
    s.call(put("d", "6")).await.ok();
    s.call(put("g\0", "4")).await.ok();
}

#[tokio::test]
async fn ranges_and_points_find_what_lies_in_them() {
    on_both(async |s| {
        fill(s).await;
        let cases = [
            get("a"),
            get("nothing"),
            range("a", "c"),
            range("b", FROM_KEY),
            everything(),
            range("\0", "c"),
            range("c", "c"),
            range("c", "b"),
            range("g", "h"),
            range("g\0", "g\0\0"),
            range("\u{7f}", FROM_KEY),
            get(""),
            range("", "z"),
            range("", FROM_KEY),
        ];
        for case in cases {
            s.call(case).await.ok();
        }
    })
    .await;
}

#[tokio::test]
async fn limits_counts_and_stripped_values_keep_the_count_exact() {
    on_both(async |s| {
        fill(s).await;
        for limit in [-1, 0, 1, 3, 6, 7, 8, i64::MAX] {
            s.call(RangeRequest {
                limit,
                ..everything()
            })
            .await
            .ok();
            s.call(RangeRequest {
                limit,
                keys_only: true,
                ..range("b", "e")
            })
            .await
            .ok();
            s.call(RangeRequest {
                limit,
                count_only: true,
                ..everything()
            })
            .await
            .ok();
        }
        s.call(RangeRequest {
            keys_only: true,
            count_only: true,
            ..everything()
        })
        .await
        .ok();
        s.call(RangeRequest {
            count_only: true,
            ..get("nothing")
        })
        .await
        .ok();
        s.call(RangeRequest {
            serializable: true,
            ..everything()
        })
        .await
        .ok();
    })
    .await;
}

#[tokio::test]
async fn old_revisions_answer_as_they_were_until_compacted() {
    on_both(async |s| {
        fill(s).await;
        for revision in [-5, 0, 1, 2, 6, 9, 10, 11, 12, 13, i64::MAX] {
            s.call(RangeRequest {
                revision,
                ..everything()
            })
            .await
            .ok();
            s.call(RangeRequest {
                revision,
                limit: 2,
                ..range("b", FROM_KEY)
            })
            .await
            .ok();
            s.call(RangeRequest {
                revision,
                count_only: true,
                ..everything()
            })
            .await
            .ok();
            s.call(RangeRequest {
                revision,
                ..get("d")
            })
            .await
            .ok();
        }
        s.call(compact(10)).await.ok();
        for revision in [0, 8, 9, 10, 11, 12, 13] {
            s.call(RangeRequest {
                revision,
                ..everything()
            })
            .await
            .ok();
            s.call(RangeRequest {
                revision,
                ..get("d")
            })
            .await
            .ok();
        }
    })
    .await;
}

#[tokio::test]
async fn every_sort_order_of_every_target_with_and_without_limits() {
    on_both(async |s| {
        fill(s).await;
        for order in [SortOrder::None, SortOrder::Ascend, SortOrder::Descend] {
            // Versions tie, and ties have no promised order: VERSION is sorted over keys that differ in it.
            for target in [
                SortTarget::Key,
                SortTarget::Create,
                SortTarget::Mod,
                SortTarget::Value,
            ] {
                for limit in [0, 1, 4] {
                    let sorted = RangeRequest {
                        sort_order: order as i32,
                        sort_target: target as i32,
                        ..everything()
                    };
                    s.call(RangeRequest { limit, ..sorted }).await.ok();
                }
            }
            let by_version = RangeRequest {
                sort_target: SortTarget::Version as i32,
                ..range("a", "c")
            };
            s.call(RangeRequest {
                sort_order: order as i32,
                ..by_version
            })
            .await
            .ok();
        }
    })
    .await;
}

#[tokio::test]
async fn revision_filters_apply_before_the_limit_and_never_to_the_count() {
    on_both(async |s| {
        fill(s).await;
        for bound in [0, 1, 4, 7, 9, 12, 100] {
            let filters = [
                RangeRequest {
                    min_mod_revision: bound,
                    ..everything()
                },
                RangeRequest {
                    max_mod_revision: bound,
                    ..everything()
                },
                RangeRequest {
                    min_create_revision: bound,
                    ..everything()
                },
                RangeRequest {
                    max_create_revision: bound,
                    ..everything()
                },
                RangeRequest {
                    min_mod_revision: 4,
                    max_create_revision: bound,
                    ..everything()
                },
            ];
            for filter in filters {
                s.call(RangeRequest {
                    limit: 2,
                    ..filter.clone()
                })
                .await
                .ok();
                s.call(RangeRequest {
                    count_only: true,
                    ..filter.clone()
                })
                .await
                .ok();
                s.call(RangeRequest {
                    sort_order: SortOrder::Descend as i32,
                    limit: 3,
                    ..filter
                })
                .await
                .ok();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_sort_enums_are_refused() {
    on_both(async |s| {
        fill(s).await;
        for (sort_order, sort_target) in [(3, 0), (0, 5), (-1, 0), (0, -1), (9, 9)] {
            s.call(RangeRequest {
                sort_order,
                sort_target,
                ..everything()
            })
            .await
            .ok();
        }
    })
    .await;
}
