//! Deterministic simulation: clusters of three and five members of keystead-raft in one thread and simulated time.
//!
//! ```text
//!  set ──► one process a seed ──► run ──► turmoil: hosts, clock, network
//!                                  │        member: the real crate, its store in a directory, its log on `disk`
//!                                  │        load, leases: its clients
//!                                  ├─ faults: what goes wrong, and when; network, wires, disk: how
//!                                  └─ world: what is known from outside, and rules: what must be so
//! ```
//!
//! A seed is a run: `cargo run -p keystead-simulation -- --seed N` does the same each time, and `--verbose` tells what happens.

mod coverage;
mod disk;
mod faults;
mod leases;
mod load;
mod member;
mod network;
mod plan;
mod randomness;
mod rules;
mod run;
mod set;
mod watching;
mod wires;
mod world;

use std::process::ExitCode;

use clap::Parser;

use plan::Plan;

/// Simulates clusters under faults, and judges what their clients saw.
#[derive(Parser)]
pub(crate) struct Arguments {
    /// Runs this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Tells all that happens in it.
    #[arg(long, requires = "seed")]
    verbose: bool,
    /// How many fixed seeds are run, from the first on.
    #[arg(long, default_value_t = 50)]
    pub(crate) fixed: u64,
    /// How many seeds are run that nobody has chosen.
    #[arg(long, default_value_t = 10)]
    pub(crate) fresh: u64,
    /// Ends with the first that fails.
    #[arg(long)]
    pub(crate) stop: bool,
    /// How many run at a time.
    #[arg(long, default_value_t = 2)]
    pub(crate) jobs: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.seed {
        Some(seed) => one(seed, arguments.verbose),
        None => set::run(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("keystead-simulation: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one seed, and says whether all was right.
fn one(seed: u64, verbose: bool) -> anyhow::Result<bool> {
    randomness::seed(seed);
    let report = run::run(Plan::of(seed), verbose)?;
    for violation in &report.violations {
        println!("violation: {violation}");
    }
    let counts = report.coverage.counts().into_iter();
    let counts: Vec<String> = counts
        .map(|(name, count)| format!("{name}={count}"))
        .collect();
    println!(
        "seed={seed} members={} simulated_ms={} trace={:016x} {}",
        report.members,
        report.simulated_ms,
        report.trace,
        counts.join(" ")
    );
    Ok(report.violations.is_empty())
}
