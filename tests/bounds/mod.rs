//! Memory and files stay bounded under clients that behave badly: one that never reads, one that never stops, hundreds that only
//! connect.

use std::fs;
use std::net::TcpStream;
use std::path::Path;

use futures::StreamExt;
use keystead_proto::etcdserverpb::watch_client::WatchClient;
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{CompactionRequest, WatchRequest};
use keystead_tests::{Kind, Server, Session, Unary};
use prost::Message;

use crate::conformance::requests::{put, watch};

const MB: u64 = 1 << 20;
const VALUE_BYTES: usize = 100_000;

/// Anonymous memory of a process.
fn anonymous_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .expect("the kernel tells RssAnon");
    line.trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .expect("a number")
        * 1024
}

/// Bytes of all files below a directory.
fn size_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(facts) if facts.is_dir() => size_bytes(&entry.path()),
            Ok(facts) => facts.len(),
            Err(_) => 0,
        })
        .sum()
}

#[tokio::test]
async fn watchers_that_never_read_cost_no_memory() {
    let mut s = Session::new(Server::keystead().await);
    let pid = s.server().pid();
    s.call(put("k", "first")).await.expect("a put");
    let before = anonymous_bytes(pid);
    let mut unread = Vec::new();
    for _ in 0..20 {
        // Each has a connection of its own, whose window fills after a few events.
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(watch("k", "", 1))),
        };
        let outgoing = futures::stream::iter([create]).chain(futures::stream::pending());
        let stream = WatchClient::new(s.server().channel())
            .watch(outgoing)
            .await
            .expect("the stream opens");
        unread.push(stream);
    }
    let value = "v".repeat(VALUE_BYTES);
    for _ in 0..3000 {
        put("k", &value)
            .send(s.channel())
            .await
            .expect("puts go on");
    }
    let grown = anonymous_bytes(pid).saturating_sub(before);
    assert!(
        grown < 150 * MB,
        "150 MB were written past 20 watchers and memory grew by {} MB",
        grown / MB
    );
}

#[tokio::test]
async fn the_log_stays_bounded_under_a_client_that_never_stops() {
    let mut s = Session::new(Server::keystead().await);
    let value = "v".repeat(VALUE_BYTES);
    let mut written = 0;
    for number in 0..4000 {
        let request = put("same", &value);
        written += request.encoded_len() as u64;
        let header = request
            .send(s.channel())
            .await
            .expect("puts go on")
            .header
            .expect("a header");
        if number % 200 == 199 {
            let compaction = CompactionRequest {
                revision: header.revision,
                physical: true,
            };
            compaction.send(s.channel()).await.expect("a compaction");
        }
    }
    let log = size_bytes(&s.server().directory().join("data/wal"));
    assert!(log > 0, "the log lies in the data directory");
    assert!(
        written > 380 * MB && log < 300 * MB,
        "{} MB written, {} MB of log",
        written / MB,
        log / MB
    );
    let all = log + size_bytes(&s.server().directory().join("data/store"));
    assert!(
        all < 600 * MB,
        "{} MB written and compacted, {} MB stored",
        written / MB,
        all / MB
    );
}

#[tokio::test]
async fn idle_connections_leave_the_log_and_the_store_their_files() {
    let arguments = [
        "--shards=2",
        "--wal-segment-bytes=1048576",
        "--flush-interval=20ms",
    ];
    let mut server = Server::prepare(Kind::Keystead, &arguments, &[]).expect("it is not etcd");
    server.limit_open_files(200);
    server.restart().await;
    let mut s = Session::new(server);
    s.call(put("k", "first")).await.expect("a put");
    // As many as there are files beside those in use. The kernel holds the ones that are not taken, even one that holds 128.
    let idle: Vec<TcpStream> = (0..160)
        .map(|_| TcpStream::connect(s.server().address()).expect("the port listens"))
        .collect();
    let value = "v".repeat(VALUE_BYTES);
    for number in 0..300 {
        put(&format!("k{number}"), &value)
            .send(s.channel())
            .await
            .expect("who was connected is served, and the log rolls over");
    }
    drop(idle);
    let newcomer = s.server().channel();
    put("k", "last").send(newcomer).await.expect("a put");
}
