//! kill -9 under load, over and over: every acknowledged write is there afterwards with its revision, a txn is there
//! whole or not at all, and no revision is given twice. `KEYSTEAD_CRASH_CYCLES` or `KEYSTEAD_TEST_LONG`
//! make the run longer; `KEYSTEAD_SEED` replays the moments of the kills. With tiny limits it goes on until the log was
//! purged, a segment recycled, the store flushed, compacted and defragmented and the index saved, and fails without. A kill
//! proves recovery, not fsync: the page cache survives it.

use std::collections::HashMap;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keystead_proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    request_op::Request,
};
use keystead_tests::{Kind, Random, Server, Sights, TINY_LIMITS, Unary};
use tonic::transport::Channel;

const CYCLES: u64 = 60;
const LONG_CYCLES: u64 = 1000;
const WRITERS: u64 = 8;
/// A run with tiny limits has at most so many times its cycles to see everything happen.
const MORE_CYCLES: u64 = 5;
/// A small store must be back within this.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_no_acknowledged_write() {
    kill_and_check(&[], |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_nothing_with_tiny_limits_either() {
    let all_happened = |happened: &[Count]| happened.iter().all(|(_, count)| *count > 0);
    kill_and_check(&TINY_LIMITS, all_happened).await;
}

/// How often something was seen to happen, by name.
type Count = (&'static str, u64);

/// Runs its cycles, and more until what happened is `enough`.
async fn kill_and_check(limits: &[&str], enough: fn(&[Count]) -> bool) {
    let number = |name: &str| {
        env::var(name)
            .ok()
            .and_then(|value| value.parse::<u64>().ok())
    };
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_millis() as u64;
    let seed = number("KEYSTEAD_SEED").unwrap_or(clock);
    let usual = if env::var_os("KEYSTEAD_TEST_LONG").is_some() {
        LONG_CYCLES
    } else {
        CYCLES
    };
    let cycles = number("KEYSTEAD_CRASH_CYCLES").unwrap_or(usual);
    println!("{cycles} cycles: KEYSTEAD_SEED={seed}");
    let mut random = Random::new(seed);
    let server = Server::start(Kind::Keystead, limits, &[]).await;
    let mut server = server.expect("only etcd may be missing");
    let mut ledger = Ledger::default();
    let mut slowest = Duration::ZERO;
    let mut sights = Sights::default();
    let compactions = Arc::new(AtomicU64::new(0));
    let happened = |sights: &Sights| {
        let mut counts = sights.counts().to_vec();
        counts.push(("physical compactions", compactions.load(Relaxed)));
        counts
    };
    let mut cycle = 0;
    while cycle < cycles || (cycle < MORE_CYCLES * cycles && !enough(&happened(&sights))) {
        let writes = load_and_kill(&mut server, cycle, &compactions, &mut random).await;
        sights.look(&server.directory().join("data"));
        let begin = Instant::now();
        server.restart().await;
        slowest = slowest.max(begin.elapsed());
        assert!(
            begin.elapsed() < RECOVERY_LIMIT,
            "cycle {cycle}: recovery took {:?}",
            begin.elapsed()
        );
        ledger.add(cycle, writes);
        ledger.check(&server, &format!("c{cycle}/"), cycle).await;
        cycle += 1;
    }
    ledger.check(&server, "c", cycle).await;
    let happened = happened(&sights);
    println!(
        "{} acknowledged writes are all there after {cycle} kills; slowest recovery {slowest:?}; {happened:?}",
        ledger.acknowledged.len()
    );
    assert!(enough(&happened), "the run proves little: {happened:?}");
    assert!(
        ledger.acknowledged.len() as u64 > cycles,
        "the load was no load"
    );
}

/// Keys that were acknowledged, with their revision.
type Writes = Vec<(String, i64)>;

/// Everything acknowledged so far.
#[derive(Default)]
struct Ledger {
    acknowledged: HashMap<String, i64>,
    /// Which write (its first key) each revision was given to.
    owners: HashMap<i64, String>,
    newest: i64,
}

impl Ledger {
    fn add(&mut self, cycle: u64, writes: Writes) {
        for (key, revision) in writes {
            let write = key.trim_end_matches("-twin").to_owned();
            let owner = self.owners.entry(revision).or_insert_with(|| write.clone());
            assert_eq!(
                *owner, write,
                "cycle {cycle}: revision {revision} was given to two writes"
            );
            self.newest = self.newest.max(revision);
            self.acknowledged.insert(key, revision);
        }
    }

    /// Reads all keys below a prefix and compares them with the ledger.
    async fn check(&mut self, server: &Server, prefix: &str, cycle: u64) {
        let (stored, revision) = read(server, prefix).await;
        assert!(
            revision >= self.newest,
            "cycle {cycle}: revision {revision} after {} was acknowledged",
            self.newest
        );
        for (key, revision) in self
            .acknowledged
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
        {
            assert_eq!(
                stored.get(key),
                Some(revision),
                "cycle {cycle}: {key} was acknowledged at {revision}"
            );
        }
        for (key, revision) in &stored {
            let write = key.trim_end_matches("-twin").to_owned();
            let owner = self
                .owners
                .entry(*revision)
                .or_insert_with(|| write.clone());
            assert_eq!(
                *owner, write,
                "cycle {cycle}: revision {revision} was given to two writes"
            );
            if key.ends_with("-twin") {
                assert_eq!(
                    stored.get(&write),
                    Some(revision),
                    "cycle {cycle}: half a txn is there"
                );
            }
        }
        self.newest = self.newest.max(revision);
    }
}

async fn read(server: &Server, prefix: &str) -> (HashMap<String, i64>, i64) {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix is not empty") += 1;
    let all = RangeRequest {
        key: prefix.to_owned().into(),
        range_end: end.into(),
        keys_only: true,
        ..Default::default()
    };
    let answer = all
        .send(server.channel())
        .await
        .expect("a restarted member answers");
    let key = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("our keys are text");
    let stored = answer
        .kvs
        .iter()
        .map(|kv| (key(&kv.key), kv.mod_revision))
        .collect();
    (stored, answer.header.expect("a header").revision)
}

/// Writers until the kill; gives what they were told is done.
async fn load_and_kill(
    server: &mut Server,
    cycle: u64,
    compactions: &Arc<AtomicU64>,
    random: &mut Random,
) -> Writes {
    let stop = Arc::new(AtomicBool::new(false));
    let newest = Arc::new(AtomicU64::new(0));
    let channel = server.channel();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            tokio::spawn(write(
                channel.clone(),
                format!("c{cycle}/w{writer}/"),
                stop.clone(),
                newest.clone(),
            ))
        })
        .collect();
    let upkeep = tokio::spawn(upkeep(channel, cycle, newest, compactions.clone()));
    tokio::time::sleep(Duration::from_millis(20 + random.below(250))).await;
    server.kill();
    stop.store(true, Relaxed);
    upkeep.abort();
    let mut all = Vec::new();
    for writer in writers {
        all.extend(writer.await.expect("a writer does not panic"));
    }
    all
}

async fn write(
    channel: Channel,
    prefix: String,
    stop: Arc<AtomicBool>,
    newest: Arc<AtomicU64>,
) -> Writes {
    let mut acknowledged = Vec::new();
    for number in 0u64.. {
        if stop.load(Relaxed) {
            break;
        }
        let key = format!("{prefix}{number}");
        let put = |key: &str| PutRequest {
            key: key.to_owned().into(),
            value: vec![b'v'; 200].into(),
            ..Default::default()
        };
        let twin = format!("{key}-twin");
        let revision = if number.is_multiple_of(4) {
            let both = [put(&key), put(&twin)].map(|put| RequestOp {
                request: Some(Request::RequestPut(put)),
            });
            let txn = TxnRequest {
                success: both.into(),
                ..Default::default()
            };
            txn.send(channel.clone()).await.map(|answer| answer.header)
        } else {
            put(&key)
                .send(channel.clone())
                .await
                .map(|answer| answer.header)
        };
        // What failed may have happened or not; the next write has another key.
        let Ok(Some(header)) = revision else { continue };
        newest.fetch_max(header.revision as u64, Relaxed);
        acknowledged.push((key, header.revision));
        if number.is_multiple_of(4) {
            acknowledged.push((twin, header.revision));
        }
    }
    acknowledged
}

/// Compactions in every cycle and a defragmentation in some, so that kills fall into them too.
async fn upkeep(channel: Channel, cycle: u64, newest: Arc<AtomicU64>, compactions: Arc<AtomicU64>) {
    loop {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let revision = newest.load(Relaxed) as i64;
        if revision > 0 {
            let compaction = CompactionRequest {
                revision,
                physical: true,
            };
            let done = compaction.send(channel.clone()).await.is_ok();
            compactions.fetch_add(done.into(), Relaxed);
        }
        if cycle.is_multiple_of(3) {
            DefragmentRequest {}.send(channel.clone()).await.ok();
        }
    }
}
