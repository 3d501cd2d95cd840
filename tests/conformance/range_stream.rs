//! KV.RangeStream. etcd has it from 3.7 on and the oracle is 3.6, so it is held against Range on the same member.

use keystead_proto::etcdserverpb::RangeRequest;
use keystead_proto::etcdserverpb::kv_client::KvClient;
use keystead_proto::mvccpb::KeyValue;
use keystead_tests::{Server, Session, Unary};
use tonic::Code;

use super::requests::{compact, delete, everything, get, put, range};

/// All parts joined: the pairs, and the header revision, count and more of the last part.
async fn stream(
    s: &Session,
    request: RangeRequest,
) -> Result<(Vec<KeyValue>, i64, i64, bool), tonic::Status> {
    let mut parts = KvClient::new(s.channel())
        .range_stream(request)
        .await?
        .into_inner();
    let mut pairs = Vec::new();
    let mut ended = None;
    while let Some(part) = parts.message().await? {
        assert!(ended.is_none(), "nothing follows the part with the header");
        let part = part
            .range_response
            .expect("each part holds a range response");
        pairs.extend(part.kvs);
        match part.header {
            Some(header) => ended = Some((header.revision, part.count, part.more)),
            None => assert!(
                part.count == 0 && !part.more,
                "only the last part has count and more"
            ),
        }
    }
    let (revision, count, more) = ended.expect("the last part has a header");
    Ok((pairs, revision, count, more))
}

#[tokio::test]
async fn the_parts_of_a_stream_are_the_range() {
    let mut s = Session::new(Server::keystead().await);
    let large = "v".repeat(300_000);
    for number in 0..60 {
        s.call(put(
            &format!("k{number:02}"),
            if number % 7 == 0 { &large } else { "small" },
        ))
        .await
        .expect("a put");
    }
    s.call(delete("k30")).await.expect("a delete");
    let requests = [
        everything(),
        range("k1", "k3"),
        get("k05"),
        get("missing"),
        RangeRequest {
            limit: 25,
            ..everything()
        },
        RangeRequest {
            limit: 59,
            ..everything()
        },
        RangeRequest {
            revision: 40,
            ..everything()
        },
        RangeRequest {
            keys_only: true,
            ..everything()
        },
        RangeRequest {
            count_only: true,
            ..everything()
        },
        RangeRequest {
            serializable: true,
            limit: 3,
            ..range("k4", "k5")
        },
    ];
    for request in requests {
        let whole = s.call(request.clone()).await.expect("a range");
        let (pairs, revision, count, more) = stream(&s, request.clone()).await.expect("a stream");
        assert_eq!(pairs, whole.kvs, "{request:?}");
        assert_eq!((count, more), (whole.count, whole.more), "{request:?}");
        assert_eq!(
            revision,
            whole.header.expect("a header").revision,
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn what_a_stream_cannot_do_is_refused_as_etcd_3_7_does() {
    let mut s = Session::new(Server::keystead().await);
    for value in ["1", "2", "3"] {
        s.call(put("k", value)).await.expect("a put");
    }
    s.call(compact(3)).await.expect("a compaction");
    let sorts = "RangeStream does not support custom sort orders";
    let filters = "RangeStream does not support revision filters";
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let future = "etcdserver: mvcc: required revision is a future revision";
    let cases = [
        (
            RangeRequest {
                sort_order: 2,
                ..everything()
            },
            Code::Unimplemented,
            sorts,
        ),
        (
            RangeRequest {
                sort_target: 3,
                ..everything()
            },
            Code::Unimplemented,
            sorts,
        ),
        (
            RangeRequest {
                min_mod_revision: 1,
                ..everything()
            },
            Code::Unimplemented,
            filters,
        ),
        (
            RangeRequest {
                max_create_revision: 9,
                ..everything()
            },
            Code::Unimplemented,
            filters,
        ),
        (
            RangeRequest {
                revision: 2,
                ..everything()
            },
            Code::OutOfRange,
            compacted,
        ),
        (
            RangeRequest {
                revision: 9,
                ..everything()
            },
            Code::OutOfRange,
            future,
        ),
        (
            get(""),
            Code::InvalidArgument,
            "etcdserver: key is not provided",
        ),
    ];
    for (request, code, text) in cases {
        let refusal = stream(&s, request.clone())
            .await
            .expect_err("it is refused");
        assert_eq!(
            (refusal.code(), refusal.message()),
            (code, text),
            "{request:?}"
        );
    }
    assert!(
        everything().send(s.channel()).await.is_ok(),
        "the member goes on"
    );
}
