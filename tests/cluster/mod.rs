//! A cluster as an operator sees it: formed from flags, asked with genuine etcdctl, and without its leader.

mod learner;

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use keystead_proto::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberRemoveRequest, PutRequest, RangeRequest,
};
use keystead_tests::{Cluster, Kind, Unary, oracle};
use tokio::time::sleep;

/// How long a cluster may be without a leader on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    }
}

/// Writes through a member until it is acknowledged, and gives the revision.
async fn write(cluster: &Cluster, member: usize, key: &str) -> i64 {
    let begin = Instant::now();
    loop {
        match put(key, "value").send(cluster.channel(member)).await {
            Ok(done) => return done.header.expect("every answer has one").revision,
            Err(status) => assert!(begin.elapsed() < PATIENCE, "{key}: {status}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// What a linearizable read through a member finds.
async fn read(cluster: &Cluster, member: usize, key: &str) -> Option<Vec<u8>> {
    let range = RangeRequest {
        key: key.to_owned().into(),
        ..RangeRequest::default()
    };
    let answer = range.send(cluster.channel(member)).await;
    let rows = answer.expect("a read").kvs;
    rows.into_iter().next().map(|row| row.value.to_vec())
}

/// Runs genuine etcdctl, where there is one, beside the links between the members, which this runtime carries.
async fn etcdctl(addresses: &[SocketAddr], words: &[&str]) -> Option<String> {
    let endpoints: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
    let running = tokio::task::spawn_blocking(move || {
        let output = Command::new(oracle("etcdctl")?)
            .args(["--command-timeout=60s", "--endpoints", &endpoints.join(",")])
            .args(&words)
            .output()
            .expect("etcdctl can be run");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}{wrong}");
        Some(said)
    });
    running.await.expect("etcdctl was run")
}

#[tokio::test]
async fn three_members_are_one_store_that_outlives_its_leader() {
    let mut cluster = Cluster::start(Kind::Keystead, 3, &[])
        .await
        .expect("only etcd may be missing");
    for writer in 0..3 {
        let key = format!("by-{writer}");
        write(&cluster, writer, &key).await;
        for reader in 0..3 {
            let found = read(&cluster, reader, &key).await;
            assert_eq!(
                found.as_deref(),
                Some(b"value".as_slice()),
                "{key} at {reader}"
            );
        }
    }
    let leader = cluster.leader().await;
    let terms = cluster.status(leader).await.expect("its status").raft_term;
    cluster.member(leader).kill();
    let other = (leader + 1) % 3;
    let written = write(&cluster, other, "without-it").await;
    let next = cluster.leader().await;
    let status = cluster.status(next).await.expect("its status");
    assert!(status.raft_term > terms, "{status:?}");
    cluster.member(leader).restart().await;
    assert!(write(&cluster, leader, "with-it-again").await > written);
    cluster.assert_equal().await;
}

#[tokio::test]
async fn genuine_etcdctl_sees_one_cluster_of_three() {
    let cluster = Cluster::start(Kind::Keystead, 3, &[])
        .await
        .expect("only etcd may be missing");
    let leader = cluster.leader().await;
    let addresses: Vec<_> = cluster.members().iter().map(|it| it.address()).collect();
    let Some(listed) = etcdctl(&addresses[..1], &["member", "list"]).await else {
        return;
    };
    for member in 0..3 {
        let line = listed
            .lines()
            .find(|line| line.contains(&format!(" m{member},")));
        let line = line.unwrap_or_else(|| panic!("no m{member} in {listed}"));
        assert!(
            line.contains(", started, ") && line.ends_with(", false"),
            "{line}"
        );
    }
    let status = etcdctl(
        &addresses[1..2],
        &["endpoint", "status", "--cluster", "-w", "simple"],
    )
    .await;
    let status = status.unwrap_or_default();
    let leaders = status
        .lines()
        .filter(|line| line.contains(", true, "))
        .count();
    assert_eq!((status.lines().count(), leaders), (3, 1), "{status}");
    etcdctl(&addresses[..1], &["put", "greeting", "hello"]).await;
    let got = etcdctl(&addresses[2..], &["get", "greeting", "--print-value-only"]).await;
    assert_eq!(got.as_deref(), Some("hello\n"));
    let target = (leader + 1) % 3;
    let list = MemberListRequest { linearizable: true };
    let members = list.send(cluster.channel(target)).await.expect("a list");
    let id = members.header.expect("every answer has one").member_id;
    etcdctl(
        &addresses[leader..=leader],
        &["move-leader", &format!("{id:x}")],
    )
    .await;
    assert_eq!(cluster.leader().await, target);
    etcdctl(&addresses[target..=target], &["put", "greeting", "goodbye"]).await;
    let got = etcdctl(
        &addresses[leader..=leader],
        &["get", "greeting", "--print-value-only"],
    )
    .await;
    assert_eq!(got.as_deref(), Some("goodbye\n"));
}

#[tokio::test]
async fn members_wait_for_each_other_in_any_order_and_a_minority_serves_what_it_knows() {
    let mut cluster = Cluster::prepare(Kind::Keystead, 3, &[])
        .await
        .expect("only etcd may be missing");
    cluster.member(2).launch();
    sleep(Duration::from_millis(500)).await;
    assert!(
        cluster.member(2).ended().is_none(),
        "it waits for the others"
    );
    cluster.member(0).launch();
    cluster.ready().await;
    write(&cluster, 2, "by-two").await;
    cluster.member(1).launch();
    cluster.ready().await;
    assert_eq!(
        read(&cluster, 1, "by-two").await.as_deref(),
        Some(b"value".as_slice())
    );

    for member in 0..2 {
        cluster.member(member).kill();
    }
    cluster.member(2).kill();
    cluster.member(2).launch();
    let serializable = RangeRequest {
        key: "by-two".into(),
        serializable: true,
        ..RangeRequest::default()
    };
    let begin = Instant::now();
    let found = loop {
        match serializable.clone().send(cluster.channel(2)).await {
            Ok(answer) => break answer,
            Err(status) => assert!(begin.elapsed() < PATIENCE, "{status}"),
        }
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(found.kvs.len(), 1);
    let refused = put("alone", "value").send(cluster.channel(2)).await;
    let refused = refused.expect_err("there is no majority");
    assert_eq!(refused.message(), "etcdserver: request timed out");
    cluster.member(0).restart().await;
    write(&cluster, 2, "together").await;
}

#[tokio::test]
async fn members_come_and_go_whichever_member_is_asked() {
    let mut cluster = Cluster::start(Kind::Keystead, 3, &[])
        .await
        .expect("only etcd may be missing");
    cluster.ready().await;
    for asked in 0..3 {
        // A learner that nobody starts takes no part in anything.
        let addition = MemberAddRequest {
            peer_urls: vec![format!("http://127.0.0.1:{}", 1 + asked)],
            is_learner: true,
        };
        let added = addition.clone().send(cluster.channel(asked)).await;
        let added = added.expect("the leader makes the change");
        let learner = added.member.expect("the new one").id;
        assert_eq!(added.members.len(), 4, "through m{asked}");
        let again = addition.send(cluster.channel(asked)).await;
        let again = again.expect_err("there is one at that address");
        // Within the same second even the id is the same.
        assert!(again.message().contains("already exist"), "{again}");
        let removal = MemberRemoveRequest { id: learner };
        let removed = removal.send(cluster.channel(asked)).await;
        let removed = removed.expect("the leader makes the change");
        assert_eq!(removed.members.len(), 3, "through m{asked}");
    }
}

/// The entry that makes a second voter waits for that voter, which asks who the members are before it is there.
#[tokio::test]
async fn a_lone_member_grows_to_three_and_a_new_directory_under_an_old_id_is_refused() {
    let mut cluster = Cluster::prepare_with_spares(Kind::Keystead, 1, 2, &[])
        .await
        .expect("only etcd may be missing");
    cluster.member(0).launch();
    cluster.ready().await;
    write(&cluster, 0, "alone").await;
    for new in 1..3 {
        let addition = MemberAddRequest {
            peer_urls: vec![format!("http://{}", cluster.network().address(new))],
            ..MemberAddRequest::default()
        };
        let begin = Instant::now();
        let added = loop {
            match addition.clone().send(cluster.channel(new - 1)).await {
                Ok(added) => break added,
                // The last one is there, but the leader has yet to hear that it has a name.
                Err(status) => assert!(begin.elapsed() < PATIENCE, "m{new}: {status}"),
            }
            sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(added.members.len(), new + 1);
        cluster.member(new).launch();
        cluster.ready().await;
        assert!(read(&cluster, new, "alone").await.is_some(), "m{new}");
        write(&cluster, new, "together").await;
    }

    cluster.member(2).kill();
    cluster.member(2).wipe();
    let refused = cluster.member(2).try_restart().await;
    assert!(refused.is_err(), "it has a vote that it knows nothing of");
    let log = cluster.member(2).log();
    assert!(log.contains("has already been bootstrapped"), "{log}");
    write(&cluster, 1, "without-it").await;
}
