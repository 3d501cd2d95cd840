//! Leases whose leader goes: by whose clock they live.

use std::time::{Duration, Instant};

use keystead_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keystead_proto::etcdserverpb::{LeaseGrantRequest, MoveLeaderRequest};
use keystead_tests::{Cluster, Kind, Unary, keep_alive};
use tokio::time::sleep;

use super::leader::{TTL_SECS, grant, time_to_live};
use super::{TIMING, eventually, get, leader_among, on_each, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_kept_alive_through_any_member() {
    on_each(async |cluster| {
        let lease = grant(cluster, 0, "kept").await;
        // Longer than it would live by itself.
        for round in 0..3 * TTL_SECS as usize {
            let member = round % 3;
            let ttl = keep_alive(cluster.channel(member), lease).await;
            assert_eq!(ttl.expect("an answer"), TTL_SECS, "through member {member}");
            sleep(Duration::from_millis(500)).await;
        }
        let kept = get(cluster.channel(1), "kept", false).await;
        assert_eq!(kept.expect("a read"), Some(String::new()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_gives_every_lease_its_whole_time_again() {
    on_each(async |cluster| {
        let old = cluster.leader().await;
        let others: Vec<usize> = (0..3).filter(|it| *it != old).collect();
        let lease = grant(cluster, old, "left").await;
        // By the old leader's clock it is about to end.
        let left = eventually("the lease to be old", async || {
            let ttl = time_to_live(cluster.channel(old), lease).await.ok()?;
            (ttl < TTL_SECS).then_some(ttl)
        })
        .await;
        cluster.member(old).kill();
        let new = leader_among(cluster, &others, old).await;
        let ttl = eventually("an answer about the lease", async || {
            time_to_live(cluster.channel(new), lease).await.ok()
        })
        .await;
        assert!(ttl >= left, "{ttl} s are left of it, and {left} s were");
        // Once only.
        eventually("the lease to run out", async || {
            let left = get(cluster.channel(new), "left", false).await.ok()?;
            left.is_none().then_some(())
        })
        .await;
    })
    .await;
}

/// The time of a lease that does not run out here.
const LONG_TTL_SECS: i64 = 600;
/// How much of it is gone when its leader changes, and how much of that at least when it had a checkpoint.
const LIVED_SECS: i64 = 5;
const KEPT_SECS: i64 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_goes_on_from_a_checkpoint_until_the_lease_is_kept_alive() {
    // etcd's checkpoints are five minutes apart, and no flag changes that.
    let often = ["--lease-checkpoint-interval=500ms"];
    let gate = ["--feature-gates=LeaseCheckpoint=true,LeaseCheckpointPersist=true"];
    for checkpoints in [&[][..], &gate] {
        let arguments = [&TIMING[..], &often, checkpoints].concat();
        let cluster = Cluster::start(Kind::Keystead, 3, &arguments).await;
        let cluster = cluster.expect("Keystead is there");
        let lease = grant_long(&cluster).await;
        grow_old(&cluster, lease).await;
        if checkpoints.is_empty() {
            let given = given_by_new_leader(&cluster, lease).await;
            assert!(given >= LONG_TTL_SECS - 1, "{given} s of {LONG_TTL_SECS}");
            continue;
        }
        // On a busy machine the checkpoint may be late once.
        eventually("a leader that goes on from a checkpoint", async || {
            grow_old(&cluster, lease).await;
            let given = given_by_new_leader(&cluster, lease).await;
            (given <= LONG_TTL_SECS - KEPT_SECS).then_some(())
        })
        .await;
        let kept = Instant::now();
        let ttl = keep_alive(cluster.channel(0), lease).await;
        assert_eq!(ttl.expect("an answer"), LONG_TTL_SECS);
        let given = given_by_new_leader(&cluster, lease).await + secs_since(kept);
        assert!(given >= LONG_TTL_SECS - 1, "{given} s of {LONG_TTL_SECS}");
    }
}

async fn grant_long(cluster: &Cluster) -> i64 {
    let request = LeaseGrantRequest {
        ttl: LONG_TTL_SECS,
        id: 0,
    };
    let lease = within(request.send(cluster.channel(0))).await;
    lease.expect("a lease").id
}

async fn grow_old(cluster: &Cluster, lease: i64) {
    eventually("the lease to be old", async || {
        let ttl = time_to_live(cluster.channel(0), lease).await.ok()?;
        (ttl <= LONG_TTL_SECS - LIVED_SECS).then_some(())
    })
    .await;
}

/// Has another member lead; answers how many seconds it gave the lease, or some more if it was slow.
async fn given_by_new_leader(cluster: &Cluster, lease: i64) -> i64 {
    let begin = Instant::now();
    let old = cluster.leader().await;
    let target = cluster.status((old + 1) % 3).await.expect("a status");
    let target_id = target.header.expect("a header").member_id;
    let mut client = MaintenanceClient::new(cluster.channel(old));
    // It may lead no more, which serves as well.
    let _ = client.move_leader(MoveLeaderRequest { target_id }).await;
    let new = leader_among(cluster, &[0, 1, 2], old).await;
    let left = eventually("an answer about the lease", async || {
        time_to_live(cluster.channel(new), lease).await.ok()
    })
    .await;
    left + secs_since(begin)
}

fn secs_since(begin: Instant) -> i64 {
    begin.elapsed().as_secs_f64().ceil() as i64
}
