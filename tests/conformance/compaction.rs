//! KV.Compact: what it refuses, and what is readable at, below and above the compacted revision.

use keystead_proto::etcdserverpb::{CompactionRequest, HashKvRequest, RangeRequest};
use keystead_tests::on_both;

use super::requests::{compact, delete, everything, get, op, put, txn, watch};

#[tokio::test]
async fn a_fresh_store_takes_compaction_at_zero_once() {
    on_both(async |s| {
        for revision in [2, 0, 0, 1, 1, -1] {
            s.call(compact(revision)).await.ok();
        }
        s.call(put("a", "1")).await.ok();
        s.call(everything()).await.ok();
    })
    .await;
}

#[tokio::test]
async fn revisions_below_are_gone_and_the_compacted_one_is_not() {
    on_both(async |s| {
        for value in ["1", "2", "3"] {
            s.call(put("a", value)).await.ok();
            s.call(put("b", value)).await.ok();
        }
        s.call(delete("b")).await.ok();
        for revision in [9, 6, 6, 5, 8, 7, 8, 0, -3] {
            s.call(CompactionRequest {
                revision,
                physical: revision % 2 == 0,
            })
            .await
            .ok();
            for at in [5, 6, 7, 8] {
                s.call(RangeRequest {
                    revision: at,
                    ..everything()
                })
                .await
                .ok();
                s.call(txn(
                    vec![],
                    vec![op(RangeRequest {
                        revision: at,
                        ..get("a")
                    })],
                    vec![],
                ))
                .await
                .ok();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn hashes_agree_around_a_compaction_on_a_tombstone() {
    on_both(async |s| {
        for value in ["1", "2", "3"] {
            s.call(put("a", value)).await.ok();
        }
        s.call(delete("a")).await.ok();
        s.call(put("b", "after")).await.ok();
        s.call(put("a", "back")).await.ok();
        for at in [0, 1, 2, 5, 7, 8] {
            s.call(HashKvRequest { revision: at }).await.ok();
        }
        for compacted in [3, 5, 6] {
            s.call(CompactionRequest {
                revision: compacted,
                physical: true,
            })
            .await
            .ok();
            for at in 0..=8 {
                s.call(HashKvRequest { revision: at }).await.ok();
            }
            let mut stream = s.watch();
            stream.create(s, watch("a", "", compacted));
            stream.next(s).await;
            stream
                .events(
                    s,
                    if compacted <= 5 {
                        2 + usize::from(compacted == 3)
                    } else {
                        1
                    },
                )
                .await;
        }
    })
    .await;
}
