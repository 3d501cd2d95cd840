//! Leases whose leader goes: by whose clock they live.

use std::time::Duration;

use keystead_tests::keep_alive;
use tokio::time::sleep;

use super::leader::{TTL_SECS, grant, time_to_live};
use super::{eventually, get, leader_among, on_each};

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
