//! Measures, on demand: `cargo test --release -p keystead-raft a_measurement -- --ignored --nocapture`.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use keystead_state::Outcome;

use super::{config, propose, put, start, stop};
use crate::ReplySink;

/// Counts replies for a driver, as a shard of the network would.
struct Counter(Sender<usize>);

impl ReplySink for Counter {
    fn deliver(&self, replies: Vec<(u64, Outcome)>) {
        assert!(replies.iter().all(|(_, outcome)| outcome.is_ok()));
        self.0.send(replies.len()).unwrap();
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
    let mut times: Vec<Duration> = (0..3000)
        .map(|n| {
            let began = Instant::now();
            propose(&consensus, vec![put(&format!("k{n}"), &value)]);
            began.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "lone proposal: p50 {:?} p90 {:?} p99 {:?}",
        times[1500], times[2700], times[2970]
    );
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
