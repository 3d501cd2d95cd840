//! Lease: grants, revokes, keepalives, expiry.

use std::time::{Duration, Instant};

use futures::channel::mpsc::unbounded;
use keystead_proto::etcdserverpb::lease_client::LeaseClient;
use keystead_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest,
};
use keystead_tests::{Session, on_both};

use super::requests::{delete, everything, get, grant, op, put, txn, watch};

fn ttl(id: i64) -> LeaseTimeToLiveRequest {
    LeaseTimeToLiveRequest { id, keys: true }
}

fn revoke(id: i64) -> LeaseRevokeRequest {
    LeaseRevokeRequest { id }
}

#[tokio::test]
async fn grants_take_any_id_once_and_raise_short_ttls() {
    on_both(async |s| {
        for (id, ttl_secs) in [
            (1, 60),
            (1, 60),
            (-1, 60),
            (i64::MIN, 60),
            (i64::MAX, 60),
            (2, 0),
            (3, -5),
            (4, 1),
            (5, 2),
            (6, 9_000_000_000),
            (7, 9_000_000_001),
        ] {
            s.call(grant(id, ttl_secs)).await.ok();
            s.call(ttl(id)).await.ok();
        }
        let chosen = LeaseGrantRequest { ttl: 60, id: 0 };
        let answer = keystead_tests::Unary::send(chosen, s.channel()).await;
        s.note(format!(
            "a chosen id is positive: {:?}",
            answer.map(|lease| lease.id > 0)
        ));
    })
    .await;
}

#[tokio::test]
async fn a_revoke_deletes_the_attached_keys_in_order_in_one_revision() {
    on_both(async |s| {
        s.call(grant(10, 600)).await.ok();
        s.call(grant(11, 600)).await.ok();
        let mut stream = s.watch();
        stream.create(s, watch("a", "z", 0));
        stream.next(s).await;
        for key in ["d", "b", "c", "a"] {
            s.call(PutRequest {
                lease: 10,
                ..put(key, "v")
            })
            .await
            .ok();
        }
        s.call(PutRequest {
            lease: 11,
            ..put("b", "moved")
        })
        .await
        .ok();
        s.call(put("c", "detached")).await.ok();
        s.call(ttl(10)).await.ok();
        s.call(ttl(11)).await.ok();
        s.call(revoke(10)).await.ok();
        stream.events(s, 8).await;
        s.call(everything()).await.ok();
        s.call(ttl(10)).await.ok();
        s.call(revoke(10)).await.ok();
        s.call(delete("b")).await.ok();
        s.call(ttl(11)).await.ok();
        s.call(revoke(11)).await.ok();
        s.call(put("after", "")).await.ok();
        s.call(LeaseLeasesRequest {}).await.ok();
    })
    .await;
}

#[tokio::test]
async fn puts_in_a_txn_attach_and_detach() {
    on_both(async |s| {
        s.call(grant(20, 600)).await.ok();
        let attach = PutRequest {
            lease: 20,
            ..put("k", "v")
        };
        s.call(txn(vec![], vec![op(attach), op(put("free", "v"))], vec![]))
            .await
            .ok();
        s.call(ttl(20)).await.ok();
        s.call(txn(vec![], vec![op(put("k", "free"))], vec![]))
            .await
            .ok();
        s.call(ttl(20)).await.ok();
        s.call(revoke(20)).await.ok();
        s.call(get("k")).await.ok();
    })
    .await;
}

#[tokio::test]
async fn keepalives_answer_in_order_and_a_dead_lease_has_ttl_zero() {
    on_both(async |s| {
        s.call(grant(30, 600)).await.ok();
        s.call(grant(31, 300)).await.ok();
        keep_alive(s, &[30, 404, 31, 30, -9]).await;
        s.call(revoke(30)).await.ok();
        keep_alive(s, &[30, 31]).await;
    })
    .await;
}

async fn keep_alive(s: &mut Session, ids: &[i64]) {
    let (requests, outgoing) = unbounded();
    for &id in ids {
        requests
            .unbounded_send(LeaseKeepAliveRequest { id })
            .expect("the receiving end is here");
    }
    let mut client = LeaseClient::new(s.channel());
    let mut answers = client
        .lease_keep_alive(outgoing)
        .await
        .expect("the stream opens")
        .into_inner();
    for _ in ids {
        let answer = answers
            .message()
            .await
            .expect("an answer")
            .expect("the stream is open");
        let revision = answer.header.map(|header| header.revision);
        s.note(format!(
            "keepalive {} => ttl {} revision {revision:?}",
            answer.id, answer.ttl
        ));
    }
    drop(requests);
    let end = answers.message().await.map_err(|status| status.code());
    s.note(format!("after half-close => {end:?}"));
}

#[tokio::test]
async fn an_expired_lease_takes_its_keys_never_early() {
    on_both(async |s| {
        s.call(grant(40, 2)).await.ok();
        let granted = Instant::now();
        let mut stream = s.watch();
        stream.create(s, watch("k", "l", 0));
        stream.next(s).await;
        s.call(PutRequest {
            lease: 40,
            ..put("k2", "v")
        })
        .await
        .ok();
        s.call(PutRequest {
            lease: 40,
            ..put("k1", "v")
        })
        .await
        .ok();
        stream.events(s, 4).await;
        let age = granted.elapsed();
        let in_time = age >= Duration::from_millis(1990) && age < Duration::from_millis(5000);
        s.note(format!("expired in time: {in_time}"));
        assert!(in_time, "the lease lived {age:?}");
        s.call(ttl(40)).await.ok();
        s.call(revoke(40)).await.ok();
        keep_alive(s, &[40]).await;
    })
    .await;
}

#[tokio::test]
async fn leases_and_their_keys_survive_a_restart() {
    on_both(async |s| {
        s.call(grant(50, 600)).await.ok();
        s.call(grant(51, 600)).await.ok();
        s.call(PutRequest {
            lease: 50,
            ..put("k", "v")
        })
        .await
        .ok();
        s.call(revoke(51)).await.ok();
        s.server().kill();
        s.server().restart().await;
        s.call(ttl(50)).await.ok();
        s.call(ttl(51)).await.ok();
        s.call(revoke(50)).await.ok();
        s.call(get("k")).await.ok();
    })
    .await;
}
