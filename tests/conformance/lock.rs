//! The Lock service.

use keystead_proto::etcdserverpb::LeaseRevokeRequest;
use keystead_proto::v3lockpb::{LockRequest, UnlockRequest};
use keystead_tests::{Session, Unary, on_both};

use super::requests::{FROM_KEY, grant, put, range};

fn lock(name: &str, lease: i64) -> LockRequest {
    LockRequest {
        name: name.to_owned().into(),
        lease,
    }
}

#[tokio::test]
async fn a_lock_is_a_key_named_after_its_lease_and_is_handed_on() {
    on_both(async |s| {
        s.call(grant(0x1f, 600)).await.ok();
        s.call(grant(0x2f, 600)).await.ok();
        let first = s.call(lock("l", 0x1f)).await.expect("a free lock is taken");
        s.call(lock("l", 0x1f)).await.ok();
        s.call(range("l", FROM_KEY)).await.ok();
        let waiting = tokio::spawn(lock("l", 0x2f).send(s.channel()));
        let queued = async {
            while in_line(s).await < 2 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), queued)
            .await
            .expect("the second waits in line");
        s.call(put("unrelated", "")).await.ok();
        s.call(UnlockRequest { key: first.key }).await.ok();
        let second = waiting
            .await
            .expect("it does not panic")
            .expect("the lock is handed on");
        s.note(format!(
            "handed to {:?} at {:?}",
            second.key,
            second.header.map(|header| header.revision)
        ));
        s.call(UnlockRequest {
            key: second.key.clone(),
        })
        .await
        .ok();
        s.call(UnlockRequest { key: second.key }).await.ok();
        s.call(range("l", FROM_KEY)).await.ok();
    })
    .await;
}

/// How many hold or wait for the lock `l`, not written down: it is polled.
async fn in_line(s: &Session) -> i64 {
    range("l/", "l0")
        .send(s.channel())
        .await
        .map_or(0, |answer| answer.count)
}

#[tokio::test]
async fn a_lock_without_lease_makes_one_and_a_dead_lease_is_refused() {
    on_both(async |s| {
        s.call(lock("l", 404)).await.ok();
        s.call(UnlockRequest { key: "".into() }).await.ok();
        let own = lock("own", 0)
            .send(s.channel())
            .await
            .expect("the server makes a lease");
        s.note(format!(
            "the key names a lease: {}",
            own.key.starts_with(b"own/")
        ));
        s.call(grant(0x5, 600)).await.ok();
        s.call(lock("", 0x5)).await.ok();
        s.call(LeaseRevokeRequest { id: 0x5 }).await.ok();
        s.call(range("l", "m")).await.ok();
    })
    .await;
}
