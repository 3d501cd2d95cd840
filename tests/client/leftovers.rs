//! What opens and closes leaves nothing behind, and what is long is read a piece at a time. Memory and descriptors are a process's own, so
//! each of these runs in one without other tests: this binary again, with one of the ignored tests below.

use std::env;
use std::fs;
use std::process::Command;
use std::time::Duration;

use futures::future::join_all;
use keystead_client::{Client, ConnectOptions, KeyRange, Notice, Op, Put, Txn, Watch};
use keystead_tests::Server;

use super::{PATIENCE, eventually, keys_below, on_each};

/// Where the process of its own finds the member.
const MEMBER: &str = "KEYSTEAD_TEST_MEMBER";
/// So many are open at a time.
const AT_ONCE: usize = 20;
const MB: u64 = 1 << 20;

fn long() -> bool {
    env::var_os("KEYSTEAD_TEST_LONG").is_some()
}

/// Runs one of the ignored tests against `server` in a process of its own.
async fn run_alone(name: &str, server: &Server) {
    let mut command = Command::new(env::current_exe().expect("a test has a path"));
    command
        .args(["--exact", "--ignored", "--nocapture"])
        .arg(format!("client::leftovers::{name}"))
        .env(MEMBER, format!("http://{}", server.address()));
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = run.await.expect("it runs").expect("it can be started");
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{:?}: {told}", server.kind());
    let ran = output.status.success() && told.contains("1 passed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(ran, "{:?}: {told}{said}", server.kind());
}

#[tokio::test]
async fn watches_leases_and_locks_that_come_and_go_leave_nothing_behind() {
    on_each(async |server| run_alone("come_and_go", server).await).await;
}

#[tokio::test]
async fn a_long_history_is_replayed_in_little_memory() {
    on_each(async |server| run_alone("replay", server).await).await;
}

fn member() -> Client {
    let endpoint = env::var(MEMBER).expect("it is run by a test above");
    let mut options = ConnectOptions::new([endpoint]);
    options.call.deadline = PATIENCE;
    Client::lazy(options).expect("the URL is one")
}

/// Anonymous memory of this process.
fn anonymous_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let line = line.expect("the kernel tells RssAnon");
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>();
    kilobytes.expect("a number") * 1024
}

fn descriptors() -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("the kernel tells");
    open.count()
}

fn tasks() -> usize {
    let runtime = tokio::runtime::Handle::current();
    runtime.metrics().num_alive_tasks()
}

/// Opens and closes `AT_ONCE` of each; every other one is merely dropped.
async fn round(client: &Client) {
    let watch = || Watch::new(KeyRange::prefix("watched/"));
    let watchers = join_all((0..AT_ONCE).map(|_| client.watch(watch()))).await;
    for (number, watcher) in watchers.into_iter().enumerate() {
        let watcher = watcher.expect("it is watched");
        if number % 2 == 0 {
            watcher.cancel();
        }
    }
    let minute = Duration::from_secs(60);
    let sessions = join_all((0..AT_ONCE).map(|_| client.session(minute))).await;
    let close = async |number: usize, session: keystead_client::Session| {
        if number.is_multiple_of(2) {
            session.close().await.expect("it is there");
        }
    };
    let closing = sessions.into_iter().enumerate();
    join_all(closing.map(|(number, session)| close(number, session.expect("it is granted")))).await;
    let lock = async |number: usize| {
        let guard = client.lock(format!("locks/{number}")).lock().await;
        let guard = guard.expect("nobody else is there");
        if number.is_multiple_of(2) {
            guard.unlock().await.expect("it is held");
        }
    };
    join_all((0..AT_ONCE).map(lock)).await;
}

#[tokio::test]
#[ignore = "a test above runs it in a process of its own"]
async fn come_and_go() {
    let rounds = if long() { 5_000 } else { 100 };
    let client = member();
    // What stays: the session that the locks share, its stream, and the watches'.
    let held = client.lock("held").lock().await.expect("nobody else");
    let watch = Watch::new(KeyRange::key("held/too"));
    let watcher = client.watch(watch).await.expect("it is watched");
    let idle = async || {
        eventually("the leases to go", async || {
            let leases = client.leases().await.expect("a list");
            (leases == [held.lease()]).then_some(())
        })
        .await;
        eventually("the locks to go", async || {
            (keys_below(&client, "locks/").await == 0).then_some(())
        })
        .await;
    };
    let resting = tasks();
    for _ in 0..rounds / 5 {
        round(&client).await;
    }
    idle().await;
    let (memory, open) = (anonymous_bytes(), descriptors());
    for _ in 0..rounds {
        round(&client).await;
    }
    idle().await;
    eventually("the tasks to end", async || {
        (tasks() <= resting).then_some(())
    })
    .await;
    eventually("the descriptors to be closed", async || {
        (descriptors() <= open).then_some(())
    })
    .await;
    let grown = anonymous_bytes().saturating_sub(memory);
    println!(
        "{} of each: {} KB more, {open} descriptors, {resting} tasks",
        rounds * AT_ONCE,
        grown / 1024
    );
    assert!(grown < 4 * MB, "{grown} bytes more");
    client.put("held/too", "v").await.expect("it is served");
    let notice = watcher.next().await.expect("it goes on");
    assert!(matches!(notice, Some(Notice::Events { .. })), "{notice:?}");
    assert!(held.held());
}

#[tokio::test]
#[ignore = "a test above runs it in a process of its own"]
async fn replay() {
    const TXN_PUTS: usize = 100;
    // Some times more than may be in memory.
    let (events, value_bytes) = if long() {
        (1_000_000, 200)
    } else {
        (40_000, 2_000)
    };
    let client = member();
    let value = bytes::Bytes::from(vec![7; value_bytes]);
    let put = |key| Op::Put(Put::new(format!("k/{key}"), value.clone()));
    for _ in 0..events / TXN_PUTS {
        let txn = Txn::when([]).then((0..TXN_PUTS).map(put));
        client.txn(txn).await.expect("it is written");
    }
    let most = read_all(&client, events, TXN_PUTS).await;
    println!(
        "{events} events of {value_bytes} bytes: {} KB more at most",
        most / 1024
    );
    // What waits for its reader and what is on its way, several times over.
    assert!(most < 24 * MB, "{most} bytes more");
}

/// Reads a history of so many events from its beginning, and gives how much memory that took at most.
async fn read_all(client: &Client, events: usize, txn_puts: usize) -> u64 {
    let before = anonymous_bytes();
    let watch = Watch {
        start_revision: 1,
        ..Watch::new(KeyRange::prefix("k/"))
    };
    let watcher = client.watch(watch).await.expect("it is watched");
    let (mut seen, mut last, mut most) = (0, 0, 0);
    while seen < events {
        let notice = watcher.next().await.expect("it goes on");
        if let Some(Notice::Events {
            revision, events, ..
        }) = notice
        {
            assert!(revision >= last, "{revision} after {last}");
            last = revision;
            seen += events.len();
            most = most.max(anonymous_bytes().saturating_sub(before));
            // A reader that is slower than its server.
            if (seen / txn_puts).is_multiple_of(50) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    assert_eq!(seen, events);
    most
}
