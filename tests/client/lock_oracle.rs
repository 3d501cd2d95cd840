//! Holders of one lock, ours and Go's, each a process of its own behind a relay, while they are stopped, cut off and made deaf. What
//! they wrote under the lock is judged by what the server tells of it in the end: who writes is the owner, and tokens never fall.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use keystead_client::{
    Client, ConnectOptions, Event, EventKind, KeyRange, Kind, Notice, Watch, Watcher,
};
use keystead_tests::{Random, Server, oracle};
use tokio::time::{sleep, timeout};

use super::relay::{Mode, Relay};
use super::{client as connect, on_each};

/// Says in the environment of a holder where the server is.
const SERVER: &str = "KEYSTEAD_TEST_HOLDER";
const LOCK: &str = "oracle/lock";
const DATA: &str = "oracle/data";
const END: &str = "oracle/zz-end";
/// The shortest that etcd grants.
const TTL: Duration = Duration::from_secs(2);
/// Writes under one acquisition.
const WRITES: usize = 4;
const HOLDERS: usize = 3;
/// So long at least, and until a write was refused to who had lost the lock; but not for ever.
const RUN: Duration = Duration::from_secs(12);
const LONG_RUN: Duration = Duration::from_secs(300);
const MOST: Duration = Duration::from_secs(120);
/// No step may take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// A holder of ours: another process, which runs this test alone until its input ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_under_faults() {
    let Ok(url) = env::var(SERVER) else {
        return;
    };
    let client = Client::lazy(ConnectOptions::new([url])).expect("it is a URL");
    let lock = client.lock(LOCK).with_ttl(TTL);
    let over = tokio::task::spawn_blocking(|| io::stdin().lock().read_to_end(&mut Vec::new()));
    while !over.is_finished() {
        let Ok(guard) = lock.lock_within(2 * TTL).await else {
            sleep(TTL / 10).await;
            continue;
        };
        let token = guard.fencing_token().to_string();
        for _ in 0..WRITES {
            match guard.put(DATA, token.clone()).await {
                Err(error) if error.kind == Kind::LockLost => {
                    println!("\nrefused");
                    break;
                }
                // What is left open the history tells.
                _ => sleep(TTL / 40).await,
            }
        }
        // It may be lost already.
        guard.unlock().await.ok();
    }
}

/// A holder's process, which ends with this.
struct Holder {
    process: Child,
    input: Option<ChildStdin>,
    relay: Relay,
}

impl Holder {
    /// Starts `command`, given the URL of a relay before the server, and counts the writes that were refused to it.
    async fn start(
        server: &Server,
        refused: &Arc<AtomicU64>,
        command: impl Fn(&str) -> Command,
    ) -> Holder {
        let relay = Relay::before(server.address()).await;
        let mut process = command(&format!("http://{}", relay.address()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be run");
        let said = BufReader::new(process.stdout.take().expect("it is piped"));
        let refused = refused.clone();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                refused.fetch_add(u64::from(line == "refused"), Relaxed);
            }
        });
        Holder {
            input: process.stdin.take(),
            process,
            relay,
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("kill is part of every system").success());
    }

    /// One fault, from its beginning to its end.
    async fn suffer(&self, random: &mut Random) {
        let span = *random.pick(&[TTL / 4, TTL * 3 / 2]);
        match random.below(4) {
            0 | 1 => {
                self.signal("STOP");
                sleep(span).await;
                self.signal("CONT");
            }
            _ => {
                let mode = *random.pick(&[Mode::Swallow, Mode::Deafen, Mode::Cut]);
                self.relay.set(mode);
                sleep(span).await;
                self.relay.break_connections();
                self.relay.set(Mode::Open);
            }
        }
    }

    /// Lets it end by itself.
    async fn finish(mut self) {
        drop(self.input.take());
        let begin = Instant::now();
        while self.process.try_wait().expect("it can be asked").is_none() {
            assert!(begin.elapsed() < LIMIT, "a holder does not end");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It has ended where all is well.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn ours(url: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("the running test has a path"));
    command
        .args(["--exact", "client::lock_oracle::a_holder_under_faults"])
        .arg("--nocapture")
        .env(SERVER, url);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_owner_writes_and_tokens_never_fall_whatever_happens_to_holders() {
    let long = env::var_os("KEYSTEAD_TEST_LONG").is_some();
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_millis() as u64;
    on_each(async |server| {
        let refused = Arc::new(AtomicU64::new(0));
        let mut holders = Vec::new();
        for _ in 0..HOLDERS {
            holders.push(Holder::start(server, &refused, ours).await);
        }
        if let Some(program) = oracle("concurrency") {
            let go = |url: &str| {
                let mut command = Command::new(&program);
                command.args(["-endpoint", url, "-guard"]);
                command
            };
            holders.push(Holder::start(server, &refused, go).await);
        }
        let mut random = Random::new(seed);
        let begin = Instant::now();
        let run = if long { LONG_RUN } else { RUN };
        let mut faults = 0;
        while begin.elapsed() < run || refused.load(Relaxed) == 0 {
            assert!(
                begin.elapsed() < run + MOST,
                "{faults} faults, and nobody lost the lock while it wrote: the run proves little"
            );
            let [mut one, mut other] = [0, 1].map(|_| Random::new(random.bits()));
            let at = random.below(holders.len() as u64) as usize;
            let next = (at + 1) % holders.len();
            tokio::join!(
                holders[at].suffer(&mut one),
                holders[next].suffer(&mut other)
            );
            sleep(TTL / 8).await;
            faults += 2;
        }
        for holder in holders {
            holder.finish().await;
        }
        let judged = judge(&history(server).await).expect("nobody wrote who was not the owner");
        println!(
            "{:?}: {faults} faults, {} writes of {} owners, {} refused",
            server.kind(),
            judged.writes,
            judged.owners,
            refused.load(Relaxed)
        );
        assert!(judged.owners > 2 * HOLDERS, "{judged:?}");
    })
    .await;
}

/// All that happened to the lock and what it guards.
async fn history(server: &Server) -> Vec<Event> {
    let client = connect(server);
    client.put(END, "").await.expect("the member runs");
    let all = Watch {
        start_revision: 1,
        ..Watch::new(KeyRange::prefix("oracle/"))
    };
    let watcher = client.watch(all).await.expect("the member runs");
    timeout(LIMIT, read_to_the_end(&watcher))
        .await
        .expect("the history has an end")
}

async fn read_to_the_end(watcher: &Watcher) -> Vec<Event> {
    let mut history = Vec::new();
    loop {
        let notice = watcher.next().await.expect("the watch goes on");
        let Some(Notice::Events { events, .. }) = notice else {
            continue;
        };
        let ended = events.iter().any(|event| event.kv.key == END);
        history.extend(events);
        if ended {
            return history;
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Judged {
    writes: usize,
    /// Who wrote.
    owners: usize,
}

/// Goes through a history.
///
/// # Errors
/// The first write of somebody who did not own the lock when it was made.
fn judge(history: &[Event]) -> Result<Judged, String> {
    let mut queue: BTreeMap<i64, Bytes> = BTreeMap::new();
    let mut judged = Judged::default();
    let mut last = 0;
    for Event { kind, kv, .. } in history {
        if kv.key.starts_with(LOCK.as_bytes()) {
            queue.retain(|_, key| *key != kv.key);
            if *kind == EventKind::Put {
                queue.insert(kv.create_revision, kv.key.clone());
            }
        }
        if kv.key != DATA {
            continue;
        }
        let revision = kv.mod_revision;
        let token: i64 = String::from_utf8_lossy(&kv.value)
            .parse()
            .map_err(|error| format!("at {revision}: no token: {error}"))?;
        if token < last {
            return Err(format!("at {revision}: token {token} after {last}"));
        }
        let owner = queue.keys().next().copied();
        if owner != Some(token) {
            return Err(format!(
                "at {revision}: {token} wrote, the owner was {owner:?}"
            ));
        }
        judged.writes += 1;
        judged.owners += usize::from(token > last);
        last = token;
    }
    Ok(judged)
}

#[cfg(test)]
mod tests {
    use keystead_client::KeyValue;

    use super::*;

    fn event(kind: EventKind, key: &str, value: &str, created: i64, revision: i64) -> Event {
        Event {
            kind,
            kv: KeyValue {
                key: key.to_owned().into(),
                value: value.to_owned().into(),
                create_revision: created,
                mod_revision: revision,
                ..KeyValue::default()
            },
            prev_kv: None,
        }
    }

    fn enters(who: &str, revision: i64) -> Event {
        event(
            EventKind::Put,
            &format!("{LOCK}/{who}"),
            "",
            revision,
            revision,
        )
    }

    fn leaves(who: &str, revision: i64) -> Event {
        event(EventKind::Delete, &format!("{LOCK}/{who}"), "", 0, revision)
    }

    fn writes(token: i64, revision: i64) -> Event {
        event(EventKind::Put, DATA, &token.to_string(), 4, revision)
    }

    #[test]
    fn a_history_in_which_owners_write_passes() {
        let history = [
            enters("a", 2),
            enters("b", 3),
            writes(2, 4),
            writes(2, 5),
            leaves("a", 6),
            writes(3, 7),
        ];
        let judged = Judged {
            writes: 3,
            owners: 2,
        };
        assert_eq!(judge(&history), Ok(judged));
    }

    #[test]
    fn who_waits_who_has_left_and_who_is_stale_may_not_write() {
        let waits = [enters("a", 2), enters("b", 3), writes(3, 4)];
        let left = [enters("a", 2), leaves("a", 3), writes(2, 4)];
        let stale = [
            enters("a", 2),
            enters("b", 3),
            leaves("a", 4),
            writes(3, 5),
            writes(2, 6),
        ];
        for (history, error) in [
            (&waits[..], "at 4: 3 wrote, the owner was Some(2)"),
            (&left[..], "at 4: 2 wrote, the owner was None"),
            (&stale[..], "at 6: token 2 after 3"),
        ] {
            assert_eq!(judge(history), Err(error.to_owned()));
        }
    }
}
