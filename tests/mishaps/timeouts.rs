//! Writes that nobody answers in time: what their clients are told of the reason.

use std::time::Duration;

use futures::future::join_all;
use keystead_tests::{Cluster, Kind, Link};
use tokio::time::sleep;
use tonic::{Code, Status};

use super::{PROGRAMS, TIMING, put, put_eventually};

/// Long enough for a write to get onto its connection.
const UNDER_WAY: Duration = Duration::from_millis(500);
/// Long enough for both to notice, and not for an election.
const BROKEN: Duration = Duration::from_millis(150);
/// On a busy machine the cluster may elect another leader while links are cut.
const TRIES: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_lost_with_its_connection_times_out_with_that_reason() {
    // At the same time: each waits for as long as a member waits for an answer.
    join_all(PROGRAMS.map(lose_a_write)).await;
}

async fn lose_a_write(kind: Kind) {
    let Some(cluster) = Cluster::start(kind, 3, &TIMING).await else {
        return println!("skipped on {kind:?}: there is none");
    };
    let mut told = Vec::new();
    while told.len() < TRIES {
        let refused = lost_write(&cluster).await;
        assert_eq!(refused.code(), Code::Unavailable, "{kind:?}: {refused}");
        told.push(refused.message().to_owned());
        if told[told.len() - 1] == "etcdserver: request timed out, possibly due to connection lost"
        {
            println!("{kind:?}: {told:?}");
            return;
        }
    }
    panic!("{kind:?}: {told:?}");
}

/// What is told of a write through a follower whose connection to the leader loses it and breaks; the leader stays.
async fn lost_write(cluster: &Cluster) -> Status {
    loop {
        let leader = cluster.leader().await;
        let follower = (leader + 1) % 3;
        put_eventually(cluster, follower, "k", "before").await;
        cluster.network().set(follower, leader, Link::Swallow);
        let lost = tokio::spawn(put(cluster.channel(follower), "k", "lost"));
        sleep(UNDER_WAY).await;
        let network = cluster.network();
        network.set_between(follower, leader, Link::Refuse);
        sleep(BROKEN).await;
        network.heal();
        if let Err(refused) = lost.await.expect("the task does not panic") {
            return refused;
        }
        // It was not on its way yet.
    }
}
