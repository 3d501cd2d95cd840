//! Without a majority nothing is written, and what is there can still be read.

use std::time::Duration;

use keystead_proto::etcdserverpb::PutRequest;
use keystead_proto::etcdserverpb::kv_client::KvClient;
use keystead_tests::Link;
use tokio::time::sleep;
use tonic::{Code, Request};

use super::{eventually, get, leader_among, on_each, put, put_eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_majority_refuses_writes_reads_what_it_has_and_goes_on_by_itself() {
    on_each(async |cluster| {
        put(cluster.channel(0), "k", "kept").await.expect("a write");
        cluster.assert_equal().await;
        let survivor = 1;
        for dead in [0, 2] {
            cluster.member(dead).kill();
        }
        let channel = || cluster.channel(survivor);
        let refused = put(channel(), "k", "lost").await.expect_err("no majority");
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(
            refused
                .message()
                .starts_with("etcdserver: request timed out"),
            "{refused}"
        );
        let refused = get(channel(), "k", false).await.expect_err("no majority");
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        let read = get(channel(), "k", true).await.expect("it has it");
        assert_eq!(read.as_deref(), Some("kept"));
        let status = cluster.status(survivor).await.expect("it runs");
        assert_eq!(status.leader, 0);
        assert!(
            status.errors.contains(&"etcdserver: no leader".to_owned()),
            "{:?}",
            status.errors
        );
        let mut demanding = Request::new(PutRequest {
            key: "k".into(),
            ..Default::default()
        });
        let yes = "true".parse().expect("it is ASCII");
        demanding.metadata_mut().insert("hasleader", yes);
        let refused = KvClient::new(channel()).put(demanding).await;
        let refused = refused.expect_err("it has no leader");
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::Unavailable, "etcdserver: no leader")
        );
        for dead in [0, 2] {
            cluster.member(dead).launch();
        }
        cluster.ready().await;
        put_eventually(cluster, survivor, "k", "new").await;
        for member in 0..3 {
            let read = get(cluster.channel(member), "k", false).await;
            assert_eq!(read.expect("all is well").as_deref(), Some("new"));
        }
        cluster.assert_equal().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_cut_off_from_the_others_writes_nothing_and_follows_the_new_one() {
    on_each(async |cluster| {
        let old = cluster.leader().await;
        let others: Vec<usize> = (0..3).filter(|it| *it != old).collect();
        cluster.network().isolate(old, Link::Hold);
        let lost = tokio::spawn(put(cluster.channel(old), "k", "lost"));
        let new = leader_among(cluster, &others, old).await;
        put_eventually(cluster, new, "k", "kept").await;
        eventually("the old leader to step down", async || {
            let status = cluster.status(old).await.ok()?;
            (status.leader == 0).then_some(())
        })
        .await;
        let stale = get(cluster.channel(old), "k", false).await;
        stale.expect_err("it can't know what is new");
        cluster.network().heal();
        cluster.ready().await;
        // Its own write may have been kept back by its client's connection alone, but never against the majority's.
        let _ = lost.await.expect("the task does not panic");
        sleep(Duration::from_millis(100)).await;
        cluster.assert_equal().await;
        let read = get(cluster.channel(old), "k", false).await;
        assert_eq!(read.expect("all is well").as_deref(), Some("kept"));
    })
    .await;
}
