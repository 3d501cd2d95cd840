//! Leaders that sleep, leave or are asked to hand over.

use std::time::{Duration, Instant};

use keystead_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keystead_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseTimeToLiveRequest, MoveLeaderRequest, PutRequest, StatusRequest,
};
use keystead_tests::{Cluster, Kind, Link, Unary, keep_alive};
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

use super::{
    ANSWER_LIMIT, PROGRAMS, eventually, get, leader_among, on_each, put, put_eventually, within,
};

pub(super) const TTL_SECS: i64 = 3;
/// Reads that wait in the sleeping leader's sockets.
const READS: usize = 8;

pub(super) async fn grant(cluster: &Cluster, member: usize, key: &str) -> i64 {
    let request = LeaseGrantRequest {
        ttl: TTL_SECS,
        id: 0,
    };
    let lease = within(request.send(cluster.channel(member))).await;
    let lease = lease.expect("a lease").id;
    let put = PutRequest {
        key: key.to_owned().into(),
        lease,
        ..Default::default()
    };
    within(put.send(cluster.channel(member)))
        .await
        .expect("a write");
    lease
}

pub(super) async fn time_to_live(channel: Channel, id: i64) -> Result<i64, Status> {
    let request = LeaseTimeToLiveRequest { id, keys: false };
    within(request.send(channel)).await.map(|it| it.ttl)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_answers_no_stale_read_revokes_no_lease_and_keeps_none_alive() {
    on_each(async |cluster| {
        let old = cluster.leader().await;
        let others: Vec<usize> = (0..3).filter(|it| *it != old).collect();
        put(cluster.channel(old), "k", "old")
            .await
            .expect("a write");
        let kept = grant(cluster, old, "kept").await;
        let left = grant(cluster, old, "left").await;
        // Connections that are open before the leader falls asleep.
        let channels: Vec<Channel> = (0..READS).map(|_| cluster.channel(old)).collect();
        for channel in &channels {
            get(channel.clone(), "k", false).await.expect("a read");
        }
        cluster.member(old).pause();
        let new = leader_among(cluster, &others, old).await;
        put_eventually(cluster, new, "k", "new").await;
        // One lease is kept alive through the new leader until long after the old one would have revoked it, the other runs out.
        let keeper = tokio::spawn(keep_alive_always(cluster.channel(new), kept));
        sleep(Duration::from_secs(TTL_SECS as u64 + 1)).await;
        eventually("the other lease to run out", async || {
            let left = get(cluster.channel(new), "left", false).await.ok()?;
            left.is_none().then_some(())
        })
        .await;
        let ttl = time_to_live(cluster.channel(new), kept).await;
        assert!(
            ttl.expect("an answer") > 0,
            "it was not kept alive by the new leader"
        );
        // What is asked now waits in its sockets, and is the first thing that it sees when it wakes.
        let asked: Vec<_> = channels
            .iter()
            .map(|channel| tokio::spawn(timeout(ANSWER_LIMIT, read(channel.clone()))))
            .collect();
        let keeping = tokio::spawn(timeout(ANSWER_LIMIT, keep_alive(channels[0].clone(), left)));
        sleep(Duration::from_millis(100)).await;
        cluster.member(old).resume();
        for answer in asked {
            let answer = answer.await.expect("the task does not panic");
            if let Ok(Ok(read)) = answer {
                assert_eq!(read.as_deref(), Some("new"), "a stale read");
            }
        }
        let kept_alive = keeping.await.expect("the task does not panic");
        if let Ok(Ok(ttl)) = kept_alive {
            assert_eq!(ttl, 0, "a lease that was revoked is kept alive");
        }
        // Had it revoked the lease that it has not heard of for so long, it would be through by now.
        cluster.ready().await;
        put_eventually(cluster, old, "k", "newer").await;
        for member in 0..3 {
            let ttl = eventually("an answer about the lease", async || {
                time_to_live(cluster.channel(member), kept).await.ok()
            })
            .await;
            // What etcd 3.6 does here: its old leader has the lease revoked when it wakes.
            assert!(
                ttl > 0 || cluster.kind() == Kind::Etcd,
                "member {member} says {ttl} s of the lease; {old} slept"
            );
            let ttl = time_to_live(cluster.channel(member), left).await;
            assert_eq!(ttl.expect("an answer"), -1);
        }
        keeper.abort();
        cluster.assert_equal().await;
    })
    .await;
}

/// Several times in each TTL.
async fn keep_alive_always(channel: Channel, lease: i64) {
    loop {
        // What fails is tried again in time.
        let _ = timeout(Duration::from_secs(1), keep_alive(channel.clone(), lease)).await;
        sleep(Duration::from_millis(300)).await;
    }
}

async fn read(channel: Channel) -> Result<Option<String>, Status> {
    get(channel, "k", false).await
}

/// Nobody campaigns before the leader was silent for so long: the default.
const ELECTION: Duration = Duration::from_secs(1);
/// On a busy machine the others may be late once.
const HANDOVERS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_asked_to_end_hands_over_first() {
    for kind in PROGRAMS {
        let Some(mut cluster) = Cluster::start(kind, 3, &[]).await else {
            continue;
        };
        let mut tries = Vec::new();
        while tries.len() < HANDOVERS {
            tries.push(hand_over(&mut cluster).await);
            let (took, terms) = tries[tries.len() - 1];
            if terms == 1 && took < ELECTION {
                break;
            }
        }
        println!("{kind:?}: hand-overs took {tries:?}, in terms");
        let (took, terms) = tries[tries.len() - 1];
        assert!(
            terms == 1 && took < ELECTION,
            "no hand-over took a single term and less than an election: {tries:?}"
        );
    }
}

/// Ends the leader, and starts it again. Gives the time from the signal until another says that it leads, and by how many terms.
async fn hand_over(cluster: &mut Cluster) -> (Duration, u64) {
    let old = cluster.leader().await;
    let term = cluster.status(old).await.expect("it runs").raft_term;
    cluster.assert_equal().await;
    let others = (0..3).filter(|it| *it != old);
    let watching: Vec<_> = others
        .map(|other| tokio::spawn(leads_after(cluster.channel(other), term)))
        .collect();
    let begin = Instant::now();
    tokio::task::block_in_place(|| cluster.member(old).terminate());
    let (elected, _, rest) = futures::future::select_all(watching).await;
    let (at, later) = elected.expect("the task does not panic");
    rest.into_iter().for_each(|it| it.abort());
    put_eventually(cluster, (old + 1) % 3, "k", "v").await;
    cluster.member(old).restart().await;
    (at.duration_since(begin), later - term)
}

/// When this member leads in a later term, and in which.
async fn leads_after(channel: Channel, term: u64) -> (Instant, u64) {
    loop {
        let status = StatusRequest {}.send(channel.clone()).await;
        if let Ok(status) = status {
            let own = status.header.map_or(0, |it| it.member_id);
            if status.raft_term > term && status.leader == own {
                return (Instant::now(), status.raft_term);
            }
        }
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_not_moved_to_a_member_that_can_not_follow() {
    on_each(async |cluster| {
        let leader = cluster.leader().await;
        let target = (leader + 1) % 3;
        let own = cluster.status(target).await.expect("it runs");
        let target_id = own.header.expect("a header").member_id;
        // It hears nothing, and so it lags.
        cluster.network().set(leader, target, Link::Hold);
        for number in 0..50 {
            put_eventually(cluster, leader, "k", &number.to_string()).await;
        }
        let mut client = MaintenanceClient::new(cluster.channel(leader));
        let moving = client.move_leader(MoveLeaderRequest { target_id });
        // etcd waits for as long as its client does.
        let moved = timeout(Duration::from_secs(5), moving).await;
        assert!(!matches!(moved, Ok(Ok(_))), "it can't lead");
        let third = (leader + 2) % 3;
        put_eventually(cluster, third, "k", "after").await;
        cluster.network().heal();
        cluster.ready().await;
        eventually("the transfer to go through", async || {
            let leader = cluster.leader().await;
            if leader == target {
                return Some(());
            }
            let mut client = MaintenanceClient::new(cluster.channel(leader));
            let moved = client.move_leader(MoveLeaderRequest { target_id }).await;
            moved.ok().map(drop)
        })
        .await;
        assert_eq!(cluster.leader().await, target);
        cluster.assert_equal().await;
    })
    .await;
}
