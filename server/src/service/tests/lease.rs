//! Lease on a member: grants, renewals, expiry.

use keystead_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, RangeRequest, RangeResponse,
};

use super::calls::{Client, Ended, with_member};

async fn grant(client: &Client, id: i64, ttl: i64) -> Result<LeaseGrantResponse, Ended> {
    client
        .unary(
            "/etcdserverpb.Lease/LeaseGrant",
            &LeaseGrantRequest { ttl, id },
        )
        .await
}

async fn revoke(client: &Client, id: i64) -> Result<LeaseRevokeResponse, Ended> {
    client
        .unary(
            "/etcdserverpb.Lease/LeaseRevoke",
            &LeaseRevokeRequest { id },
        )
        .await
}

async fn time_to_live(client: &Client, id: i64) -> LeaseTimeToLiveResponse {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    client
        .unary("/etcdserverpb.Lease/LeaseTimeToLive", &request)
        .await
        .expect("never an error")
}

async fn count(client: &Client, key: &'static str) -> i64 {
    let request = RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    };
    let answer: RangeResponse = client
        .unary("/etcdserverpb.KV/Range", &request)
        .await
        .expect("a range");
    answer.count
}

#[test]
fn grants_follow_etcds_rules() {
    with_member(async |client| {
        let chosen = grant(&client, 0, 100).await.expect("a lease");
        assert!(chosen.id > 0 && chosen.ttl == 100 && chosen.error.is_empty());
        let shortest = grant(&client, -5, -1).await.expect("a lease");
        assert_eq!((shortest.id, shortest.ttl), (-5, 2));
        let exists = grant(&client, -5, 10).await.expect_err("taken");
        assert_eq!(exists, (9, "etcdserver: lease already exists".into()));
        let large = grant(&client, 6, 9_000_000_001)
            .await
            .expect_err("too large");
        assert_eq!(large, (11, "etcdserver: too large lease TTL".into()));
        let largest = grant(&client, 6, 9_000_000_000).await.expect("a lease");
        assert_eq!(largest.ttl, 9_000_000_000);
        let leases: LeaseLeasesResponse = client
            .unary("/etcdserverpb.Lease/LeaseLeases", &LeaseLeasesRequest {})
            .await
            .expect("a list");
        let ids: Vec<i64> = leases.leases.iter().map(|lease| lease.id).collect();
        assert_eq!(ids, [-5, chosen.id, 6]);
    });
}

#[test]
fn a_revoked_lease_takes_its_keys_and_is_unknown() {
    with_member(async |client| {
        let id = client.grant(100).await;
        client.put("b", "1", id).await;
        client.put("a", "1", id).await;
        let alive = time_to_live(&client, id).await;
        assert_eq!((alive.granted_ttl, alive.keys.len()), (100, 2));
        assert!((98..=100).contains(&alive.ttl));
        revoke(&client, id).await.expect("revoked");
        assert_eq!(count(&client, "a").await + count(&client, "b").await, 0);
        let gone = time_to_live(&client, id).await;
        assert_eq!(
            (gone.id, gone.ttl, gone.granted_ttl, gone.keys.len()),
            (id, -1, 0, 0)
        );
        let unknown = revoke(&client, id).await.expect_err("unknown");
        assert_eq!(unknown, (5, "etcdserver: requested lease not found".into()));
    });
}

#[test]
fn renewals_are_answered_in_order_and_a_dead_lease_with_ttl_zero() {
    with_member(async |client| {
        let (one, two) = (client.grant(60).await, client.grant(70).await);
        let mut call = client
            .another()
            .await
            .open("/etcdserverpb.Lease/LeaseKeepAlive")
            .await;
        for id in [one, two, 1234, one] {
            call.say(&LeaseKeepAliveRequest { id });
        }
        for (id, ttl) in [(one, 60), (two, 70), (1234, 0), (one, 60)] {
            let answer: LeaseKeepAliveResponse = call.heard().await;
            assert_eq!((answer.id, answer.ttl), (id, ttl));
            assert_eq!(answer.header.expect("a header").revision, 1);
        }
        revoke(&client, one).await.expect("revoked");
        call.say(&LeaseKeepAliveRequest { id: one });
        let answer: LeaseKeepAliveResponse = call.heard().await;
        assert_eq!(answer.ttl, 0, "a revoke that was answered has happened");
        call.half_close();
        assert!(call.hear::<LeaseKeepAliveResponse>().await.is_none());
        assert_eq!(call.ended, Some((0, String::new())));
    });
}

#[test]
fn a_lease_expires_and_not_before_its_ttl() {
    with_member(async |client| {
        let granted = std::time::Instant::now();
        let id = client.grant(2).await;
        client.put("a", "1", id).await;
        while count(&client, "a").await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let lived = granted.elapsed().as_secs_f64();
        assert!((2.0..4.5).contains(&lived), "it lived {lived} s");
        assert_eq!(time_to_live(&client, id).await.ttl, -1);
    });
}
