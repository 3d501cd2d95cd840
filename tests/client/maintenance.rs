//! Members, status, hashes, alarms, defragmentation and snapshots.

use std::process::Command;

use keystead_client::{KeyRange, Kind, Op, Put, Range, Txn};
use keystead_tests::{Kind as Program, Server, oracle};

use super::{client, on_each};

#[tokio::test]
async fn a_member_says_who_and_how_it_is() {
    on_each(async |server| {
        let client = client(server);
        let written = client.put("k", "v").await.expect("a put").header;
        let members = client.members().await.expect("a list");
        let [member] = &members.members[..] else {
            panic!("{members:?}");
        };
        assert_eq!(
            (member.id, member.name.as_str()),
            (written.member_id, "default")
        );
        assert_eq!(member.client_urls, [format!("http://{}", server.address())]);
        assert!(!member.is_learner);
        let alone = client.members_of_one().await.expect("a list");
        assert_eq!(alone.members, members.members);
        let status = client.status().await.expect("a status");
        assert_eq!(
            (status.leader, status.header.revision),
            (member.id, written.revision)
        );
        assert!(status.version.starts_with("3."), "{status:?}");
        assert!(
            status.db_size_bytes > 0 && status.raft_applied_index > 0,
            "{status:?}"
        );
        assert_eq!(status.errors, [""; 0]);
        assert!(status.downgrade.is_some_and(|downgrade| !downgrade.enabled));
        assert!(client.alarms().await.expect("a list").alarms.is_empty());
        let error = client
            .move_leader(1)
            .await
            .expect_err("there is no such member");
        assert_eq!(error.kind, Kind::FailedPrecondition, "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_hash_is_that_of_a_revision_and_a_defragmentation_leaves_it() {
    on_each(async |server| {
        let client = client(server);
        let revision = client.put("k", "1").await.expect("a put").header.revision;
        let first = client.hash(0).await.expect("a hash");
        client.put("k", "2").await.expect("a put");
        assert_ne!(client.hash(0).await.expect("a hash").hash, first.hash);
        client.defragment().await.expect("it can be done");
        let again = client.hash(revision).await.expect("a hash");
        assert_eq!((again.hash, again.revision), (first.hash, revision));
        let error = client.hash(revision + 9).await.expect_err("too far");
        assert_eq!(error.kind, Kind::FutureRevision);
    })
    .await;
}

#[tokio::test]
async fn a_full_store_raises_an_alarm_that_can_be_taken_back() {
    for kind in super::SERVERS {
        let Some(server) = Server::start(kind, &["--quota-backend-bytes", "1000000"], &[]).await
        else {
            continue;
        };
        let client = client(&server);
        let mut written = Ok(());
        for number in 0..200 {
            let put = client.put(format!("k{number}"), vec![7; 50_000]).await;
            written = put.map(drop);
            if written.is_err() {
                break;
            }
        }
        assert_eq!(written.expect_err("it is full").kind, Kind::NoSpace);
        // It is raised through the log, which the refused put did not wait for.
        let mut alarms = Vec::new();
        while alarms.is_empty() {
            alarms = client.alarms().await.expect("a list").alarms;
        }
        let [alarm] = alarms[..] else {
            panic!("{alarms:?}");
        };
        let taken_back = client.disarm(alarm).await.expect("it can be done").alarms;
        assert_eq!(taken_back, [alarm]);
        assert!(client.alarms().await.expect("a list").alarms.is_empty());
    }
}

#[tokio::test]
async fn a_snapshot_is_saved_with_its_digest_and_etcd_takes_it() {
    on_each(async |server| {
        let client = client(server);
        for part in 0..20 {
            let put = |number| Op::Put(Put::new(format!("k{part}/{number}"), vec![part; 2000]));
            client
                .txn(Txn::when([]).then((0..100).map(put)))
                .await
                .expect("a txn");
        }
        let count = client
            .range(Range::new(KeyRange::all()))
            .await
            .expect("a range")
            .count;
        let path = server.directory().join("snapshot.db");
        let mut told = Vec::new();
        let saved = client
            .save_snapshot(&path, |progress| told.push(progress))
            .await;
        let saved = saved.expect("it is saved");
        let size = std::fs::metadata(&path).expect("it is there").len();
        assert_eq!(saved.size_bytes, size);
        let last = told.last().expect("there was progress");
        assert_eq!(last.received_bytes, size);
        assert!(told.is_sorted_by_key(|progress| progress.received_bytes));
        // A directory that is not there: the error is ours and says which file.
        let nowhere = server.directory().join("nowhere/snapshot.db");
        let error = client
            .save_snapshot(&nowhere, |_| {})
            .await
            .expect_err("no directory");
        assert_eq!(error.kind, Kind::File);
        assert!(error.message.contains("nowhere"), "{error}");
        if let Some(etcdutl) = oracle("etcdutl") {
            let status = Command::new(etcdutl)
                .args(["snapshot", "status", "-w", "json"])
                .arg(&path)
                .output()
                .expect("etcdutl runs");
            let text = String::from_utf8_lossy(&status.stdout);
            assert!(status.status.success(), "{text}");
            assert!(text.contains("\"totalKey\":"), "{text}");
            assert_eq!(count, 2000);
        }
    })
    .await;
}

#[tokio::test]
async fn members_come_as_learners_and_go() {
    // A Keystead of several members is not there yet.
    let Some(server) = Server::start(Program::Etcd, &[], &[]).await else {
        return;
    };
    let client = client(&server);
    let urls = |port: u16| vec![format!("http://127.0.0.1:{port}")];
    let added = client.add_member(urls(1), true).await.expect("a learner");
    assert_eq!((added.members.len(), added.member.is_learner), (2, true));
    let error = client
        .add_member(urls(1), true)
        .await
        .expect_err("it is there");
    assert_eq!(error.kind, Kind::FailedPrecondition, "{error}");
    let id = added.member.id;
    let updated = client
        .update_member(id, urls(2))
        .await
        .expect("another URL");
    let member = updated.members.iter().find(|member| member.id == id);
    assert_eq!(member.expect("it is there").peer_urls, urls(2));
    let error = client.promote_member(id).await.expect_err("it never ran");
    assert_eq!(error.kind, Kind::FailedPrecondition, "{error}");
    let left = client.remove_member(id).await.expect("it is there").members;
    assert_eq!(left.len(), 1);
    let error = client.remove_member(id).await.expect_err("it is gone");
    assert_eq!(error.kind, Kind::NotFound, "{error}");
}
