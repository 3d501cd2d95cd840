//! Members whose disks are slow. etcd is not asked: its answers wait for its own disk.

use std::time::{Duration, Instant};

use keystead_tests::{Cluster, Kind};

use super::{get, put};
use crate::power::disk::LossyDirectory;

/// What a sync takes on the slow disk: half an election timeout.
const SYNC: Duration = Duration::from_millis(500);
/// As many elections would fit in, did heartbeats wait for the disk.
const LOAD: Duration = Duration::from_secs(6);

/// Three members on disks of their own, which outlive them; `None` where nothing can be mounted.
async fn cluster_on_disks() -> Option<(Vec<LossyDirectory>, Cluster)> {
    let disks: Option<Vec<_>> = (0..3).map(|_| LossyDirectory::mount()).collect();
    let disks = disks?;
    // The default timing: heartbeats of 100 ms, elections after a second.
    let cluster = Cluster::prepare(Kind::Keystead, 3, &[]).await;
    let mut cluster = cluster.expect("only etcd may be missing");
    for (member, disk) in disks.iter().enumerate() {
        let data = disk.data().display().to_string();
        cluster.member(member).set_flag("--data-dir", &data);
        cluster.member(member).launch();
    }
    cluster.ready().await;
    Some((disks, cluster))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_takes_half_a_second_to_sync_keeps_its_place() {
    let Some((disks, cluster)) = cluster_on_disks().await else {
        return;
    };
    let leader = cluster.leader().await;
    let term = cluster.status(leader).await.expect("it runs").raft_term;
    disks[leader].disk.slow_syncs(SYNC);
    let (begin, mut written) = (Instant::now(), 0);
    while begin.elapsed() < LOAD {
        let member = written % 3;
        put(cluster.channel(member), "k", &written.to_string())
            .await
            .expect("a slow disk delays a write and refuses none");
        written += 1;
    }
    assert_eq!(cluster.leader().await, leader, "after {written} writes");
    let later = cluster.status(leader).await.expect("it runs").raft_term;
    assert_eq!(later, term, "after {written} writes");
    disks[leader].disk.slow_syncs(Duration::ZERO);
    cluster.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_with_a_slow_disk_holds_up_nobody_and_reads_what_is_new() {
    let Some((disks, cluster)) = cluster_on_disks().await else {
        return;
    };
    let leader = cluster.leader().await;
    let slow = (leader + 1) % 3;
    disks[slow].disk.slow_syncs(SYNC);
    let mut longest = Duration::ZERO;
    for number in 0..40 {
        let value = number.to_string();
        let begin = Instant::now();
        put(cluster.channel(leader), "k", &value)
            .await
            .expect("two disks are fast");
        longest = longest.max(begin.elapsed());
        let read = get(cluster.channel(slow), "k", false).await;
        assert_eq!(read.expect("it follows"), Some(value));
    }
    println!("longest put beside a slow follower: {longest:?}");
    disks[slow].disk.slow_syncs(Duration::ZERO);
    cluster.assert_equal().await;
}
