//! A set of seeds, each in a process of its own: nothing of one run reaches the next, and one that hangs is ended.

use std::env;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::Arguments;
use crate::coverage::Coverage;

/// How long one run may take, on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(600);
/// Fewer runs can't be expected to go through everything.
const ENOUGH_RUNS: usize = 40;

/// What all runs of a set came to.
#[derive(Default)]
struct Sum {
    coverage: Coverage,
    simulated_ms: u64,
    failed: Vec<u64>,
}

/// Runs fixed seeds and fresh ones, as the arguments say, and says whether all was right and everything was gone through.
///
/// # Errors
/// This program can't be run again.
pub fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let (fixed, fresh) = (arguments.fixed, arguments.fresh);
    let mut seeds: Vec<u64> = (1..=fixed).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let mut dice = fastrand::Rng::with_seed(now);
    let new: Vec<u64> = (0..fresh).map(|_| dice.u64(1_000..1_000_000_000)).collect();
    println!("fixed seeds 1 to {fixed}; fresh seeds {new:?}");
    seeds.extend(new);
    let began = Instant::now();
    let sum = Mutex::new(Sum::default());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let output = one(*seed);
                    let mut sum = sum.lock();
                    take(*seed, output, &mut sum);
                    if arguments.stop && !sum.failed.is_empty() {
                        break;
                    }
                }
            });
        }
    });
    let sum = sum.into_inner();
    let counts = sum.coverage.counts();
    let told: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{} {count}", name.replace('_', " ")))
        .collect();
    println!("went through: {}", told.join(", "));
    let missed: Vec<_> = counts.iter().filter(|(_, count)| *count == 0).collect();
    let missed = if seeds.len() >= ENOUGH_RUNS {
        missed
    } else {
        Vec::new()
    };
    for (name, _) in &missed {
        println!("MISSED: no run had {}", name.replace('_', " "));
    }
    println!(
        "simulation: {} seeds, {} s of simulated time in {} s: {} failed",
        seeds.len(),
        sum.simulated_ms / 1000,
        began.elapsed().as_secs(),
        sum.failed.len()
    );
    Ok(sum.failed.is_empty() && missed.is_empty())
}

/// Runs a seed in a process, and returns what it printed where it ended well.
fn one(seed: u64) -> Result<String, String> {
    let fail = |error: std::io::Error| error.to_string();
    let mut child = Command::new(env::current_exe().map_err(fail)?)
        .args(["--seed", &seed.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    let mut stdout = child.stdout.take().ok_or("no output")?;
    let reading = thread::spawn(move || {
        let mut said = String::new();
        stdout.read_to_string(&mut said).map(|_| said)
    });
    let limit = Instant::now() + LIMIT;
    let status = loop {
        match child.try_wait().map_err(fail)? {
            Some(status) => break Some(status),
            None if Instant::now() > limit => {
                child.kill().map_err(fail)?;
                child.wait().map_err(fail)?;
                break None;
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    let said = reading.join().map_err(|_| "its output was not read")?;
    let said = said.map_err(fail)?;
    match status {
        Some(status) if status.success() => Ok(said),
        Some(status) => Err(format!("{said}{status}")),
        None => Err(format!("{said}it did not end within {} s", LIMIT.as_secs())),
    }
}

fn take(seed: u64, output: Result<String, String>, sum: &mut Sum) {
    let said = match output {
        Ok(said) => said,
        Err(said) => {
            println!(
                "seed {seed} FAILED:\n{said}\n    cargo run -p keystead-simulation -- --seed {seed} --verbose"
            );
            sum.failed.push(seed);
            said
        }
    };
    for (name, count) in said
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
    {
        let Ok(count) = count.parse() else { continue };
        match name {
            "simulated_ms" => sum.simulated_ms += count,
            name => sum.coverage.add(name, count),
        }
    }
}
