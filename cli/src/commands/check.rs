//! `check perf`: writes at a pace for a while, and says whether the cluster keeps it. The models and the verdict are etcdctl's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use keystead_client::{Client, Compact, Delete, KeyRange, Range};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

use crate::commands::lock::Ends;
use crate::context::Context;
use crate::duration;
use crate::failure::{Exit, Failure, Result};

/// The keys' length behind the prefix.
const KEY_BYTES: usize = 256;
const VALUE_BYTES: usize = 1024;
/// What comes after the test, over as many keys as were written, may take longer than a command.
const CLEANUP: Duration = Duration::from_secs(30);

/// What the cluster can do
#[derive(Subcommand)]
#[command(after_help = "Example: keystead check perf")]
pub enum Check {
    /// Writes for a minute, and says whether the cluster keeps the pace
    #[command(after_help = "\
s is 150 writes a second by 50 clients, m 1000 by 200, l 8000 by 500, and xl 15000 by 1000.

Example: keystead check perf --load m --auto-compact")]
    Perf {
        /// How much: s, m, l or xl
        #[arg(long, default_value = "s")]
        load: String,
        /// Where to write; there must be nothing yet
        #[arg(long, default_value = "/etcdctl-check-perf/")]
        prefix: String,
        /// How long to write
        #[arg(long, value_parser = duration::parse, default_value = "60s")]
        duration: Duration,
        /// Forget the history afterwards
        #[arg(long)]
        auto_compact: bool,
        /// Defragment the endpoints afterwards
        #[arg(long)]
        auto_defrag: bool,
    },
}

/// How much is written.
#[derive(Clone, Copy)]
struct Load {
    writes_per_sec: u64,
    clients: usize,
}

impl Load {
    fn named(name: &str) -> Option<Load> {
        let (writes_per_sec, clients) = match name {
            "s" | "small" => (150, 50),
            "m" | "medium" => (1000, 200),
            "l" | "large" => (8000, 500),
            "xl" | "xLarge" => (15_000, 1000),
            _ => return None,
        };
        Some(Load {
            writes_per_sec,
            clients,
        })
    }
}

impl Check {
    pub async fn run(self, context: Context) -> Result<()> {
        let Check::Perf {
            load,
            prefix,
            duration,
            auto_compact,
            auto_defrag,
        } = self;
        let Some(load) = Load::named(&load) else {
            let sentence = format!("unknown load option {load}");
            return Err(Failure::new(Exit::BadFeature, sentence));
        };
        let keys = KeyRange::prefix(prefix.clone());
        let there = Range {
            limit: 1,
            ..Range::new(keys.clone())
        };
        if !context.client.range(there).await?.kvs.is_empty() {
            let sentence = format!(
                "prefix {prefix:?} has keys. Delete with 'etcdctl del --prefix {prefix}' first"
            );
            return Err(Failure::new(Exit::InvalidInput, sentence));
        }
        let mut ends = Ends::listen()?;
        let report = write(&context, load, &prefix, duration, &mut ends).await?;
        clean_up(&context, keys, auto_compact).await?;
        for endpoint in context.endpoints.iter().filter(|_| auto_defrag) {
            context
                .printer
                .line(&format!("Defragmenting {endpoint:?}"))?;
            context
                .at(endpoint)?
                .with_deadline(CLEANUP)
                .defragment()
                .await?;
            context
                .printer
                .line(&format!("Defragmented {endpoint:?}"))?;
        }
        let (lines, passed) = report.verdict(load);
        for line in lines {
            context.printer.line(&line)?;
        }
        if passed { Ok(()) } else { Err(Failure::told()) }
    }
}

/// What the writers take their turns from.
struct Pace {
    began: Instant,
    ends: Instant,
    writes_per_sec: u64,
    next: AtomicU64,
    stopped: AtomicBool,
}

impl Pace {
    /// Waits for a turn; `false` when the time is up.
    async fn turn(&self) -> bool {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due =
            self.began + Duration::from_secs(1).mul_f64(number as f64 / self.writes_per_sec as f64);
        if due >= self.ends {
            return false;
        }
        sleep_until(due).await;
        !self.stopped.load(Ordering::Relaxed)
    }
}

/// What came of the writes.
#[derive(Default)]
struct Report {
    latencies_secs: Vec<f64>,
    /// How many there were of each.
    errors: BTreeMap<String, u64>,
    took: Duration,
}

async fn write(
    context: &Context,
    load: Load,
    prefix: &str,
    duration: Duration,
    ends: &mut Ends,
) -> Result<Report> {
    let began = Instant::now();
    let pace = Arc::new(Pace {
        began,
        ends: began + duration,
        writes_per_sec: load.writes_per_sec,
        next: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
    });
    let mut writers = JoinSet::new();
    for number in 0..load.clients {
        // Each has a connection of its own, to the endpoints in turn.
        let client = context.at(&context.endpoints[number % context.endpoints.len()])?;
        writers.spawn(write_in_turn(client, pace.clone(), prefix.to_owned()));
    }
    let bar = ProgressBar::new(duration.as_secs()).with_style(style());
    let mut seconds = interval(Duration::from_secs(1));
    let mut report = Report::default();
    loop {
        tokio::select! {
            written = writers.join_next() => match written {
                Some(written) => report.add(written.map_err(|error| Failure::new(Exit::Error, error.to_string()))?),
                None => break,
            },
            _ = seconds.tick() => bar.set_position(began.elapsed().as_secs()),
            () = ends.next() => pace.stopped.store(true, Ordering::Relaxed),
        }
    }
    bar.finish_and_clear();
    report.took = began.elapsed();
    Ok(report)
}

async fn write_in_turn(client: Client, pace: Arc<Pace>, prefix: String) -> Report {
    let mut report = Report::default();
    let value = vec![0; VALUE_BYTES];
    while pace.turn().await {
        let key = format!("{prefix}{:0KEY_BYTES$x}", fastrand::u64(..));
        let began = Instant::now();
        match client.put(key, value.clone()).await {
            Ok(_) => report.latencies_secs.push(began.elapsed().as_secs_f64()),
            Err(error) => *report.errors.entry(error.message).or_default() += 1,
        }
    }
    report
}

impl Report {
    fn add(&mut self, other: Report) {
        self.latencies_secs.extend(other.latencies_secs);
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }

    /// etcdctl's lines, and whether the cluster passed.
    fn verdict(&self, load: Load) -> (Vec<String>, bool) {
        let count = self.latencies_secs.len().max(1) as f64;
        let mean = self.latencies_secs.iter().sum::<f64>() / count;
        let squares: f64 = self
            .latencies_secs
            .iter()
            .map(|secs| (secs - mean).powi(2))
            .sum();
        let deviation = (squares / count).sqrt();
        let slowest = self.latencies_secs.iter().copied().fold(0.0, f64::max);
        let rate = self.latencies_secs.len() as f64 / self.took.as_secs_f64();
        let mut lines = Vec::new();
        let mut passed = self.errors.is_empty();
        if !passed {
            lines.push("FAIL: too many errors".to_owned());
        }
        for (error, count) in &self.errors {
            lines.push(format!("FAIL: ERROR({error}) -> {count}"));
        }
        let mut judge = |good: bool, pass: String, fail: String| {
            lines.push(if good { pass } else { fail });
            passed &= good;
        };
        let shown = rate as u64 + 1;
        judge(
            rate / load.writes_per_sec as f64 > 0.9,
            format!("PASS: Throughput is {shown} writes/s"),
            format!("FAIL: Throughput too low: {shown} writes/s"),
        );
        judge(
            slowest <= 0.5,
            format!("PASS: Slowest request took {slowest:.6}s"),
            format!("Slowest request took too long: {slowest:.6}s"),
        );
        judge(
            deviation <= 0.1,
            format!("PASS: Stddev is {deviation:.6}s"),
            format!("Stddev too high: {deviation:.6}s"),
        );
        lines.push(if passed { "PASS" } else { "FAIL" }.to_owned());
        (lines, passed)
    }
}

/// Removes what was written. That it could not be is told, and is no verdict on the cluster.
async fn clean_up(context: &Context, keys: KeyRange, compact: bool) -> Result<()> {
    let client = context.client.with_deadline(CLEANUP);
    let revision = match client.delete_with(Delete::new(keys)).await {
        Ok(deleted) => deleted.header.revision,
        Err(error) => {
            let line = format!(
                "FAIL: Cleanup failed during key deletion: ERROR({})",
                error.message
            );
            return context.printer.line(&line);
        }
    };
    if compact {
        context
            .printer
            .line(&format!("Compacting with revision {revision}"))?;
        let physical = true;
        client.compact(Compact { revision, physical }).await?;
        context
            .printer
            .line(&format!("Compacted with revision {revision}"))?;
    }
    Ok(())
}

fn style() -> ProgressStyle {
    let template = "{pos} of {len} s {wide_bar:.cyan}";
    ProgressStyle::with_template(template).expect("the template is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_etcdctls() {
        let load = Load::named("s").expect("there is one");
        let mut report = Report {
            latencies_secs: vec![0.001; 1500],
            took: Duration::from_secs(10),
            ..Report::default()
        };
        let (lines, passed) = report.verdict(load);
        assert!(passed);
        let expected = [
            "PASS: Throughput is 151 writes/s",
            "PASS: Slowest request took 0.001000s",
            "PASS: Stddev is 0.000000s",
            "PASS",
        ];
        assert_eq!(lines, expected);
        report.latencies_secs = vec![0.001, 0.7];
        report.errors.insert("refused".to_owned(), 3);
        let (lines, passed) = report.verdict(load);
        assert!(!passed);
        let expected = [
            "FAIL: too many errors",
            "FAIL: ERROR(refused) -> 3",
            "FAIL: Throughput too low: 1 writes/s",
            "Slowest request took too long: 0.700000s",
            "Stddev too high: 0.349500s",
            "FAIL",
        ];
        assert_eq!(lines, expected);
    }
}
