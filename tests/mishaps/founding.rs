//! Members that are not who the others take them for.

use std::time::Duration;

use keystead_tests::{Cluster, Kind};
use tokio::time::sleep;

use super::{get, on_each, put, put_eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_directory_is_refused_and_the_others_go_on() {
    on_each(async |cluster| {
        put(cluster.channel(0), "k", "kept").await.expect("a write");
        cluster.assert_equal().await;
        let wiped = cluster.leader().await;
        cluster.member(wiped).kill();
        cluster.member(wiped).wipe();
        let ended = cluster.member(wiped).try_restart().await;
        ended.expect_err("it has promised things that it no longer knows");
        let log = cluster.member(wiped).log();
        assert!(log.contains("has already been bootstrapped"), "{log}");
        cluster.member(wiped).kill();
        let other = (wiped + 1) % 3;
        put_eventually(cluster, other, "k", "new").await;
        cluster.assert_equal().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_that_swapped_their_addresses_take_nothing_that_is_meant_for_the_other() {
    on_each(async |cluster| {
        put(cluster.channel(0), "k", "kept").await.expect("a write");
        cluster.assert_equal().await;
        for member in [1, 2] {
            cluster.member(member).kill();
        }
        swap_peer_listeners(cluster);
        for member in [1, 2] {
            cluster.member(member).launch();
        }
        // Long enough for several elections.
        sleep(Duration::from_secs(3)).await;
        // They may still lead or follow over the connections that they dial themselves.
        if cluster.kind() == Kind::Keystead {
            let log = cluster.member(1).log();
            assert!(
                log.contains("are the addresses of two members swapped?"),
                "{log}"
            );
        }
        for member in [1, 2] {
            cluster.member(member).kill();
        }
        swap_peer_listeners(cluster);
        for member in [1, 2] {
            cluster.member(member).launch();
        }
        cluster.ready().await;
        let read = get(cluster.channel(1), "k", false).await;
        assert_eq!(read.expect("all is well").as_deref(), Some("kept"));
        put_eventually(cluster, 0, "k", "new").await;
        cluster.assert_equal().await;
    })
    .await;
}

fn swap_peer_listeners(cluster: &mut Cluster) {
    let flag = "--listen-peer-urls";
    let urls = [1, 2].map(|member| cluster.member(member).flag(flag).to_owned());
    cluster.member(1).set_flag(flag, &urls[1]);
    cluster.member(2).set_flag(flag, &urls[0]);
}
