//! Members that store something else than the others, on Keystead and, where it can be built, on real etcd: each of the
//! three checks finds them, they are told by name, and nothing is written until the alarm is disarmed. And none is raised
//! where nothing is wrong.

mod quiet;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use bytes::Bytes;
use keystead_mvcc::{Opened, Options, Row, Store};
use keystead_proto::etcdserverpb::alarm_request::AlarmAction;
use keystead_proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, PutRequest, RangeRequest,
};
use keystead_tests::{Cluster, Kind, Unary, eventually, oracle};
use tonic::{Code, Status};

/// What one member's disk makes of a value, without any sign of it.
const WRITTEN: &[u8] = b"as it was written";
const ALTERED: &[u8] = b"as it was altered";
const KEY: &str = "k";

/// Runs a test on a fresh cluster of three of each program, one after the other.
async fn on_each(arguments: &[&str], test: impl AsyncFn(&mut Cluster)) {
    for kind in [Kind::Etcd, Kind::Keystead] {
        match Cluster::start(kind, 3, arguments).await {
            Some(mut cluster) => {
                println!("on {kind:?}");
                test(&mut cluster).await;
            }
            None => println!("skipped on {kind:?}: there is none"),
        }
    }
}

async fn put(cluster: &Cluster, member: usize, value: &[u8]) -> Result<(), Status> {
    let request = PutRequest {
        key: KEY.into(),
        value: Bytes::copy_from_slice(value),
        ..PutRequest::default()
    };
    request.send(cluster.channel(member)).await.map(drop)
}

/// The value, as this member has it on its disk.
async fn stored(cluster: &Cluster, member: usize) -> Result<Bytes, Status> {
    let request = RangeRequest {
        key: KEY.into(),
        serializable: true,
        ..RangeRequest::default()
    };
    let mut answer = request.send(cluster.channel(member)).await?;
    Ok(answer.kvs.pop().expect("the key is there").value)
}

/// The alarms that a member lists: whose, and which.
async fn alarms(cluster: &Cluster, member: usize) -> Option<Vec<(u64, i32)>> {
    let request = AlarmRequest {
        action: AlarmAction::Get.into(),
        ..AlarmRequest::default()
    };
    let listed = request.send(cluster.channel(member)).await.ok()?.alarms;
    Some(listed.iter().map(|it| (it.member_id, it.alarm)).collect())
}

/// Waits for an alarm, which must be that this member is corrupt. What etcd says of a follower when another one leads than was
/// altered depends on who leads.
async fn expect_alarm(cluster: &Cluster, asked: usize, culprit: u64) {
    let raised = eventually("an alarm", async || {
        alarms(cluster, asked).await.filter(|it| !it.is_empty())
    })
    .await;
    let corrupt = AlarmType::Corrupt as i32;
    assert_eq!(raised.first().map(|it| it.1), Some(corrupt));
    if cluster.kind() == Kind::Keystead {
        assert_eq!(raised, [(culprit, corrupt)]);
    }
}

async fn id_of(cluster: &Cluster, member: usize) -> u64 {
    let status = cluster.status(member).await.expect("it runs");
    status.header.expect("every answer has one").member_id
}

/// Writes a value, and alters it on the disk of a follower, which is stopped then. Gives another follower's place, the altered
/// one's, and its id.
async fn alter_a_follower(cluster: &mut Cluster, alter: fn(Kind, &Path)) -> (usize, usize, u64) {
    put(cluster, 0, WRITTEN).await.expect("a write");
    cluster.assert_equal().await;
    let leader = cluster.leader().await;
    let (altered, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = id_of(cluster, altered).await;
    tokio::task::block_in_place(|| cluster.member(altered).terminate());
    let kind = cluster.kind();
    alter(kind, Path::new(cluster.member(altered).flag("--data-dir")));
    (other, altered, id)
}

/// Writes another value where the stopped member has this one, and whatever its format needs to take it for what was written.
fn alter_unnoticed(kind: Kind, data: &Path) {
    match kind {
        // Nothing in its file tells.
        Kind::Etcd => alter_bytes(&data.join("member/snap/db")),
        Kind::Keystead => alter_rows(&data.join("store")),
    }
}

/// Builds the store anew from its own rows, with the value altered.
fn alter_rows(store: &Path) {
    let options = Options::default();
    let opened = Store::open(store, &options).expect("a store that nobody uses");
    let Opened {
        store, mut flusher, ..
    } = opened;
    let mut export = store.export().expect("it can be read");
    let mut import = flusher.begin_import().expect("there is space");
    let mut altered = 0;
    loop {
        let rows = export.rows(1 << 20).expect("they can be read");
        if rows.is_empty() {
            break;
        }
        let rows = rows.into_iter().map(|row| Row {
            payload: replaced(&row.payload, &mut altered).into(),
            ..row
        });
        import.rows(rows).expect("there is space");
    }
    assert!(altered > 0, "the value is in no row");
    let imported = import.finish(export.cut(), export.tables());
    drop(export);
    flusher
        .install(imported.expect("there is space"))
        .expect("the place is free");
}

/// Alters the bytes of a file, and nothing else.
fn alter_bytes(file: &Path) {
    let mut altered = 0;
    let content = replaced(&fs::read(file).expect("it is there"), &mut altered);
    assert!(altered > 0, "the value is not in {}", file.display());
    fs::write(file, content).expect("it can be written");
}

fn replaced(bytes: &[u8], count: &mut usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len().saturating_sub(WRITTEN.len() - 1) {
        if bytes[at..].starts_with(WRITTEN) {
            bytes[at..at + ALTERED.len()].copy_from_slice(ALTERED);
            *count += 1;
        }
    }
    bytes
}

/// Runs genuine etcdctl, where there is one, beside the links between the members, which this runtime carries.
async fn etcdctl(cluster: &Cluster, member: usize, words: &[&str]) -> Option<Output> {
    let endpoint = cluster.members()[member].address().to_string();
    let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
    let running = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(oracle("etcdctl")?);
        command.args(["--command-timeout=60s", "--endpoints", &endpoint]);
        Some(command.args(&words).output().expect("etcdctl can be run"))
    });
    running.await.expect("etcdctl was run")
}

/// What etcdctl prints of the alarms of one member.
async fn etcdctl_lists(cluster: &Cluster, asked: usize, words: &[&str], id: u64) {
    let Some(output) = etcdctl(cluster, asked, words).await else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if cluster.kind() == Kind::Keystead {
        assert_eq!(said, format!("memberID:{id} alarm:CORRUPT \n"), "{words:?}");
    } else {
        assert!(said.ends_with(" alarm:CORRUPT \n"), "{words:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_names_who_stores_something_else_and_nothing_is_written_until_the_alarm_is_disarmed()
 {
    on_each(&["--corrupt-check-time", "300ms"], async |cluster| {
        let (other, altered, id) = alter_a_follower(cluster, alter_unnoticed).await;
        cluster.member(altered).launch();
        cluster.ready().await;
        assert_eq!(stored(cluster, altered).await.expect("a row"), ALTERED);
        expect_alarm(cluster, other, id).await;
        etcdctl_lists(cluster, other, &["alarm", "list"], id).await;
        for member in 0..3 {
            let refused = eventually("the alarm to be applied", async || {
                put(cluster, member, b"later").await.err()
            })
            .await;
            let said = (refused.code(), refused.message());
            assert_eq!(said, (Code::DataLoss, "etcdserver: corrupt cluster"));
        }
        assert_eq!(stored(cluster, other).await.expect("a read"), WRITTEN);
        if let Some(output) = etcdctl(cluster, other, &["put", KEY, "later"]).await {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("etcdserver: corrupt cluster"), "{said}");
        }
        etcdctl_lists(cluster, other, &["alarm", "disarm"], id).await;
        // Nothing has become better.
        expect_alarm(cluster, other, id).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_compaction_leaves_tells_who_stores_something_else() {
    let checks = [
        "--feature-gates",
        "CompactHashCheck=true",
        "--compact-hash-check-time",
        "300ms",
    ];
    on_each(&checks, async |cluster| {
        let (other, altered, id) = alter_a_follower(cluster, alter_unnoticed).await;
        cluster.member(altered).launch();
        cluster.ready().await;
        let status = cluster.status(other).await.expect("it runs");
        let request = CompactionRequest {
            revision: status.header.expect("every answer has one").revision,
            physical: false,
        };
        let compacted = request.send(cluster.channel(other)).await;
        compacted.expect("nothing is compacted yet");
        expect_alarm(cluster, other, id).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_stores_something_else_does_not_start_where_it_is_to_check_first() {
    let check = ["--feature-gates", "InitialCorruptCheck=true"];
    on_each(&check, async |cluster| {
        let (other, altered, id) = alter_a_follower(cluster, alter_unnoticed).await;
        let ended = cluster.member(altered).try_restart().await;
        let ended = ended.expect_err("it is to be replaced");
        let log = cluster.member(altered).log();
        assert_eq!(ended.code(), Some(1), "{log}");
        let sentence = format!("{id:x} found data inconsistency with peers");
        assert!(log.contains(&sentence), "{log}");
        cluster.member(altered).kill();
        put(cluster, other, b"later").await.expect("two are left");
        assert_eq!(alarms(cluster, other).await, Some(Vec::new()));
        tokio::task::block_in_place(|| cluster.member(other).terminate());
        cluster.member(other).restart().await;
        let log = cluster.member(other).log();
        assert!(log.contains("initial corruption checking passed"), "{log}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_whose_checksum_fails_is_refused_and_told_as_corruption_of_its_member() {
    let mut cluster = Cluster::start(Kind::Keystead, 3, &[])
        .await
        .expect("only etcd may be missing");
    let alter = |_, data: &Path| {
        let environments = fs::read_dir(data.join("store")).expect("a store");
        let files = environments.map(|it| it.expect("readable").path().join("data.mdb"));
        files
            .filter(|it| it.exists())
            .for_each(|it| alter_bytes(&it));
    };
    let (other, altered, id) = alter_a_follower(&mut cluster, alter).await;
    cluster.member(altered).launch();
    cluster.ready().await;
    assert_eq!(alarms(&cluster, other).await, Some(Vec::new()));
    let refused = stored(&cluster, altered).await.expect_err("it is damaged");
    let said = (refused.code(), refused.message());
    assert_eq!(said, (Code::DataLoss, "etcdserver: corrupt cluster"));
    expect_alarm(&cluster, other, id).await;
    assert_eq!(stored(&cluster, other).await.expect("it is sound"), WRITTEN);
}
