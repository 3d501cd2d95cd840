//! Measures, on demand: `cargo test --release -p keystead-raft a_measurement -- --ignored --nocapture`.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use keystead_state::Outcome;

use super::{config, propose, put, start, stop};
use crate::{ReplySink, wal};

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
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2);
    Duration::from_millis(
        10 * fields
            .map(|ticks| ticks.parse::<u64>().unwrap())
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
    let files = Arc::new(wal::Disk::open(dir).unwrap());
    let (log, _) = wal::Wal::open(files, wal::Options::default()).unwrap();
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
            Box::new(move |result| done.send(result).unwrap()),
        )
        .unwrap();
        synced.recv().unwrap().unwrap();
        began.elapsed()
    };
    (0..3000).map(append).collect()
}

#[test]
#[ignore = "a measurement"]
fn a_measurement_of_lone_proposals_and_of_load() {
    let tmp = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let defaults = crate::Config::at(
        tmp.path().join("data"),
        super::ME,
        config(tmp.path()).limits,
    );
    let (consensus, _) = start(defaults);
    let value = "x".repeat(256);
    let times = (0..3000).map(|n| {
        let began = Instant::now();
        propose(&consensus, vec![put(&format!("k{n}"), &value)]);
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
            room = replies.recv().unwrap();
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
    stop(consensus);
}
