//! Members whose disks are slow, or forget. etcd is not asked: its answers wait for its own disk.

use std::time::{Duration, Instant};

use keystead_tests::{Cluster, Kind, TINY_LIMITS};
use tokio::time::sleep;
use tonic::transport::Channel;

use super::{TIMING, get, put};
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

/// Rounds of load that end with the power of all members.
const CUTS: u64 = 4;
const WRITERS: usize = 6;

/// The store is on a disk that is always done at once, and flushed all the time, the log on one that takes long to sync and
/// forgets what was not. Would a flush pass the log, the store would have what no log leads to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_on_a_slower_disk_than_the_store_loses_nothing_when_the_power_of_all_goes() {
    let arguments = [&TIMING[..], &TINY_LIMITS].concat();
    let disks: Option<Vec<_>> = (0..3).map(|_| LossyDirectory::mount()).collect();
    let Some(mut disks) = disks else {
        return;
    };
    let cluster = Cluster::prepare(Kind::Keystead, 3, &arguments).await;
    let mut cluster = cluster.expect("only etcd may be missing");
    for (member, disk) in disks.iter().enumerate() {
        let log = disk.data().display().to_string();
        cluster.member(member).set_flag("--wal-dir", &log);
        cluster.member(member).launch();
    }
    cluster.ready().await;
    for disk in &disks {
        disk.disk.slow_syncs(Duration::from_millis(40));
    }
    let mut acknowledged = 0;
    for cut in 0..CUTS {
        let writing: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let channel = cluster.channel(writer % 3);
                tokio::spawn(write_until_refused(channel, format!("{cut}-{writer}")))
            })
            .collect();
        sleep(Duration::from_secs(1)).await;
        for member in 0..3 {
            cluster.member(member).kill();
        }
        for (seed, disk) in disks.iter_mut().enumerate() {
            disk.cut(cut * 3 + seed as u64);
        }
        for member in 0..3 {
            cluster.member(member).launch();
        }
        cluster.ready().await;
        for (writer, written) in writing.into_iter().enumerate() {
            let written = written.await.expect("the task does not panic");
            acknowledged += written;
            for number in 0..written {
                let key = format!("{cut}-{writer}/{number}");
                let kept = get(cluster.channel(writer % 3), &key, true).await;
                assert!(kept.expect("it runs").is_some(), "{key} was acknowledged");
            }
        }
        cluster.assert_equal().await;
    }
    println!("{acknowledged} writes outlived {CUTS} power cuts of all members");
    assert!(acknowledged >= CUTS, "the load was no load");
}

/// Gives how many writes were acknowledged before one was not.
async fn write_until_refused(channel: Channel, name: String) -> u64 {
    let mut number = 0;
    while put(channel.clone(), &format!("{name}/{number}"), "v")
        .await
        .is_ok()
    {
        number += 1;
    }
    number
}
