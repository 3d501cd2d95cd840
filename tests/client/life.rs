//! What clients live through a fault with: writers that write down every answer, a watch, a session, a lock that is held and one that is waited
//! for. In the end all of it is judged by what is stored.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use keystead_client::{
    Client, KeyRange, LockGuard, Notice, Outcome, Range, Scan, Session, Watch, Watcher,
};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{PATIENCE, client_of, eventually};

/// Of the session and of the lock: longer than a client may take to find that its member is gone.
pub const TTL: Duration = Duration::from_secs(20);
/// A write that takes longer is in trouble.
const NORMAL: Duration = Duration::from_secs(2);
/// Between two writes of a writer.
const REST: Duration = Duration::from_millis(5);
const LOCK: &str = "lock";
/// Below it every key is written once.
const WRITES: &str = "writes/";
const LAST: &str = "writes/zz";

/// How a write ended: the revision it was given, or the outcome of its error.
type Ending = Result<i64, Outcome>;

/// What the writers have to tell.
#[derive(Default)]
struct Ledger {
    writes: Vec<(String, Ending)>,
    /// When the last write ended that failed or took long, for each writer.
    troubled: Vec<Option<Instant>>,
    /// When the write that is under way began, for each writer.
    begun: Vec<Option<Instant>>,
}

/// Everything that goes on.
pub struct Life {
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
    watching: JoinHandle<Vec<(String, i64)>>,
    session: Session,
    guard: LockGuard,
    waiting: JoinHandle<LockGuard>,
    /// Of a member that nothing happens to.
    bystander: Client,
}

impl Life {
    /// Clients of all `addresses`, one connected to each. The one connected to `victim` has the watch, the session and the lock.
    pub async fn begin(addresses: [SocketAddr; 3], victim: usize) -> Life {
        let mut clients = Vec::new();
        for address in addresses {
            clients.push(connected_to(addresses, address).await);
        }
        let hit = &clients[victim];
        let bystander = clients[(victim + 1) % 3].clone();
        let watch = Watch::new(KeyRange::prefix(WRITES));
        let watcher = hit.watch(watch).await.expect("a watch");
        let session = hit.session(TTL).await.expect("a session");
        let put = session.put_ephemeral("here", "since then").await;
        put.expect("a key of the session");
        let guard = hit.lock(LOCK).with_ttl(TTL).lock().await.expect("free");
        let other = bystander.lock(LOCK).with_ttl(TTL);
        let waiting = async move {
            loop {
                if let Ok(guard) = other.lock_within(PATIENCE).await {
                    return guard;
                }
            }
        };
        let ledger = Arc::new(Mutex::new(Ledger {
            troubled: vec![None; clients.len()],
            begun: vec![None; clients.len()],
            ..Ledger::default()
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let writers = clients.into_iter().enumerate();
        let writers = writers.map(|(writer, client)| {
            tokio::spawn(write(writer, client, ledger.clone(), stop.clone()))
        });
        Life {
            writers: writers.collect(),
            ledger,
            stop,
            watching: tokio::spawn(follow(watcher)),
            session,
            guard,
            waiting: tokio::spawn(waiting),
            bystander,
        }
    }

    /// Waits until no write was in trouble for a while, and gives how long after `fault` the last one was.
    pub async fn normal_after(&self, fault: Instant) -> Duration {
        let troubled = eventually("writes as quick as ever", async || {
            let now = Instant::now();
            let ledger = self.ledger.lock().expect("no test panics there");
            let hangs = |begun: &Option<Instant>| begun.is_none_or(|it| now - it > NORMAL);
            let last = ledger.troubled.iter().flatten().max().copied();
            // A write that the fault caught began shortly before or after it, and hangs by twice that time.
            let quiet = last.is_none_or(|last| now - last > NORMAL) && now - fault > 2 * NORMAL;
            (quiet && !ledger.begun.iter().any(hangs)).then_some(last)
        });
        let last = troubled.await;
        last.map_or(Duration::ZERO, |last| last.saturating_duration_since(fault))
    }

    /// What the lock protects is written still, and nobody else has it.
    pub async fn still_holds(&self) {
        eventually("a guarded write", async || {
            match self.guard.put("guarded", "by the first").await {
                Ok(_) => Some(()),
                Err(error) => {
                    assert_ne!(error.outcome, Outcome::Applied, "{error}");
                    assert!(self.guard.held(), "the lock is lost: {error}");
                    None
                }
            }
        })
        .await;
        assert!(!self.waiting.is_finished(), "two hold the lock");
        assert_eq!(self.session.state().loss(), None);
    }

    /// Ends it, and judges what everybody was told.
    pub async fn end(self) {
        self.stop.store(true, Relaxed);
        for writer in self.writers {
            writer.await.expect("no writer panics");
        }
        let client = self.bystander.with_deadline(PATIENCE);
        let here = client.get("here").await.expect("a read");
        let here = here.expect("the session's key is there");
        assert_eq!((here.lease, here.version), (self.session.lease(), 1));
        let token = self.guard.fencing_token();
        self.guard.unlock().await.expect("it is held");
        let next = timeout(PATIENCE, self.waiting).await;
        let next = next.expect("who waited is next").expect("no panic");
        assert!(next.fencing_token() > token);
        next.put("guarded", "by the second").await.expect("its own");

        client.put(LAST, "").await.expect("a write");
        let seen = timeout(PATIENCE, self.watching).await;
        let seen = seen.expect("the last one is told").expect("no panic");
        let mut stored = Vec::new();
        let mut scan = client.scan(Scan::new(KeyRange::prefix(WRITES)));
        while let Some(kv) = scan.next().await.expect("it runs") {
            assert_eq!(kv.version, 1, "{kv:?} was written twice");
            let key = String::from_utf8_lossy(&kv.key).into_owned();
            stored.push((key, kv.mod_revision));
        }
        stored.sort_by_key(|(_, revision)| *revision);
        assert_eq!(seen, stored, "the watch told what happened, once each");
        let ledger = self.ledger.lock().expect("no test panics there");
        for (key, ending) in &ledger.writes {
            let found = stored.iter().find(|(stored, _)| stored == key);
            let revision = found.map(|(_, revision)| *revision);
            let honest = match ending {
                Ok(told) => revision == Some(*told),
                Err(Outcome::NotApplied) => revision.is_none(),
                Err(Outcome::Unknown) => true,
                Err(Outcome::Applied) => false,
            };
            assert!(honest, "{key}: told {ending:?}, stored at {revision:?}");
        }
    }
}

/// A client of all `addresses` that uses `address`: which one is a matter of chance.
async fn connected_to(addresses: [SocketAddr; 3], address: SocketAddr) -> Client {
    let answered_by = async |client: &Client| {
        let read = client.range(Range::new(KeyRange::key("who"))).await;
        read.expect("a member answers").header.member_id
    };
    let member = answered_by(&client_of([address])).await;
    eventually("this member's turn", async || {
        let client = client_of(addresses);
        (answered_by(&client).await == member).then_some(client)
    })
    .await
}

async fn write(writer: usize, client: Client, ledger: Arc<Mutex<Ledger>>, stop: Arc<AtomicBool>) {
    let ledger = || ledger.lock().expect("no test panics there");
    let mut number = 0;
    while !stop.load(Relaxed) {
        let key = format!("{WRITES}{writer}/{number}");
        number += 1;
        let begin = Instant::now();
        ledger().begun[writer] = Some(begin);
        let written = client.put(key.clone(), "v").await;
        let written = written.map(|put| put.header.revision);
        {
            let mut ledger = ledger();
            if written.is_err() || begin.elapsed() > NORMAL {
                ledger.troubled[writer] = Some(Instant::now());
            }
            let ending = written.map_err(|error| error.outcome);
            ledger.writes.push((key, ending));
        }
        sleep(REST).await;
    }
}

/// The keys and revisions that a watch tells, up to the last key.
async fn follow(watcher: Watcher) -> Vec<(String, i64)> {
    let mut seen = Vec::new();
    loop {
        let notice = watcher.next().await.expect("the watch goes on");
        let events = match notice.expect("nobody cancels it") {
            Notice::Events { events, .. } => events,
            Notice::Disconnected { .. } | Notice::Resumed { .. } | Notice::Progress { .. } => {
                continue;
            }
            other => panic!("nothing was compacted or restored: {other:?}"),
        };
        for event in events {
            let key = String::from_utf8_lossy(&event.kv.key).into_owned();
            seen.push((key, event.kv.mod_revision));
        }
        if seen.last().is_some_and(|(key, _)| key == LAST) {
            return seen;
        }
    }
}
