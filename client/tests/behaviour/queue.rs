//! Queues whose items are taken while somebody's patience ends.

use std::time::Duration;

use bytes::Bytes;
use keystead_proto::etcdserverpb::response_op::Response;
use keystead_proto::etcdserverpb::{RangeResponse, ResponseHeader, ResponseOp, TxnResponse};
use keystead_proto::mvccpb::KeyValue;

use crate::fake::framed;
use crate::member::{Call, Member, Reply, say};

fn header() -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision: 9,
        ..Default::default()
    })
}

/// The answer to a look at the queue.
fn items(item: Option<&'static str>) -> Reply {
    let kvs = item.map(|item| KeyValue {
        key: Bytes::from_static(b"jobs/1"),
        value: Bytes::from_static(item.as_bytes()),
        create_revision: 7,
        mod_revision: 7,
        ..Default::default()
    });
    say(&RangeResponse {
        header: header(),
        kvs: kvs.into_iter().collect(),
        ..Default::default()
    })
}

/// The item was there, and is not any more.
fn taken() -> TxnResponse {
    let deleted = ResponseOp {
        response: Some(Response::ResponseDeleteRange(Default::default())),
    };
    TxnResponse {
        header: header(),
        succeeded: true,
        responses: vec![deleted],
    }
}

#[tokio::test]
async fn an_item_that_is_being_taken_when_the_time_is_over_is_not_lost() {
    let late = Duration::from_millis(300);
    let member = Member::start(move |call: &Call| match &call.method[..] {
        "Range" => items(Some("job")),
        "Txn" => Reply::Late(late, framed(&taken())),
        _ => Reply::Silence,
    })
    .await;
    let queue = member.client().queue("jobs");
    for limit in [late / 3, Duration::ZERO] {
        let item = queue.dequeue_within(limit).await.expect("it is answered");
        assert_eq!(item.as_deref(), Some(&b"job"[..]));
    }
}

#[tokio::test]
async fn who_does_not_wait_looks_once() {
    let member = Member::start(|call: &Call| match &call.method[..] {
        "Range" => items(None),
        _ => Reply::Silence,
    })
    .await;
    let queue = member.client().queue("jobs");
    let none = queue.dequeue_within(Duration::ZERO).await;
    assert_eq!(none.expect("it is answered"), None);
    assert_eq!(member.calls("Range").len(), 1);
    let none = queue.dequeue_within(Duration::from_millis(50)).await;
    assert_eq!(none.expect("it is no error"), None);
}
