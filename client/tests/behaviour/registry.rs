//! Registrations whose puts are not answered, answered twice, or given up, and what is taken back then.

use std::sync::atomic::{AtomicUsize, Ordering};

use keystead_client::{Endpoint, Kind, Loss, RegistrationState};
use keystead_proto::etcdserverpb::compare::TargetUnion;
use keystead_proto::etcdserverpb::request_op::Request;
use keystead_proto::etcdserverpb::response_op::Response;
use keystead_proto::etcdserverpb::{
    LeaseGrantResponse, LeaseRevokeResponse, PutRequest, PutResponse, ResponseHeader, ResponseOp,
    TxnRequest, TxnResponse,
};
use tokio::time::timeout;

use crate::member::{Member, Reply, say};
use crate::puppet::LIMIT;

const LEASE: i64 = 0x2a;
const KEY: &[u8] = b"services/api/10.0.0.1:80";

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..Default::default()
    })
}

/// Grants a lease that outlives every test, removes what it is asked to, and leaves puts, counted from 0, to the script.
async fn member(put: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Member {
    let puts = AtomicUsize::new(0);
    Member::start(move |call| match call.method.as_str() {
        "LeaseGrant" => say(&LeaseGrantResponse {
            header: header(1),
            id: LEASE,
            ttl: 600,
            error: String::new(),
        }),
        "LeaseRevoke" => say(&LeaseRevokeResponse { header: header(1) }),
        "Put" => put(puts.fetch_add(1, Ordering::Relaxed)),
        "Txn" => say(&TxnResponse {
            header: header(9),
            succeeded: true,
            responses: vec![ResponseOp {
                response: Some(Response::ResponseDeleteRange(Default::default())),
            }],
        }),
        _ => Reply::Silence,
    })
    .await
}

fn done() -> Reply {
    say(&PutResponse {
        header: header(7),
        prev_kv: None,
    })
}

/// Waits for the removal, and gives what it demands of the key.
async fn removal(member: &Member) -> Option<TargetUnion> {
    let calls = member.asked("Txn", 1).await;
    let txn: TxnRequest = calls[0].read();
    let [compare] = &txn.compare[..] else {
        panic!("{txn:?}");
    };
    let [op] = &txn.success[..] else {
        panic!("{txn:?}");
    };
    assert_eq!(compare.key, KEY);
    assert!(matches!(&op.request, Some(Request::RequestDeleteRange(delete)) if delete.key == KEY));
    compare.target_union.clone()
}

fn endpoint() -> Endpoint {
    Endpoint::new("10.0.0.1:80")
}

#[tokio::test]
async fn what_was_put_is_removed_if_nobody_has_put_anything_else_there() {
    let member = member(|_| done()).await;
    let client = member.client();
    let registered = client.register("services/api", endpoint()).await;
    let registration = registered.expect("registered");
    let state = RegistrationState::Registered {
        revision: 7,
        after: None,
    };
    assert_eq!(registration.state(), state);
    let put: PutRequest = member.calls("Put")[0].read();
    assert_eq!((&put.key[..], put.lease), (KEY, LEASE));
    registration.withdraw().await.expect("withdrawn");
    assert_eq!(removal(&member).await, Some(TargetUnion::ModRevision(7)));
}

#[tokio::test]
async fn a_put_that_was_left_open_is_repeated_and_whatever_came_of_it_is_removed() {
    let member = member(|count| match count {
        0 => Reply::Fail(14, "etcdserver: leader changed"),
        _ => done(),
    })
    .await;
    let client = member.client();
    let registered = client.register("services/api", endpoint()).await;
    drop(registered.expect("registered"));
    assert_eq!(member.calls("Put").len(), 2);
    // The first one may yet be applied, at a revision that nobody knows.
    assert_eq!(removal(&member).await, Some(TargetUnion::Lease(LEASE)));
}

#[tokio::test]
async fn a_registration_that_is_given_up_while_it_is_made_leaves_nothing_behind() {
    let member = member(|_| Reply::Silence).await;
    let client = member.client();
    tokio::select! {
        _ = client.register("services/api", endpoint()) => panic!("nobody answers"),
        _ = member.asked("Put", 1) => {}
    }
    assert_eq!(removal(&member).await, Some(TargetUnion::Lease(LEASE)));
}

#[tokio::test]
async fn a_registration_whose_session_is_ended_here_is_not_made_again() {
    let member = member(|_| done()).await;
    let client = member.client();
    let registered = client.register("services/api", endpoint()).await;
    let registration = registered.expect("registered");
    client.end_sessions().await.expect("they end");
    let mut state = registration.state();
    let over = async {
        loop {
            match registration.changed(state).await {
                Ok(changed) => state = changed,
                Err(error) => return error,
            }
        }
    };
    let over = timeout(LIMIT, over).await.expect("it comes to an end");
    assert_eq!(
        (over.kind, state),
        (Kind::Closed, RegistrationState::Lost(Loss::Revoked))
    );
    assert_eq!(member.calls("Put").len(), 1);
}

#[tokio::test]
async fn a_registration_that_is_refused_is_told_and_not_tried_again() {
    let member = member(|_| Reply::Fail(7, "etcdserver: permission denied")).await;
    let client = member.client();
    let refused = client.register("services/api", endpoint()).await;
    let error = refused.err().expect("it is refused");
    assert_eq!(error.kind, Kind::PermissionDenied);
    assert_eq!(
        (member.calls("Put").len(), member.calls("Txn").len()),
        (1, 0)
    );
}
