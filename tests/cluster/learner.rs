//! The life of a member that is added as a learner, on both programs.

use std::time::Instant;

use keystead_proto::etcdserverpb::{MemberAddRequest, MemberPromoteRequest, MemberRemoveRequest};
use keystead_tests::{Cluster, Kind, Unary};
use tokio::time::sleep;

use super::{Duration, PATIENCE, put, read, write};

/// The place of the one that is added.
const NEW: usize = 3;
const KEYS: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_catches_up_gets_a_vote_is_removed_and_ends_with_the_reason() {
    for kind in [Kind::Etcd, Kind::Keystead] {
        match Cluster::prepare_with_spares(kind, 3, 1, &[]).await {
            Some(mut cluster) => life(&mut cluster).await,
            None => println!("skipped on {kind:?}: there is none"),
        }
    }
}

async fn life(cluster: &mut Cluster) {
    for member in 0..NEW {
        cluster.member(member).launch();
    }
    cluster.ready().await;
    for key in 0..KEYS {
        write(cluster, key % NEW, &format!("k{key}")).await;
    }
    let follower = (cluster.leader().await + 1) % NEW;
    let addition = MemberAddRequest {
        peer_urls: vec![format!("http://{}", cluster.network().address(NEW))],
        is_learner: true,
    };
    // etcd wants all members to have talked to each other for a while.
    let added = until_done("an addition", async || {
        addition.clone().send(cluster.channel(follower)).await
    })
    .await;
    let id = added.member.expect("the new one").id;

    cluster.member(NEW).launch();
    let caught_up = eventually("the learner to catch up", async || {
        let own = cluster.status(NEW).await.ok()?;
        let others = cluster.status(follower).await.ok()?;
        (own.raft_applied_index >= others.raft_applied_index).then_some(own)
    })
    .await;
    assert!(caught_up.is_learner, "{caught_up:?}");
    let refused = put("k", "v").send(cluster.channel(NEW)).await;
    let refused = refused.expect_err("a learner serves no writes");
    assert_eq!(
        refused.message(),
        "etcdserver: rpc not supported for learner"
    );
    until_done("a promotion", async || {
        let promotion = MemberPromoteRequest { id };
        promotion.send(cluster.channel(follower)).await
    })
    .await;

    // One of four may be missing, and the new one counts.
    let missing = (follower + 1) % NEW;
    cluster.member(missing).kill();
    write(cluster, NEW, "by-new").await;
    assert!(read(cluster, NEW, "k0").await.is_some());
    cluster.member(missing).restart().await;
    cluster.ready().await;
    cluster.assert_equal().await;
    let status = cluster.status(NEW).await.expect("it runs");
    assert!(!status.is_learner, "{status:?}");

    until_done("a removal", async || {
        let removal = MemberRemoveRequest { id };
        removal.send(cluster.channel(follower)).await
    })
    .await;
    let ended = eventually("the removed member to end", async || {
        cluster.member(NEW).ended()
    })
    .await;
    let log = cluster.member(NEW).log();
    println!("{:?}: removed, it ended with {ended}", cluster.kind());
    assert!(log.contains("removed from the cluster"), "{log}");
    cluster.member(NEW).kill();
    if cluster.kind() == Kind::Keystead {
        let again = cluster.member(NEW).try_restart().await;
        again.expect_err("it is no member");
        cluster.member(NEW).kill();
    }
    write(cluster, follower, "without-new").await;
    cluster.assert_equal().await;
}

async fn until_done<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, tonic::Status>) -> T {
    let begin = Instant::now();
    loop {
        match ask().await {
            Ok(done) => return done,
            Err(status) => assert!(begin.elapsed() < PATIENCE, "{what}: {status}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "waited for {what} in vain");
        sleep(Duration::from_millis(20)).await;
    }
}
