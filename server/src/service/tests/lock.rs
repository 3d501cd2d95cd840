//! Lock on a member.

use std::time::Duration;

use keystead_proto::etcdserverpb::{
    LeaseRevokeRequest, LeaseRevokeResponse, RangeRequest, RangeResponse,
};
use keystead_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

use super::calls::{Call, Client, Ended, with_member};

const LOCK: &str = "/v3lockpb.Lock/Lock";

async fn lock(client: &Client, lease: i64) -> Result<LockResponse, Ended> {
    client
        .unary(
            LOCK,
            &LockRequest {
                name: "door".into(),
                lease,
            },
        )
        .await
}

async fn waiting(client: &Client, lease: i64) -> Call {
    let mut call = client.open(LOCK).await;
    call.say(&LockRequest {
        name: "door".into(),
        lease,
    });
    call.half_close();
    while contenders(client).await < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    call
}

async fn contenders(client: &Client) -> i64 {
    let request = RangeRequest {
        key: "door/".into(),
        range_end: "door0".into(),
        ..RangeRequest::default()
    };
    let answer: RangeResponse = client
        .unary("/etcdserverpb.KV/Range", &request)
        .await
        .expect("a range");
    answer.count
}

#[test]
fn a_lock_is_held_by_one_and_goes_to_the_next() {
    with_member(async |client| {
        let (first, second) = (client.grant(60).await, client.grant(60).await);
        let held = lock(&client, first).await.expect("nobody else wants it");
        assert_eq!(held.key, format!("door/{first:x}"));
        let again = lock(&client, first).await.expect("it has it already");
        assert_eq!(again.key, held.key);
        let mut next = waiting(&client.another().await, second).await;
        assert!(next.is_silent::<LockResponse>().await);
        let _: UnlockResponse = client
            .unary("/v3lockpb.Lock/Unlock", &UnlockRequest { key: held.key })
            .await
            .expect("unlocked");
        let held: LockResponse = next.heard().await;
        assert_eq!(held.key, format!("door/{second:x}"));
        let _: UnlockResponse = client
            .unary(
                "/v3lockpb.Lock/Unlock",
                &UnlockRequest {
                    key: "door/none".into(),
                },
            )
            .await
            .expect("a key that is absent is no error");
    });
}

#[test]
fn without_a_lease_one_is_made() {
    with_member(async |client| {
        let held = lock(&client, 0).await.expect("nobody else wants it");
        assert!(held.key.starts_with(b"door/") && held.key.len() > 5);
    });
}

#[test]
fn a_client_that_goes_away_is_no_longer_waiting() {
    with_member(async |client| {
        lock(&client, 0).await.expect("nobody else wants it");
        let lease = client.grant(60).await;
        waiting(&client, lease).await.cancel();
        while contenders(&client).await > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_waiter_whose_lease_ends_does_not_get_the_lock() {
    with_member(async |client| {
        let first = lock(&client, 0).await.expect("nobody else wants it");
        let lease = client.grant(60).await;
        let mut call = waiting(&client, lease).await;
        let _: LeaseRevokeResponse = client
            .unary(
                "/etcdserverpb.Lease/LeaseRevoke",
                &LeaseRevokeRequest { id: lease },
            )
            .await
            .expect("revoked");
        let _: UnlockResponse = client
            .unary("/v3lockpb.Lock/Unlock", &UnlockRequest { key: first.key })
            .await
            .expect("unlocked");
        assert!(call.hear::<LockResponse>().await.is_none());
        assert_eq!(call.ended, Some((2, "mutex: session is expired".into())));
        let unknown = lock(&client, 99).await.expect_err("no such lease");
        assert_eq!(unknown, (2, "etcdserver: requested lease not found".into()));
    });
}
