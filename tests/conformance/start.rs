//! How a member is started: what is refused with which exit code and words, the configuration file, socket files.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keystead_tests::{Kind, Server, oracle};

const BOTH: [Kind; 2] = [Kind::Etcd, Kind::Keystead];

/// Starts a server that must refuse, and gives its exit code and what it wrote; `None` when it is etcd and there is none.
async fn refused(
    kind: Kind,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Option<(Option<i32>, String)> {
    let mut server = Server::prepare(kind, arguments, environment)?;
    let ended = server.try_restart().await;
    let status = ended.expect_err(&format!("{kind:?} refuses {arguments:?} {environment:?}"));
    // A sentence in a line of the log has its quotes escaped.
    Some((status.code(), server.log().replace("\\\"", "\"")))
}

#[tokio::test]
async fn what_cannot_be_started_is_refused_with_etcds_exit_code_and_words() {
    let flags = [
        ("--nope", 2, "flag provided but not defined: -nope"),
        ("word", 1, "\"word\" is not a valid flag"),
        ("--name", 2, "flag needs an argument: -name"),
        (
            "--max-txn-ops=many",
            2,
            "invalid value \"many\" for flag -max-txn-ops: parse error",
        ),
        (
            "--quota-backend-bytes=9223372036854775808",
            2,
            "invalid value \"9223372036854775808\" for flag -quota-backend-bytes: value out of range",
        ),
        (
            "--pre-vote=maybe",
            2,
            "invalid boolean value \"maybe\" for -pre-vote: parse error",
        ),
        (
            "--grpc-keepalive-timeout=5",
            2,
            "invalid value \"5\" for flag -grpc-keepalive-timeout: parse error",
        ),
        (
            "--listen-client-urls=ftp://x",
            2,
            "for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: ftp://x",
        ),
        (
            "--listen-client-urls=http://127.0.0.1:x",
            2,
            "parse \"http://127.0.0.1:x\": invalid port \":x\" after host",
        ),
        (
            "--listen-client-urls=http://example.com:80",
            1,
            "expected IP in URL for binding (http://example.com:80)",
        ),
        (
            "--advertise-client-urls=http://:1",
            1,
            "--advertise-client-urls \"http://:1\" must be \"host:port\" (unexpected empty host (http://:1))",
        ),
        (
            "--heartbeat-interval=0",
            1,
            "--heartbeat-interval must be >0 (set to 0ms)",
        ),
        (
            "--election-timeout=300",
            1,
            "--election-timeout[300ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        (
            "--auto-compaction-mode=never",
            1,
            "unknown auto-compaction-mode \"never\"",
        ),
        (
            "--auto-compaction-retention=x",
            1,
            "error parsing CompactionRetention: time: invalid duration \"x\"",
        ),
        (
            "--initial-cluster-state=old",
            2,
            "invalid value \"old\" for flag -initial-cluster-state: invalid value",
        ),
        (
            "--initial-cluster=m1=http://localhost:2380",
            1,
            "couldn't find local name \"default\" in the initial cluster configuration",
        ),
        (
            "--initial-cluster=default=http://localhost:9",
            1,
            "--initial-cluster has default=http://localhost:9 but missing from --initial-advertise-peer-urls=",
        ),
        (
            "--feature-gates=Nope=true",
            2,
            "invalid value \"Nope=true\" for flag -feature-gates: unrecognized feature gate: Nope",
        ),
        (
            "--feature-gates=LeaseCheckpointPersist=true",
            1,
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
        (
            "--experimental-enable-lease-checkpoint-persist",
            1,
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
        ("--config-file=none.yml", 1, "open none.yml: "),
    ];
    for kind in BOTH {
        for (argument, code, sentence) in flags {
            let Some((ended, log)) = refused(kind, &[argument], &[]).await else {
                break;
            };
            assert_eq!(ended, Some(code), "{kind:?} {argument}: {log}");
            assert!(log.contains(sentence), "{kind:?} {argument}: {log}");
        }
        for (name, value, sentence) in [
            (
                "ETCD_MAX_TXN_OPS",
                "many",
                "invalid value \"many\" for ETCD_MAX_TXN_OPS: parse error",
            ),
            (
                "ETCD_NAME",
                "other",
                "is shadowed by corresponding command-line flag",
            ),
        ] {
            let Some((ended, log)) = refused(kind, &[], &[(name, value)]).await else {
                break;
            };
            assert_eq!(ended, Some(1), "{kind:?} {name}: {log}");
            assert!(log.contains(sentence), "{kind:?} {name}: {log}");
        }
    }
}

/// A server that reads its configuration from `directory`, with `options` beside its addresses and its data.
fn from_file(kind: Kind, directory: &Path, options: &str) -> Option<Server> {
    let file = directory.join(format!("{kind:?}.yml"));
    let arguments = ["--config-file", file.to_str().expect("a name of text")];
    // No flag but this one is looked at.
    let server = Server::prepare(kind, &arguments, &[("ETCD_MAX_TXN_OPS", "1")])?;
    let data = directory.join(format!("{kind:?}.data"));
    let text = options
        .replace("DATA", &data.display().to_string())
        .replace("CLIENT", &format!("http://{}", server.address()));
    std::fs::write(&file, text).expect("the file can be written");
    Some(server)
}

/// What etcdctl prints.
fn etcdctl(endpoint: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(oracle("etcdctl")?)
        .args(["--endpoints", endpoint, "--command-timeout=20s"])
        .args(words)
        .output()
        .expect("etcdctl runs");
    assert!(output.status.success(), "etcdctl {words:?}: {output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn the_same_file_starts_etcd_and_keystead() {
    let options = "
name: m1
data-dir: DATA
listen-client-urls: CLIENT
listen-peer-urls: http://127.0.0.1:0
advertise-client-urls: CLIENT
initial-cluster: m1=http://localhost:2380
initial-cluster-state: new
max-txn-ops: 2
quota-backend-bytes: 100000000
watch-progress-notify-interval: 5000000000
auto-compaction-mode: periodic
auto-compaction-retention: \"1\"
log-outputs: [stderr]
log-level: info
strict-reconfig-check: yes
feature-gates: AllAlpha=true
client-transport-security:
  client-cert-auth: false
no-such-option: 5
";
    for kind in BOTH {
        let directory = tempfile::tempdir().expect("a directory");
        let Some(mut server) = from_file(kind, directory.path(), options) else {
            continue;
        };
        server.restart().await;
        assert!(directory.path().join(format!("{kind:?}.data")).exists());
        let log = server.log();
        assert!(
            log.contains("flags and environment variables will be ignored"),
            "{kind:?}: {log}"
        );
        let endpoint = server.address().to_string();
        let Some(members) = etcdctl(&endpoint, &["member", "list"]) else {
            continue;
        };
        let advertised = format!("started, m1, http://localhost:2380, http://{endpoint}");
        assert!(members.contains(&advertised), "{kind:?}: {members}");
        let status = etcdctl(&endpoint, &["endpoint", "status", "-w", "json"]).unwrap_or_default();
        assert!(
            status.contains("\"dbSizeQuota\":100000000"),
            "{kind:?}: {status}"
        );
    }
}

#[tokio::test]
async fn a_file_with_a_value_of_another_type_is_refused() {
    for kind in BOTH {
        for option in [
            "max-txn-ops: many",
            "name: 5",
            "watch-progress-notify-interval: 5s",
            "auto-compaction-retention: 1",
            "log-outputs: stderr",
        ] {
            let directory = tempfile::tempdir().expect("a directory");
            let options = format!("data-dir: DATA\n{option}\n");
            let Some(mut server) = from_file(kind, directory.path(), &options) else {
                break;
            };
            let ended = server.try_restart().await.expect_err(option);
            assert_eq!(ended.code(), Some(1), "{kind:?} {option}");
            let (key, _) = option.split_once(':').expect("a key");
            let log = server.log();
            assert!(log.contains("failed to verify flags"), "{kind:?}: {log}");
            assert!(log.contains(key), "{kind:?}: {log}");
        }
    }
}

#[tokio::test]
async fn a_socket_file_is_served_replaced_after_a_crash_and_removed_at_the_stop() {
    for kind in BOTH {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("etcd:2379");
        let url = format!("unix://{}", socket.display());
        let options = format!(
            "data-dir: DATA\nlisten-client-urls: CLIENT,{url}\nlisten-peer-urls: http://127.0.0.1:0\n"
        );
        let Some(mut server) = from_file(kind, directory.path(), &options) else {
            continue;
        };
        for round in 0..2 {
            server.restart().await;
            let value = round.to_string();
            etcdctl(&url, &["put", "greeting", &value]);
            if let Some(answer) = etcdctl(&url, &["get", "greeting", "--print-value-only"]) {
                assert_eq!(answer.trim(), value, "{kind:?}");
            }
            server.kill();
            assert!(socket.exists(), "{kind:?} had no time to remove it");
        }
        server.restart().await;
        server.terminate();
        assert!(!socket.exists(), "{kind:?} removes it");
    }
}

/// How long a member may take to come up or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_member_tied_to_its_standard_input_stops_when_that_ends() {
    let server = Server::prepare(Kind::Keystead, &["--stop-with-stdin"], &[]).expect("ours");
    let words = server.command_line();
    let mut member = Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let begin = Instant::now();
    while std::net::TcpStream::connect(server.address()).is_err() {
        assert_eq!(member.try_wait().expect("its state"), None);
        assert!(begin.elapsed() < PATIENCE, "it does not listen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begin = Instant::now();
    drop(member.stdin.take());
    let ended = loop {
        if let Some(ended) = member.try_wait().expect("its state") {
            break ended;
        }
        assert!(begin.elapsed() < PATIENCE, "it runs on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(ended.code(), Some(0));
}
