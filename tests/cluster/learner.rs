//! The life of a member that is added as a learner, on both programs.

use std::time::Instant;

use keystead_proto::etcdserverpb::kv_client::KvClient;
use keystead_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keystead_proto::etcdserverpb::watch_client::WatchClient;
use keystead_proto::etcdserverpb::{
    MemberAddRequest, MemberPromoteRequest, MemberRemoveRequest, RangeRequest, StatusRequest,
    WatchRequest,
};
use keystead_tests::{Cluster, Kind, Link, Unary, eventually};
use tokio::time::sleep;
use tonic::{Request, Status};

use super::{Duration, PATIENCE, put, read, write};

/// The place of the one that is added.
const NEW: usize = 3;
const KEYS: usize = 50;
/// The default of both programs: who hears nothing of a leader for so long looks for another.
const ELECTION: Duration = Duration::from_secs(1);
const NOT_ON_A_LEARNER: &str = "etcdserver: rpc not supported for learner";

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
    let served = ["status: served", "read: served"].map(str::to_owned);
    let refused = ["write", "stream"].map(|call| format!("{call}: {NOT_ON_A_LEARNER}"));
    let answers = [&served[..], &refused].concat();
    assert_eq!(with_leader(cluster).await, answers);
    cluster.network().isolate(NEW, Link::Hold);
    if cluster.kind() == Kind::Keystead {
        let alone = ["status", "read"].map(|call| format!("{call}: etcdserver: no leader"));
        let answers = [&alone[..], &refused].concat();
        eventually("the learner to miss its leader", async || {
            (with_leader(cluster).await == answers).then_some(())
        })
        .await;
    } else {
        // It campaigns for nothing, and so never learns of it.
        sleep(2 * ELECTION).await;
        assert_eq!(with_leader(cluster).await, answers);
    }
    cluster.network().heal();
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
    // With nothing that a supervisor would take for a failure and start again.
    assert_eq!(ended.code(), Some(0), "{}", cluster.member(NEW).log());
    let again = cluster.member(NEW).try_restart().await;
    let again = again.expect_err("it is no member").code();
    let log = cluster.member(NEW).log();
    // etcd's is 1 where it learns of its removal while its listeners come up.
    let kind = cluster.kind();
    assert!(
        again == Some(0) || kind == Kind::Etcd && again == Some(1),
        "{log}"
    );
    assert!(log.contains("removed from the cluster"), "{log}");
    cluster.member(NEW).kill();
    write(cluster, follower, "without-new").await;
    cluster.assert_equal().await;
}

/// What the learner answers to calls that ask for a leader behind it.
async fn with_leader(cluster: &Cluster) -> Vec<String> {
    fn asking<M>(message: M) -> Request<M> {
        let mut request = Request::new(message);
        let yes = "true".parse().expect("it is ASCII");
        request.metadata_mut().insert("hasleader", yes);
        request
    }
    let channel = || cluster.channel(NEW);
    let read = RangeRequest {
        key: "k0".into(),
        serializable: true,
        ..RangeRequest::default()
    };
    let mut status = MaintenanceClient::new(channel());
    let status = status.status(asking(StatusRequest {})).await.map(drop);
    let read = KvClient::new(channel()).range(asking(read)).await.map(drop);
    let write = KvClient::new(channel()).put(asking(put("k", "v"))).await;
    let write = write.map(drop);
    let messages = futures::stream::pending::<WatchRequest>();
    let stream = WatchClient::new(channel()).watch(asking(messages)).await;
    // Refused at once, or by the first thing that is heard.
    let stream = match stream {
        Ok(answer) => answer.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    let calls = [
        ("status", status),
        ("read", read),
        ("write", write),
        ("stream", stream),
    ];
    let said = |answer: Result<(), Status>| match answer {
        Ok(()) => "served".to_owned(),
        Err(status) => status.message().to_owned(),
    };
    calls
        .map(|(call, answer)| format!("{call}: {}", said(answer)))
        .to_vec()
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
