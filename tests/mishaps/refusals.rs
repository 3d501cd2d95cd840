//! Members whose flags or whose past do not fit the cluster: both programs refuse them, and say the same reason in their logs.

use keystead_proto::etcdserverpb::MemberRemoveRequest;
use keystead_tests::{Cluster, Unary};

use super::{PROGRAMS, TIMING, eventually, on_each, put_eventually};

/// Runs a test on three prepared members of each program.
async fn on_each_prepared(test: impl AsyncFn(&mut Cluster)) {
    for kind in PROGRAMS {
        if let Some(mut cluster) = Cluster::prepare(kind, 3, &TIMING).await {
            println!("on {kind:?}");
            test(&mut cluster).await;
        }
    }
}

/// Starts a member that ends by itself, and says why.
async fn assert_refused(cluster: &mut Cluster, member: usize, sentence: &str) {
    let ended = cluster.member(member).try_restart().await;
    let ended = ended.expect_err("it must not start");
    let log = cluster.member(member).log();
    assert!(log.contains(sentence), "{sentence}: {log}");
    assert_eq!(ended.code(), Some(1), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_is_not_in_the_list_as_it_says_that_it_is_does_not_start() {
    on_each_prepared(async |cluster| {
        let url = cluster
            .member(0)
            .flag("--initial-advertise-peer-urls")
            .to_owned();
        let other = cluster.member(0).flag("--listen-peer-urls").to_owned();
        cluster
            .member(0)
            .set_flag("--initial-advertise-peer-urls", &other);
        let sentence = "but missing from --initial-advertise-peer-urls=";
        assert_refused(cluster, 0, sentence).await;
        cluster
            .member(0)
            .set_flag("--initial-advertise-peer-urls", &url);
        cluster.member(0).set_flag("--name", "stranger");
        let sentence = "couldn't find local name";
        assert_refused(cluster, 0, sentence).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_with_another_token_or_list_is_told_that_its_cluster_is_another() {
    on_each_prepared(async |cluster| {
        let list = cluster.member(2).flag("--initial-cluster").to_owned();
        let (_, shorter) = list.split_once(',').expect("there are three");
        for member in [0, 1] {
            cluster.member(member).launch();
        }
        for (flag, value) in [
            ("--initial-cluster-token", "another"),
            ("--initial-cluster", shorter),
        ] {
            let kept = match flag {
                "--initial-cluster" => list.clone(),
                _ => "etcd-cluster".to_owned(),
            };
            let before = cluster.member(2).log().len();
            cluster.member(2).set_flag(flag, value);
            cluster.member(2).launch();
            eventually("the reason", async || {
                let log = cluster.member(2).log().split_off(before);
                let said = log.to_lowercase().contains("cluster id mismatch");
                said.then_some(())
            })
            .await;
            cluster.member(2).kill();
            cluster.member(2).wipe();
            cluster.member(2).set_flag(flag, &kept);
        }
        cluster.member(2).launch();
        cluster.ready().await;
        put_eventually(cluster, 2, "k", "v").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_never_added_does_not_join() {
    on_each_prepared(async |cluster| {
        let list = cluster.member(0).flag("--initial-cluster").to_owned();
        let (two, _) = list.rsplit_once(',').expect("there are three");
        for member in [0, 1] {
            cluster.member(member).set_flag("--initial-cluster", two);
            cluster.member(member).launch();
        }
        cluster.ready().await;
        cluster
            .member(2)
            .set_flag("--initial-cluster-state", "existing");
        assert_refused(cluster, 2, "member count is unequal").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_says_so_and_ends_and_does_not_come_back() {
    const SENTENCE: &str = "the member has been permanently removed from the cluster";
    on_each(async |cluster| {
        let leader = cluster.leader().await;
        let (removed, other) = ((leader + 1) % 3, (leader + 2) % 3);
        let status = cluster.status(removed).await.expect("it runs");
        let id = status.header.expect("every answer has one").member_id;
        // etcd refuses a change of members for five seconds after it has elected a leader.
        eventually("the removal", async || {
            let removal = MemberRemoveRequest { id };
            removal.send(cluster.channel(other)).await.ok()
        })
        .await;
        for start in 0..2 {
            if start > 0 {
                cluster.member(removed).launch();
            }
            let ended = eventually("its end", async || cluster.member(removed).ended()).await;
            let log = cluster.member(removed).log();
            assert_eq!(
                log.matches(SENTENCE).count().min(start + 1),
                start + 1,
                "{log}"
            );
            println!("start {start}: {ended}");
        }
        put_eventually(cluster, other, "k", "v").await;
    })
    .await;
}
