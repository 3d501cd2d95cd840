//! The store of one member on its way to another, over connections that break or fall silent. etcd is not asked: it begins anew.

use std::path::PathBuf;

use keystead_tests::{Cluster, Kind, Link, TINY_LIMITS, oldest_segment};

use super::{TIMING, eventually, get, leader_among, put_eventually};

/// So many values of so many bytes are the store.
const VALUES: usize = 96;
const VALUE_BYTES: usize = 64 << 10;
const STORE_BYTES: u64 = (VALUES * VALUE_BYTES) as u64;

/// A cluster with a member that was away for so long that it needs the whole store: the leader, the third, and that one, dead.
async fn one_left_behind() -> (Cluster, [usize; 3]) {
    let arguments = [&TIMING[..], &TINY_LIMITS].concat();
    let cluster = Cluster::start(Kind::Keystead, 3, &arguments).await;
    let mut cluster = cluster.expect("only etcd may be missing");
    let leader = cluster.leader().await;
    let (third, away) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.member(away).kill();
    let logs = [leader, third].map(|member| cluster.member(member).directory().join("data"));
    // Each value needs a segment of its own, so two further the first of them is given up.
    let begun = logs.each_ref().map(|log| oldest_segment(log));
    let lacking = begun.map(|oldest| oldest.expect("it has a log") + 2);
    let value = "v".repeat(VALUE_BYTES);
    for number in 0..VALUES {
        put_eventually(&cluster, leader, &format!("k{number}"), &value).await;
    }
    eventually("the log to be given up", async || {
        let purged = |(log, lacking): (&PathBuf, &u64)| oldest_segment(log) >= Some(*lacking);
        logs.iter().zip(&lacking).all(purged).then_some(())
    })
    .await;
    (cluster, [leader, third, away])
}

/// The numbers that a field has in those lines of a member's log that tell this.
fn told(cluster: &mut Cluster, member: usize, line: &str, field: &str) -> Vec<u64> {
    let (log, field) = (cluster.member(member).log(), format!("\"{field}\":"));
    let lines = log.lines().filter(|it| it.contains(line));
    let number = |line: &str| {
        let (_, rest) = line.split_once(&field)?;
        rest.split(|it: char| !it.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    };
    lines.filter_map(number).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_arrives_over_connections_that_each_break_half_way() {
    let (mut cluster, [leader, third, away]) = one_left_behind().await;
    for other in [leader, third] {
        cluster
            .network()
            .set(other, away, Link::Ration(STORE_BYTES / 3));
    }
    let before = cluster.network().carried_bytes();
    cluster.member(away).launch();
    cluster.ready().await;
    cluster.assert_equal().await;
    let carried = cluster.network().carried_bytes() - before;
    let cut = told(&mut cluster, away, "a snapshot was cut", "next");
    let taken = told(&mut cluster, away, "taking a snapshot", "from");
    println!("cut at {cut:?}, taken from {taken:?}, {carried} bytes for {STORE_BYTES}");
    assert!(cut.is_sorted() && cut[1] > 0, "{cut:?}");
    assert_eq!(
        (taken[0], &taken[1..=cut.len()]),
        (0, &cut[..]),
        "each goes on where the one before was cut"
    );
    // What was cut within a message is sent again, and all else once.
    assert!(
        carried < STORE_BYTES + STORE_BYTES / 2,
        "{carried} bytes came for {STORE_BYTES}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_fell_silent_is_no_hindrance_to_the_next() {
    let (mut cluster, [leader, third, away]) = one_left_behind().await;
    // What the leader says comes late, so that it is asleep before any of the store arrives.
    let late = Link::Slow(std::time::Duration::from_millis(300));
    cluster.network().set(leader, away, late);
    cluster.member(away).launch();
    eventually("the snapshot to begin", async || {
        let begun = told(&mut cluster, away, "taking a snapshot", "from");
        (!begun.is_empty()).then_some(())
    })
    .await;
    cluster.member(leader).pause();
    cluster.network().set(leader, away, Link::Hold);
    leader_among(&cluster, &[third, away], leader).await;
    eventually("the store to come from the next leader", async || {
        let last = format!("k{}", VALUES - 1);
        get(cluster.channel(away), &last, false).await.ok()?
    })
    .await;
    let taken = told(&mut cluster, away, "taking a snapshot", "from");
    // One alone was taken whole before its sender slept, as may be on a machine that is busy.
    println!("snapshots taken from {taken:?}");
    cluster.network().heal();
    cluster.member(leader).resume();
    cluster.ready().await;
    cluster.assert_equal().await;
}
