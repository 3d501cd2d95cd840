//! Elections: one leader at a time, in order, and observers who are told of each.

use std::time::Duration;

use keystead_client::{Kind, LeaderEvent, Observer};
use tokio::time::timeout;

use super::{PATIENCE, client as connect, eventually, keys_below, on_each};

/// The next news as text: who leads, or what else it was.
async fn news(observer: &mut Observer) -> String {
    let news = timeout(PATIENCE, observer.next()).await;
    match news.expect("there is news").expect("nothing refuses it") {
        LeaderEvent::Leader(kv) => String::from_utf8_lossy(&kv.value).into_owned(),
        LeaderEvent::NoLeader => "nobody".to_owned(),
        LeaderEvent::Disconnected => "disconnected".to_owned(),
    }
}

#[tokio::test]
async fn candidates_lead_in_order_and_an_observer_is_told_of_each_and_of_none() {
    on_each(async |server| {
        let (client, other) = (connect(server), connect(server));
        let election = client.election("elections/x");
        let mut observer = election.observe();
        assert_eq!(news(&mut observer).await, "nobody");
        assert_eq!(election.leader().await.expect("a read"), None);

        let first = election
            .campaign("first")
            .await
            .expect("nobody else stands");
        assert_eq!(news(&mut observer).await, "first");
        let waits = tokio::spawn(async move {
            let election = other.election("elections/x");
            election
                .campaign("second")
                .await
                .map(|leads| (other, leads))
        });
        eventually("the second candidate", async || {
            (keys_below(&client, "elections/x/").await == 2).then_some(())
        })
        .await;
        first.proclaim("first, still").await.expect("it leads");
        first.put("decree", "1").await.expect("it leads");
        assert_eq!(news(&mut observer).await, "first, still");
        let leader = election.leader().await.expect("a read").expect("one leads");
        assert_eq!(
            (&leader.value[..], leader.create_revision),
            (&b"first, still"[..], first.term())
        );

        let term = first.term();
        first.resign().await.expect("it led");
        let (_other, second) = waits.await.expect("no panic").expect("its turn");
        assert!(second.term() > term);
        assert_eq!(news(&mut observer).await, "second");
        drop(second);
        assert_eq!(news(&mut observer).await, "nobody");
    })
    .await;
}

#[tokio::test]
async fn whose_lease_ends_while_it_stands_never_leads() {
    on_each(async |server| {
        let (client, other) = (connect(server), connect(server));
        let leads = client
            .election("elections/x")
            .campaign("a")
            .await
            .expect("nobody else stands");
        let session = other
            .session(Duration::from_secs(30))
            .await
            .expect("granted");
        let election = other.election("elections/x").with_session(&session);
        let stands = tokio::spawn(async move { election.campaign("b").await.map(|_| ()) });
        eventually("the second candidate", async || {
            (keys_below(&client, "elections/x/").await == 2).then_some(())
        })
        .await;
        client.revoke(session.lease()).await.expect("revoked");
        leads.resign().await.expect("it led");
        let error = stands
            .await
            .expect("no panic")
            .expect_err("its lease ended");
        assert!(
            matches!(error.kind, Kind::LockLost | Kind::LeaseNotFound),
            "{error}"
        );
        assert_eq!(
            client
                .election("elections/x")
                .leader()
                .await
                .expect("a read"),
            None
        );
    })
    .await;
}

#[tokio::test]
async fn who_was_deposed_proclaims_nothing_and_deposes_nobody() {
    on_each(async |server| {
        let (client, other) = (connect(server), connect(server));
        let deposed = client
            .election("elections/x")
            .campaign("a")
            .await
            .expect("nobody else stands");
        other.delete(deposed.key().clone()).await.expect("deleted");
        let election = other.election("elections/x");
        let leads = election.campaign("b").await.expect("nobody else stands");
        let error = deposed
            .proclaim("a, still")
            .await
            .expect_err("it does not lead");
        assert_eq!(error.kind, Kind::LockLost);
        assert!(!deposed.held() && leads.held());
        assert_eq!(
            deposed.resign().await.expect_err("it does not lead").kind,
            Kind::LockLost
        );
        let leader = election.leader().await.expect("a read").expect("one leads");
        assert_eq!(leader.value, "b");
    })
    .await;
}

#[tokio::test]
async fn an_observer_goes_on_over_a_kill_of_the_server() {
    on_each(async |server| {
        let client = connect(server);
        // So long that even a slow restart does not take longer.
        let election = client
            .election("elections/x")
            .with_ttl(Duration::from_secs(60));
        let leads = election.campaign("a").await.expect("nobody else stands");
        let mut observer = election.observe();
        assert_eq!(news(&mut observer).await, "a");
        server.kill();
        assert_eq!(news(&mut observer).await, "disconnected");
        server.restart().await;
        assert_eq!(news(&mut observer).await, "a");
        leads.proclaim("b").await.expect("it leads");
        assert_eq!(news(&mut observer).await, "b");
    })
    .await;
}
