//! Watches of the client while the member is killed over and over, compacted, and put back to an older state. The nine rules are
//! judged against the history that the member itself tells in the end.

use std::collections::HashMap;
use std::env;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use keystead_client::{
    Client, Compact, ConnectOptions, Delete, Event, EventKind, KeyRange, KeyValue, Notice, OnGap,
    Op, Put, ResetCause, Scan, Txn, Watch, Watcher,
};
use keystead_tests::Server;
use tokio::time::{sleep, timeout};

use super::{client, on_each};

const KILLS: usize = 4;
const LONG_KILLS: usize = 40;
const WRITERS: usize = 4;
/// So many writes are answered between two kills.
const WRITES: usize = 80;
/// No step may take longer.
const LIMIT: Duration = Duration::from_secs(60);
/// The last key written: whoever has seen it has seen everything.
const END: &str = "k/end";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watch_keeps_the_nine_rules_through_kill_9() {
    let long = env::var_os("KEYSTEAD_TEST_LONG").is_some();
    on_each(async |server| {
        let kills = if long { LONG_KILLS } else { KILLS };
        let client = watching_client(server);
        let mut watches = Vec::new();
        for (name, watch, slow) in watches_to_judge() {
            let watcher = client.watch(watch).await.expect("the member runs");
            watches.push((name, slow, watcher));
        }
        let reading = watches
            .iter()
            .map(|(_, slow, watcher)| read_to_the_end(watcher, *slow));
        let reading = futures::future::join_all(reading);
        let (seen, ()) = tokio::join!(reading, write_and_kill(server, kills));
        let history = history(server).await;
        for ((name, _, watcher), seen) in watches.iter().zip(seen) {
            let judged = Judge::new(&history, watcher.watch()).judge(&seen);
            println!("{:?}, {name}: {judged}", server.kind());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_left_behind_by_compaction_tells_exactly_what_differs() {
    on_each(async |server| {
        let client = client(server);
        for key in 0..40 {
            client
                .put(format!("k/{key:02}"), "old")
                .await
                .expect("it runs");
        }
        let watch = Watch {
            state_first: true,
            on_gap: OnGap::Diff { most_keys: 1000 },
            buffer_bytes: 1000,
            ..Watch::new(KeyRange::prefix("k/"))
        };
        let watcher = client.watch(watch).await.expect("the member runs");
        let mut copy = HashMap::new();
        while copy.len() < 40 {
            follow(&mut copy, next(&watcher).await);
        }
        // Far more than the buffer holds.
        for round in 0..20 {
            for key in 0..20 {
                let put = client.put(format!("k/{key:02}"), format!("{round}"));
                put.await.expect("it runs");
            }
        }
        let gone = client.delete_with(Delete::new(KeyRange::between("k/10", "k/30")));
        let gone = gone.await.expect("it runs").header.revision;
        let done = client.put(END, "").await.expect("it runs").header.revision;
        let compact = Compact {
            revision: gone,
            physical: true,
        };
        client.compact(compact).await.expect("it runs");
        let mut diffs = 0;
        while !copy.contains_key(END) {
            let notice = next(&watcher).await;
            diffs += usize::from(matches!(notice, Notice::Diff { .. }));
            follow(&mut copy, notice);
        }
        let stored = stored(&client, "k/").await;
        assert_eq!(copy, stored, "{diffs} diffs, up to {done}");
        assert!(diffs > 0, "nothing was missed: the buffer is too large");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_over_a_member_that_is_put_back_to_an_older_state_is_told_of_it() {
    on_each(async |server| {
        let client = watching_client(server);
        client.put("k/kept", "1").await.expect("it runs");
        let data = server.directory().join("data");
        let backup = server.directory().join("backup");
        server.kill();
        copy_directory(&data, &backup);
        server.restart().await;
        let watch = Watch {
            state_first: true,
            ..Watch::new(KeyRange::prefix("k/"))
        };
        let watcher = client.watch(watch).await.expect("the member runs");
        for number in 0..20 {
            let put = client.put(format!("k/lost/{number}"), "1");
            put.await.expect("the member runs");
        }
        let mut copy = HashMap::new();
        while copy.len() < 21 {
            follow(&mut copy, next(&watcher).await);
        }
        server.kill();
        std::fs::remove_dir_all(&data).expect("it is there");
        copy_directory(&backup, &data);
        server.restart().await;
        let mut restored = false;
        while !restored {
            let notice = next(&watcher).await;
            if let Notice::Reset { cause, last, .. } = &notice {
                assert_eq!(*cause, ResetCause::Restored);
                restored = *last;
            }
            follow(&mut copy, notice);
        }
        assert_eq!(copy, stored(&client, "k/").await);
        client.put(END, "").await.expect("it runs");
        while !copy.contains_key(END) {
            follow(&mut copy, next(&watcher).await);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_watches_that_come_and_go_leave_nothing_behind() {
    let long = env::var_os("KEYSTEAD_TEST_LONG").is_some();
    on_each(async |server| {
        let client = client(server);
        let held = client.watch(Watch::new(KeyRange::key("held"))).await;
        let held = held.expect("the member runs");
        let rounds = if long { 5_000 } else { 100 };
        let mut tasks = 0;
        for round in 0..rounds {
            let watch = || Watch::new(KeyRange::prefix(format!("k/{round}")));
            let opened = futures::future::join_all((0..20).map(|_| client.watch(watch()))).await;
            assert!(opened.iter().all(Result::is_ok));
            let alive = tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks();
            if round == 0 {
                tasks = alive;
            }
            assert!(alive <= tasks + 20, "{alive} tasks after {tasks} at first");
        }
        client.put("held", "1").await.expect("it runs");
        assert!(matches!(next(&held).await, Notice::Events { .. }));
    })
    .await;
}

/// A client that asks for progress often.
fn watching_client(server: &Server) -> Client {
    let mut options = ConnectOptions::new([format!("http://{}", server.address())]);
    options.keepalive_interval = Duration::from_millis(100);
    options.call.deadline = LIMIT;
    Client::lazy(options).expect("an address is an endpoint")
}

/// Name, watch, whether its reader is slow.
fn watches_to_judge() -> Vec<(&'static str, Watch, bool)> {
    let prefix = || Watch::new(KeyRange::prefix("k/"));
    vec![
        (
            "from now",
            Watch {
                progress: true,
                ..prefix()
            },
            false,
        ),
        (
            "from the first revision, with the values before",
            Watch {
                start_revision: 1,
                prev_kv: true,
                ..prefix()
            },
            false,
        ),
        (
            "a slow reader",
            Watch {
                start_revision: 1,
                buffer_bytes: 2000,
                progress: true,
                ..prefix()
            },
            true,
        ),
        (
            "a buffer smaller than a revision",
            Watch {
                start_revision: 1,
                buffer_bytes: 1,
                ..prefix()
            },
            false,
        ),
        (
            "writes alone",
            Watch {
                start_revision: 1,
                no_delete: true,
                ..prefix()
            },
            false,
        ),
        (
            "an interval",
            Watch {
                start_revision: 1,
                progress: true,
                ..Watch::new(KeyRange::between("k/3", "k/f"))
            },
            false,
        ),
    ]
}

async fn write_and_kill(server: &mut Server, kills: usize) {
    let client = watching_client(server);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let writer = async |writer: usize| {
        let mut number = writer;
        while !stop.load(Relaxed) {
            number += 1;
            let done = write(&client, writer, number).await;
            answered.fetch_add(usize::from(done), Relaxed);
        }
    };
    let killer = async {
        for kill in 1..=kills {
            while answered.load(Relaxed) < kill * WRITES {
                sleep(Duration::from_millis(1)).await;
            }
            server.kill();
            server.restart().await;
        }
        stop.store(true, Relaxed);
    };
    let writers = futures::future::join_all((0..WRITERS).map(writer));
    let _ = tokio::join!(writers, killer);
    client.put(END, "").await.expect("the member runs");
}

/// Puts, deletions and transactions of several keys, on few keys; true when it was answered.
async fn write(client: &Client, writer: usize, number: usize) -> bool {
    let key = |number: usize| format!("k/{}", number % 9);
    match number % 5 {
        0 => client.delete(key(number / 5)).await.is_ok(),
        1 => {
            let put = |key: String| Op::Put(Put::new(key, format!("{writer}:{number}")));
            let many = (0..4).map(|offset| put(key(number + offset)));
            let other = std::iter::once(put(format!("other/{number}")));
            let txn = Txn::when([]).then(many.chain(other));
            client.txn(txn).await.is_ok()
        }
        _ => {
            let put = client.put(key(number), format!("{writer}:{number}"));
            put.await.is_ok()
        }
    }
}

async fn next(watcher: &Watcher) -> Notice {
    let next = timeout(LIMIT, watcher.next()).await;
    next.expect("the watch has something to tell")
        .expect("the watch goes on")
        .expect("the watch has not ended")
}

/// Everything up to the last key.
async fn read_to_the_end(watcher: &Watcher, slow: bool) -> Vec<Notice> {
    let mut seen = Vec::new();
    loop {
        let notice = next(watcher).await;
        if slow {
            sleep(Duration::from_millis(2)).await;
        }
        let end = matches!(&notice, Notice::Events { events, .. }
            if events.iter().any(|event| event.kv.key == END));
        seen.push(notice);
        if end {
            return seen;
        }
    }
}

/// Every event there was, as a fresh watch from the first revision tells it.
async fn history(server: &Server) -> Vec<Event> {
    let client = client(server);
    let watch = Watch {
        start_revision: 1,
        ..Watch::new(KeyRange::all())
    };
    let watcher = client.watch(watch).await.expect("the member runs");
    let seen = read_to_the_end(&watcher, false).await;
    let events = seen.into_iter().map(|notice| match notice {
        Notice::Events { events, .. } => events,
        other => panic!("nothing happened meanwhile: {other:?}"),
    });
    events.flatten().collect()
}

/// The nine rules for one watch.
struct Judge<'a> {
    watch: &'a Watch,
    /// What it should have seen, each with the key before it.
    expected: Vec<(Event, Option<KeyValue>)>,
}

impl<'a> Judge<'a> {
    fn new(history: &[Event], watch: &'a Watch) -> Judge<'a> {
        let mut state: HashMap<bytes::Bytes, KeyValue> = HashMap::new();
        let mut expected = Vec::new();
        for event in history {
            let key = event.kv.key.clone();
            let before = match event.kind {
                EventKind::Put => state.insert(key, event.kv.clone()),
                EventKind::Delete => state.remove(&key),
            };
            let left_out = match event.kind {
                EventKind::Put => watch.no_put,
                EventKind::Delete => watch.no_delete,
            };
            if watch.keys.contains(&event.kv.key) && !left_out {
                expected.push((event.clone(), before));
            }
        }
        Judge { watch, expected }
    }

    fn judge(mut self, seen: &[Notice]) -> String {
        let (mut told, mut reached, mut open, mut interruptions) = (Vec::new(), 0, 0, 0);
        for notice in seen {
            match notice {
                Notice::Events {
                    revision,
                    events,
                    last,
                } => {
                    // Revisions rise, and a revision comes in one piece unless it says otherwise.
                    let follows = *revision > reached && (open == 0 || open == *revision);
                    assert!(follows, "{revision} after {reached}, {open} not ended");
                    (reached, open) = match last {
                        true => (*revision, 0),
                        false => (reached, *revision),
                    };
                    for event in events {
                        assert_eq!(event.kv.mod_revision, *revision);
                        self.check(event);
                    }
                    told.extend(events);
                }
                Notice::Progress { revision } => {
                    assert!(self.watch.progress, "nobody asked for progress");
                    assert!(*revision >= reached && open == 0, "{revision} < {reached}");
                    reached = *revision;
                }
                Notice::Disconnected { .. } => interruptions += 1,
                Notice::Resumed { revision } => {
                    assert!(*revision >= reached, "{revision} < {reached}");
                    reached = *revision;
                }
                other => panic!("no history was lost: {other:?}"),
            }
        }
        // From the first revision on, or from the first one seen.
        if self.watch.start_revision == 0 {
            let first = told.first().map_or(0, |event| event.kv.mod_revision);
            self.expected
                .retain(|(event, _)| event.kv.mod_revision >= first);
        }
        assert_eq!(told.len(), self.expected.len(), "missing or doubled");
        for (told, (expected, before)) in told.iter().zip(&self.expected) {
            let same = told.kind == expected.kind && told.kv == expected.kv;
            assert!(same, "{told:?}, and not {expected:?}");
            let before = before.as_ref().filter(|_| self.watch.prev_kv);
            assert_eq!(told.prev_kv.as_ref(), before, "before {told:?}");
        }
        // One whose buffer is full is not on a stream, and not cut off.
        let told_of = interruptions > 0 || self.watch.buffer_bytes > 0;
        assert!(told_of, "it was never cut off");
        format!("{} events, {interruptions} interruptions", told.len())
    }

    fn check(&self, event: &Event) {
        assert!(self.watch.keys.contains(&event.kv.key), "{event:?}");
        if event.kind == EventKind::Put {
            let created = event.kv.create_revision == event.kv.mod_revision;
            assert_eq!(created, event.kv.version == 1, "{event:?}");
        }
    }
}

/// Keeps a copy of the keys, with the revisions of their last writes, as a user would.
fn follow(copy: &mut HashMap<String, i64>, notice: Notice) {
    let name = |kv: &KeyValue| String::from_utf8_lossy(&kv.key).into_owned();
    match notice {
        Notice::Reset { page, kvs, .. } => {
            if page == 0 {
                copy.clear();
            }
            copy.extend(kvs.iter().map(|kv| (name(kv), kv.mod_revision)));
        }
        Notice::Events { events, .. } | Notice::Diff { events, .. } => {
            for event in events {
                match event.kind {
                    EventKind::Put => copy.insert(name(&event.kv), event.kv.mod_revision),
                    EventKind::Delete => copy.remove(&name(&event.kv)),
                };
            }
        }
        _ => {}
    }
}

async fn stored(client: &Client, prefix: &'static str) -> HashMap<String, i64> {
    let mut stored = HashMap::new();
    let mut scan = client.scan(Scan::new(KeyRange::prefix(prefix)));
    while let Some(kv) = scan.next().await.expect("it runs") {
        stored.insert(
            String::from_utf8_lossy(&kv.key).into_owned(),
            kv.mod_revision,
        );
    }
    stored
}

fn copy_directory(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("cp is part of every system").success());
}
