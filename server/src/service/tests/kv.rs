//! Ranges, puts, deletes, transactions and compactions.

use keystead_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use tokio::task::JoinSet;

use super::{Running, do_put, everything, get, header, put, put_op};
use crate::testing::framed;

#[tokio::test]
async fn a_put_is_read_back_with_etcds_ids_and_revisions() {
    let member = Running::start();
    let client = member.client().await;
    assert_eq!(
        do_put(&client, "k", "v").await,
        PutResponse {
            header: header(2),
            prev_kv: None
        }
    );
    for serializable in [false, true] {
        let asked = RangeRequest {
            serializable,
            ..get("k")
        };
        let read: RangeResponse = client
            .unary("/etcdserverpb.KV/Range", &asked)
            .await
            .expect("it is read");
        assert_eq!(read.header, header(2));
        assert_eq!(
            (read.count, read.more, &*read.kvs[0].value),
            (1, false, &b"v"[..])
        );
    }
    let delete = DeleteRangeRequest {
        key: "k".into(),
        prev_kv: true,
        ..DeleteRangeRequest::default()
    };
    let deleted: DeleteRangeResponse = client
        .unary("/etcdserverpb.KV/DeleteRange", &delete)
        .await
        .expect("deleted");
    assert_eq!(
        (deleted.header, deleted.deleted, deleted.prev_kvs.len()),
        (header(3), 1, 1)
    );
}

#[tokio::test]
async fn bad_requests_get_etcds_code_and_text() {
    let member = Running::start();
    let client = member.client().await;
    do_put(&client, "k", "v").await;
    let many = TxnRequest {
        success: (0..129).map(|n| put_op(n.to_string())).collect(),
        ..TxnRequest::default()
    };
    let twice = TxnRequest {
        success: vec![put_op("a".into()), put_op("a".into())],
        ..TxnRequest::default()
    };
    let ranges = [
        (get(""), 3, "etcdserver: key is not provided"),
        (
            RangeRequest {
                revision: 9,
                ..get("k")
            },
            11,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (
            RangeRequest {
                sort_order: 7,
                ..get("k")
            },
            3,
            "etcdserver: invalid sort option",
        ),
    ];
    for (request, code, text) in ranges {
        let refused = client
            .unary::<RangeResponse>("/etcdserverpb.KV/Range", &request)
            .await;
        assert_eq!(refused, Err((code, text.to_owned())));
    }
    let puts = [
        (put("", "v"), 3, "etcdserver: key is not provided"),
        (
            PutRequest {
                lease: 5,
                ..put("k", "v")
            },
            5,
            "etcdserver: requested lease not found",
        ),
        (
            PutRequest {
                ignore_value: true,
                ..put("k", "v")
            },
            3,
            "etcdserver: value is provided",
        ),
        (
            PutRequest {
                ignore_value: true,
                ..put("none", "")
            },
            3,
            "etcdserver: key not found",
        ),
        (
            put("k", &"v".repeat(1_572_864)),
            3,
            "etcdserver: request is too large",
        ),
        (
            put("k", &"v".repeat(2 << 20)),
            8,
            "grpc: received message larger than max (2097160 vs. 2097152)",
        ),
    ];
    for (request, code, text) in puts {
        let refused = client
            .unary::<PutResponse>("/etcdserverpb.KV/Put", &request)
            .await;
        assert_eq!(refused, Err((code, text.to_owned())));
    }
    for (request, text) in [
        (many, "etcdserver: too many operations in txn request"),
        (twice, "etcdserver: duplicate key given in txn request"),
    ] {
        let refused = client
            .unary::<TxnResponse>("/etcdserverpb.KV/Txn", &request)
            .await;
        assert_eq!(refused, Err((3, text.to_owned())));
    }
    let compact = CompactionRequest {
        revision: 99,
        physical: false,
    };
    let refused = client
        .unary::<CompactionResponse>("/etcdserverpb.KV/Compact", &compact)
        .await;
    assert_eq!(
        refused,
        Err((
            11,
            "etcdserver: mvcc: required revision is a future revision".to_owned()
        ))
    );
    let (_, code, _) = client
        .call("/etcdserverpb.KV/Put", framed(&[0xff, 0xff]))
        .await;
    assert_eq!(code, 13, "what is not a message is refused");
    assert_eq!(
        do_put(&client, "k", "still serves").await.header,
        header(3),
        "no refusal used a revision"
    );
}

#[tokio::test]
async fn a_transaction_nested_too_deep_is_refused_and_harms_nobody() {
    let member = Running::start();
    let client = member.client().await;
    for depth in [129, 200, 300, 5_000] {
        let (_, code, text) = client
            .call("/etcdserverpb.KV/Txn", framed(&nested_txns(depth)))
            .await;
        assert_eq!(
            (code, text.as_str()),
            (3, "etcdserver: too many operations in txn request")
        );
    }
    do_put(&client, "k", "v").await;
}

/// A transaction whose only operation is a transaction, and so on; put together from the inside, for prost's own
/// encoder would need as much stack as it is deep.
fn nested_txns(depth: usize) -> Vec<u8> {
    let field = |tag: u8, bytes: Vec<u8>| {
        let mut whole = vec![tag];
        prost::encoding::encode_varint(bytes.len() as u64, &mut whole);
        whole.extend(bytes);
        whole
    };
    const SUCCESS: u8 = 0x12;
    const REQUEST_TXN: u8 = 0x22;
    (0..depth).fold(Vec::new(), |inner, _| {
        field(SUCCESS, field(REQUEST_TXN, inner))
    })
}

#[tokio::test]
async fn many_puts_at_once_each_have_a_revision_of_their_own() {
    let member = Running::start();
    let client = member.client().await;
    let mut puts = JoinSet::new();
    for n in 0..500 {
        let client = client.clone();
        puts.spawn(async move {
            do_put(&client, &format!("k{n}"), "v")
                .await
                .header
                .expect("a header")
                .revision
        });
    }
    let mut revisions = puts.join_all().await;
    revisions.sort_unstable();
    assert_eq!(revisions, (2..502).collect::<Vec<i64>>());
    let count = RangeRequest {
        count_only: true,
        ..everything()
    };
    let read: RangeResponse = client
        .unary("/etcdserverpb.KV/Range", &count)
        .await
        .expect("counted");
    assert_eq!((read.count, read.kvs.len(), read.more), (500, 0, false));
}

#[tokio::test]
async fn a_streamed_range_holds_what_a_range_holds() {
    let member = Running::start();
    let client = member.client().await;
    for batch in 0..30 {
        let success = (0..100)
            .map(|n| put_op(format!("k{batch:02}{n:02}")))
            .collect();
        let txn = TxnRequest {
            success,
            ..TxnRequest::default()
        };
        client
            .unary::<TxnResponse>("/etcdserverpb.KV/Txn", &txn)
            .await
            .expect("taken");
    }
    for limit in [0, 1, 10, 2_999, 3_000, 5_000] {
        let asked = RangeRequest {
            limit,
            ..everything()
        };
        let whole: RangeResponse = client
            .unary("/etcdserverpb.KV/Range", &asked)
            .await
            .expect("read");
        let parts: Vec<RangeStreamResponse> = client
            .streamed("/etcdserverpb.KV/RangeStream", &asked)
            .await
            .expect("streamed");
        let mut parts: Vec<RangeResponse> = parts
            .into_iter()
            .filter_map(|part| part.range_response)
            .collect();
        let last = parts.last().expect("at least one message").clone();
        assert_eq!(
            (last.header, last.more, last.count),
            (whole.header, whole.more, whole.count),
            "limit {limit}"
        );
        assert!(
            parts
                .iter()
                .rev()
                .skip(1)
                .all(|part| (part.header, part.more, part.count) == (None, false, 0))
        );
        let kvs: Vec<_> = parts
            .iter_mut()
            .flat_map(|part| std::mem::take(&mut part.kvs))
            .collect();
        assert_eq!(kvs, whole.kvs, "limit {limit}");
    }
    let sorted = RangeRequest {
        sort_order: 2,
        ..everything()
    };
    let refused = client
        .streamed::<RangeStreamResponse>("/etcdserverpb.KV/RangeStream", &sorted)
        .await;
    assert_eq!(
        refused,
        Err((
            12,
            "RangeStream does not support custom sort orders".to_owned()
        ))
    );
}

#[tokio::test]
async fn compaction_hides_what_is_older_and_physical_waits() {
    let member = Running::start();
    let client = member.client().await;
    for value in ["1", "2", "3"] {
        do_put(&client, "k", value).await;
    }
    let compact = CompactionRequest {
        revision: 3,
        physical: true,
    };
    let done: CompactionResponse = client
        .unary("/etcdserverpb.KV/Compact", &compact)
        .await
        .expect("compacted");
    assert_eq!(done.header, header(4));
    let old = client
        .unary::<RangeResponse>(
            "/etcdserverpb.KV/Range",
            &RangeRequest {
                revision: 2,
                ..get("k")
            },
        )
        .await;
    assert_eq!(
        old,
        Err((
            11,
            "etcdserver: mvcc: required revision has been compacted".to_owned()
        ))
    );
    let at: RangeResponse = client
        .unary(
            "/etcdserverpb.KV/Range",
            &RangeRequest {
                revision: 3,
                ..get("k")
            },
        )
        .await
        .expect("still there");
    assert_eq!(at.kvs[0].value, "2");
}
