//! KV.Put and KV.DeleteRange.

use keystead_proto::etcdserverpb::{DeleteRangeRequest, PutRequest};
use keystead_tests::on_both;

use super::requests::{FROM_KEY, compact, delete, delete_range, everything, get, grant, put};

#[tokio::test]
async fn a_put_counts_versions_and_gives_the_pair_before() {
    on_both(async |s| {
        s.call(put("k", "one")).await.ok();
        s.call(PutRequest {
            prev_kv: true,
            ..put("k", "two")
        })
        .await
        .ok();
        s.call(PutRequest {
            prev_kv: true,
            ..put("new", "")
        })
        .await
        .ok();
        s.call(delete("k")).await.ok();
        s.call(PutRequest {
            prev_kv: true,
            ..put("k", "three")
        })
        .await
        .ok();
        s.call(put("", "no key")).await.ok();
        s.call(everything()).await.ok();
    })
    .await;
}

#[tokio::test]
async fn ignored_values_and_leases_are_kept_and_need_the_key() {
    on_both(async |s| {
        s.call(grant(7, 100)).await.ok();
        s.call(PutRequest {
            lease: 7,
            ..put("k", "value")
        })
        .await
        .ok();
        s.call(PutRequest {
            ignore_value: true,
            ..put("k", "")
        })
        .await
        .ok();
        s.call(get("k")).await.ok();
        s.call(PutRequest {
            lease: 7,
            ..put("k", "again")
        })
        .await
        .ok();
        s.call(PutRequest {
            ignore_lease: true,
            ..put("k", "other")
        })
        .await
        .ok();
        s.call(get("k")).await.ok();
        s.call(PutRequest {
            ignore_lease: true,
            ignore_value: true,
            prev_kv: true,
            ..put("k", "")
        })
        .await
        .ok();
        s.call(PutRequest {
            ignore_value: true,
            ..put("k", "with a value")
        })
        .await
        .ok();
        s.call(PutRequest {
            ignore_lease: true,
            lease: 7,
            ..put("k", "v")
        })
        .await
        .ok();
        s.call(PutRequest {
            ignore_value: true,
            ..put("missing", "")
        })
        .await
        .ok();
        s.call(PutRequest {
            ignore_lease: true,
            ..put("missing", "v")
        })
        .await
        .ok();
        s.call(PutRequest {
            lease: 8,
            ..put("k", "no such lease")
        })
        .await
        .ok();
        s.call(PutRequest {
            lease: -1,
            ..put("k", "no such lease")
        })
        .await
        .ok();
        s.call(get("k")).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_delete_counts_what_it_took_and_takes_no_revision_for_nothing() {
    on_both(async |s| {
        for key in ["a", "b", "c", "d", "e"] {
            s.call(put(key, key)).await.ok();
        }
        s.call(delete("nothing")).await.ok();
        s.call(DeleteRangeRequest {
            prev_kv: true,
            ..delete("a")
        })
        .await
        .ok();
        s.call(delete_range("d", "b")).await.ok();
        s.call(DeleteRangeRequest {
            prev_kv: true,
            ..delete_range("b", "d")
        })
        .await
        .ok();
        s.call(delete("")).await.ok();
        s.call(delete_range("d", FROM_KEY)).await.ok();
        s.call(delete_range("\0", FROM_KEY)).await.ok();
        s.call(everything()).await.ok();
    })
    .await;
}

#[tokio::test]
async fn keys_of_any_bytes_and_length_sort_as_bytes() {
    on_both(async |s| {
        let long = "x".repeat(5000);
        for key in ["\0", "\0\0", "a", "a\0", "aa", "\u{ff}", long.as_str()] {
            s.call(put(key, "v")).await.ok();
        }
        let raw = PutRequest {
            key: vec![0xff, 0xff].into(),
            value: vec![0, 159, 146, 150].into(),
            ..Default::default()
        };
        s.call(raw).await.ok();
        s.call(everything()).await.ok();
        s.call(get(&long)).await.ok();
        s.call(compact(5)).await.ok();
        s.call(everything()).await.ok();
    })
    .await;
}
