//! The disk is full: the member keeps what it acknowledged, answers reads, refuses what grows, through a kill -9 too; and
//! an operator brings it back with what etcd has for that: deletes, compaction, defragmentation, `etcdctl alarm disarm`.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use keystead_proto::etcdserverpb::alarm_request::AlarmAction;
use keystead_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, DefragmentRequest, RangeResponse,
};
use keystead_tests::{Server, Unary, oracle};
use tempfile::TempDir;
use tonic::Code;

use crate::conformance::requests::{compact, delete_range, put, range};

/// What the member says while the alarm is raised; etcd's words.
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
/// Small enough that the disk is full after some hundred writes.
const LIMITS: [&str; 8] = [
    "--wal-segment-bytes",
    "1048576",
    "--flush-bytes",
    "262144",
    "--unflushed-limit-bytes",
    "1048576",
    "--flush-interval",
    "20ms",
];
const PATIENCE: Duration = Duration::from_secs(60);
const KEYS: usize = 32;

/// A file system of its own, let go of when the test ends.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, and a word about it past the capture of a test's output, where this process may mount nothing.
    fn mount() -> Option<SmallDisk> {
        let at = tempfile::tempdir().expect("a temporary directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=40m", "tmpfs"]);
        let mounted = mount.arg(at.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk(at));
        }
        let said = writeln!(
            std::io::stderr(),
            "skipped: no right to mount a tmpfs to fill"
        );
        said.expect("the standard error is open");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        umount.arg("-l").arg(self.path()).status().ok();
    }
}

#[tokio::test]
async fn a_member_on_a_full_disk_keeps_all_and_an_operator_brings_it_back() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let data = disk.path().join("data");
    let mut server = Server::keystead_at(&data, &LIMITS);
    server.restart().await;
    assert!(data.join("BALLAST").exists(), "{}", server.log());

    let full = fill(&server).await;
    assert_eq!(revisions(&server).await, full, "reads go on");
    assert!(!data.join("BALLAST").exists(), "its room is in use");
    server.kill();
    server.restart().await;
    assert_eq!(revisions(&server).await, full, "kept over a kill -9");
    wait_for_alarm(&server, true).await;

    // Disarmed though nothing was freed, it is raised again while there is room for what comes next.
    disarm(&server).await;
    let newest = fill(&server).await;
    wait_for_alarm(&server, true).await;

    let half = format!("k{:02}", KEYS / 2);
    let deleted = busy(&server, delete_range("k", &half)).await;
    let revision = deleted.header.expect("a header").revision;
    busy(&server, compact(revision)).await;
    busy(&server, DefragmentRequest {}).await;
    disarm(&server).await;
    busy(&server, put("after", "v")).await;
    wait_for_alarm(&server, false).await;
    let begin = Instant::now();
    while !data.join("BALLAST").exists() {
        assert!(begin.elapsed() < PATIENCE, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(revisions(&server).await, newest[KEYS / 2..]);
}

/// Writes until there is no space; the revision of each key then.
async fn fill(server: &Server) -> Vec<i64> {
    let value = "v".repeat(40_000);
    let mut newest = revisions(server).await;
    newest.resize(KEYS, 0);
    for number in 0..5000 {
        let key = format!("k{:02}", number % KEYS);
        match put(&key, &value).send(server.channel()).await {
            Ok(answer) => newest[number % KEYS] = answer.header.expect("a header").revision,
            Err(refused) if refused.message() == NO_SPACE => {
                assert_eq!(refused.code(), Code::ResourceExhausted);
                assert!(!newest.contains(&0), "only {number} writes before");
                return newest;
            }
            Err(refused) => assert!(is_busy(&refused), "{refused}"),
        }
    }
    panic!("the disk is never full; the log:\n{}", server.log());
}

/// Sends a request as often as the member has too much that waits for the disk.
async fn busy<R: Unary + Clone>(server: &Server, request: R) -> R::Answer {
    let begin = Instant::now();
    loop {
        match request.clone().send(server.channel()).await {
            Ok(answer) => return answer,
            Err(refused) => {
                let wait = is_busy(&refused) && begin.elapsed() < PATIENCE;
                assert!(wait, "{request:?}: {refused}; the log:\n{}", server.log());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn is_busy(refused: &tonic::Status) -> bool {
    refused.message().contains("too many requests")
}

/// The revisions of the keys that were filled in, by key.
async fn revisions(server: &Server) -> Vec<i64> {
    let read: RangeResponse = busy(server, range("k", "l")).await;
    read.kvs.iter().map(|kv| kv.mod_revision).collect()
}

/// With genuine etcdctl where there is one.
async fn disarm(server: &Server) {
    if let Some(etcdctl) = oracle("etcdctl") {
        let mut command = Command::new(etcdctl);
        command.args(["--endpoints", &server.address().to_string()]);
        let output = command.args(["alarm", "disarm"]).output();
        let output = output.expect("etcdctl can be run");
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("alarm:NOSPACE"), "{said}");
        return;
    }
    for AlarmMember { member_id, alarm } in alarms(server).await {
        let request = AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id,
            alarm,
        };
        busy(server, request).await;
    }
}

async fn alarms(server: &Server) -> Vec<AlarmMember> {
    busy(server, AlarmRequest::default()).await.alarms
}

async fn wait_for_alarm(server: &Server, raised: bool) {
    let begin = Instant::now();
    loop {
        let now = alarms(server).await;
        let no_space = |alarm: &AlarmMember| alarm.alarm() == AlarmType::Nospace;
        if now.len() == usize::from(raised) && now.iter().all(no_space) {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{now:?}: {}", server.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
