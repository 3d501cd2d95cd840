//! Leases and sessions.

use std::collections::HashSet;
use std::time::Duration;

use keystead_client::{Grant, Kind, Loss, Put, SessionState};

use super::{client as connect, eventually, keys_below, on_each};

const TTL: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_lease_is_granted_renewed_told_of_and_revoked() {
    on_each(async |server| {
        let client = connect(server);
        let granted = client.grant(TTL).await.expect("granted");
        assert_eq!(granted.ttl, TTL);
        let lease = granted.lease;
        let own = client
            .grant_with(Grant {
                ttl: TTL,
                lease: 77,
            })
            .await;
        assert_eq!(own.expect("granted").lease, 77);
        let again = client
            .grant_with(Grant {
                ttl: TTL,
                lease: 77,
            })
            .await;
        assert_eq!(
            again.expect_err("it is there").kind,
            Kind::FailedPrecondition
        );
        let leases: HashSet<i64> = client.leases().await.expect("a list").into_iter().collect();
        assert_eq!(leases, HashSet::from([lease, 77]));
        let listed = client.leases_with_header().await.expect("a list");
        assert_eq!(listed.header.cluster_id, granted.header.cluster_id);
        assert_eq!(listed.leases.len(), 2);

        let put = Put {
            lease,
            ..Put::new("leased", "v")
        };
        client.put_with(put).await.expect("written");
        let told = client.time_to_live_with_keys(lease).await.expect("told");
        assert_eq!((told.granted, told.keys), (TTL, vec!["leased".into()]));
        assert!(told.remaining.is_some_and(|remaining| remaining <= TTL));
        assert_eq!(client.keep_alive_once(lease).await.expect("renewed"), TTL);
        let renewed = client.keep_alive_with_header(lease).await.expect("renewed");
        assert_eq!(
            (renewed.header.member_id, renewed.ttl),
            (granted.header.member_id, TTL)
        );

        client.revoke(lease).await.expect("revoked");
        assert_eq!(client.get("leased").await.expect("a read"), None);
        let told = client.time_to_live(lease).await.expect("told");
        assert_eq!(told.remaining, None);
        for error in [
            client.revoke(lease).await.expect_err("it is gone"),
            client.keep_alive_once(lease).await.expect_err("it is gone"),
        ] {
            assert_eq!(error.kind, Kind::LeaseNotFound, "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_keeps_its_keys_over_a_kill_of_the_server_and_takes_them_along_when_it_goes() {
    on_each(async |server| {
        let client = connect(server);
        // So long that even a slow restart does not take longer.
        let session = client
            .session(Duration::from_secs(30))
            .await
            .expect("granted");
        session.put_ephemeral("here/a", "v").await.expect("written");
        server.kill();
        server.restart().await;
        let mut before = session.remaining();
        eventually("a renewal", async || {
            let remaining = session.remaining();
            let renewed = remaining > before;
            before = remaining;
            renewed.then_some(())
        })
        .await;
        assert_eq!(session.state().loss(), None);
        assert_eq!(keys_below(&client, "here/").await, 1);
        drop(session);
        eventually("the key to go", async || {
            (keys_below(&client, "here/").await == 0).then_some(())
        })
        .await;
        assert!(client.leases().await.expect("a list").is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_somebody_revokes_is_a_session_that_is_lost() {
    on_each(async |server| {
        let client = connect(server);
        let session = client.session(TTL).await.expect("granted");
        client.revoke(session.lease()).await.expect("revoked");
        assert_eq!(session.lost().await, Loss::Revoked);
        assert_eq!(session.state(), SessionState::Lost(Loss::Revoked));
    })
    .await;
}

#[tokio::test]
async fn a_session_without_a_server_is_lost_in_the_end() {
    on_each(async |server| {
        let client = connect(server);
        let session = client
            .session(Duration::from_secs(3))
            .await
            .expect("granted");
        server.kill();
        // A machine that is very busy may not have run us in time, and that is told, too.
        let loss = session.lost().await;
        assert!(matches!(loss, Loss::Expired | Loss::Paused), "{loss:?}");
    })
    .await;
}

#[tokio::test]
async fn a_lease_of_a_server_that_was_wiped_is_forgotten_and_not_revoked() {
    on_each(async |server| {
        let client = connect(server);
        // So long that even a slow restart does not take longer; the next renewal says it.
        let session = client
            .session(Duration::from_secs(18))
            .await
            .expect("granted");
        session.put_ephemeral("here", "v").await.expect("written");
        server.kill();
        // The same flags make the same cluster, which begins with the same term.
        let data = server.directory().join("data");
        std::fs::remove_dir_all(data).expect("it can be removed");
        server.restart().await;
        assert_eq!(session.lost().await, Loss::Forgotten);
    })
    .await;
}
