//! What one proposal takes, the log beneath it alone, and what a record costs under load. Prints figures and judges nothing:
//! `cargo run --release -p keystead-raft --example latency`.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use keystead_proto::etcdserverpb::PutRequest;
use keystead_proto::internal::{Record, RecordKind};
use keystead_raft::{Answering, Config, Consensus, Identity, Observer, ReplySink, wal};
use keystead_state::{Applied, Limits, Outcome, Reader};
use prost::Message;

struct Nobody;

impl Observer for Nobody {
    fn restored(&self, _: &Reader) {}

    fn removed(&self) {}

    fn asked(&self, _: Bytes) -> Answering {
        Box::pin(std::future::ready(None))
    }

    fn applied(&self, _: wal::EntryId, _: &Applied) {}

    fn leader_changed(&self, _: bool, _: u64) {}
}

/// Counts replies for a driver, as a shard of the network would.
struct Counter(Sender<usize>);

impl ReplySink for Counter {
    fn deliver(&self, replies: Vec<(u64, Outcome)>) {
        assert!(replies.iter().all(|(_, outcome)| outcome.is_ok()));
        // The driver has seen enough.
        self.0.send(replies.len()).ok();
    }
}

/// CPU that the process used so far, to 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a process");
    let fields = stat
        .rsplit(')')
        .next()
        .expect("its fields")
        .split_whitespace()
        .skip(11)
        .take(2);
    Duration::from_millis(
        10 * fields
            .map(|ticks| ticks.parse::<u64>().expect("a number"))
            .sum::<u64>(),
    )
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[times.len() * share / 100];
    println!("{what}: p50 {:?} p90 {:?} p99 {:?}", at(50), at(90), at(99));
}

/// What the write-ahead log alone takes for such an entry.
fn log_alone(dir: &Path) -> Vec<Duration> {
    let files = Arc::new(wal::Disk::open(dir).expect("the log's directory"));
    let (log, _) = wal::Wal::open(files, wal::Options::default()).expect("the log opens");
    let append = |index| {
        let began = Instant::now();
        let id = wal::EntryId {
            term: 1,
            leader: 0,
            index,
        };
        let payload = bytes::Bytes::from(vec![b'x'; 280]);
        let (done, synced) = channel();
        log.append(
            vec![wal::Entry { id, payload }],
            Box::new(move |result| done.send(result).expect("somebody waits")),
        )
        .expect("taken");
        synced.recv().expect("an end").expect("synced");
        began.elapsed()
    };
    (0..3000).map(append).collect()
}

/// One proposal, and the wait for its outcome.
fn propose(consensus: &Consensus, record: Record) {
    let (counter, replies) = channel();
    let sink: Arc<dyn ReplySink> = Arc::new(Counter(counter));
    consensus.propose(&sink, vec![(0, record)]);
    replies.recv().expect("it is answered");
}

fn put(key: &str, value: &str) -> Record {
    let put = PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    };
    Record {
        kind: RecordKind::Put.into(),
        payload: put.encode_to_vec().into(),
        ..Record::default()
    }
}

fn main() {
    // On the disk that the build is on: a temporary directory may be in memory.
    let tmp = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
    let identity = Identity {
        cluster_id: 1,
        member_id: 2,
    };
    let config = Config::at(tmp.path().join("data"), identity, Limits::default());
    let (consensus, _) = Consensus::start(config, Vec::new(), Arc::new(Nobody)).expect("it starts");
    let value = "x".repeat(256);
    let times = (0..3000).map(|n| {
        let began = Instant::now();
        propose(&consensus, put(&format!("k{n}"), &value));
        began.elapsed()
    });
    print("lone proposal", times.collect());
    print("the log alone", log_alone(&tmp.path().join("log")));
    for outstanding in [1, 10, 100, 1000] {
        let (counter, replies) = channel();
        let sink: Arc<dyn ReplySink> = Arc::new(Counter(counter));
        let before = (
            Instant::now(),
            cpu(),
            consensus.counters().log.fsyncs,
            consensus.status().last_log_index,
        );
        let (mut proposed, mut answered, total) =
            (0u64, 0, if outstanding == 1 { 5000 } else { 200_000 });
        let mut room = outstanding;
        while answered < total {
            let batch = (0..room).map(|n| {
                (
                    n as u64,
                    put(&format!("k{}", (proposed + n as u64) % 9973), &value),
                )
            });
            consensus.propose(&sink, batch.collect());
            proposed += room as u64;
            room = replies.recv().expect("an answer");
            room += replies.try_iter().sum::<usize>();
            answered += room;
        }
        let (took, used) = (before.0.elapsed(), cpu() - before.1);
        let (syncs, entries) = (
            consensus.counters().log.fsyncs - before.2,
            consensus.status().last_log_index - before.3,
        );
        println!(
            "{outstanding} outstanding: {:.0}/s, {:.2} us CPU a record, {syncs} syncs, {entries} entries for {answered}",
            answered as f64 / took.as_secs_f64(),
            used.as_secs_f64() * 1e6 / answered as f64,
        );
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
        .block_on(consensus.shutdown());
}
