//! `keystead-bench`: a lean load generator for anything that speaks etcd's v3 API. One run is one workload; the result
//! is a line, or a JSON object with `--json`. `compare`, beside this crate, runs it against etcd and Keystead in turn.

mod admin;
mod caller;
mod load;
mod report;
mod streams;
mod usage;
mod wire;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};
use tokio::runtime::{Builder, LocalOptions};

use crate::admin::Action;
use crate::caller::{Shape, Workload};
use crate::report::Report;

#[derive(Parser)]
#[command(about = "Load etcd-compatible servers, at a few microseconds of own CPU a call")]
struct Options {
    /// The members' client addresses, with commas between; `run` spreads its connections over them, the others take the first.
    #[arg(
        long,
        global = true,
        default_value = "127.0.0.1:2379",
        value_delimiter = ','
    )]
    endpoint: Vec<SocketAddr>,
    /// The members' processes, with commas between: their CPU time and writes are reported per operation.
    #[arg(long, global = true, value_delimiter = ',')]
    pid: Vec<u32>,
    /// Print a JSON object instead of a line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Unary calls, in a closed loop or at a fixed rate.
    Run(Run),
    /// Watchers of one key, and a writer.
    Watch(Watch),
    /// Lease keepalives on long streams.
    Keepalive(Keepalive),
    /// One administrative call, timed; always prints JSON.
    Do { action: Action },
}

#[derive(Args)]
struct Run {
    workload: Workload,
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Connections that the clients share [default: a tenth of the clients].
    #[arg(long)]
    connections: Option<usize>,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Calls a second, started when due; without it each client calls again when it was answered.
    #[arg(long)]
    rate: Option<u64>,
    /// Number of keys that are written, or read.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
}

#[derive(Args)]
struct Watch {
    #[arg(long, default_value_t = 1000)]
    watchers: usize,
    #[arg(long, default_value_t = 10)]
    streams: usize,
    #[arg(long, default_value_t = 10)]
    connections: usize,
    #[arg(long, default_value_t = 300)]
    puts: u64,
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
}

#[derive(Args)]
struct Keepalive {
    #[arg(long, default_value_t = 100)]
    streams: usize,
    #[arg(long, default_value_t = 10)]
    connections: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let report = match &options.command {
        Command::Run(run) => load::run(&plan(&options, run)?)?,
        Command::Watch(watch) => on_one_thread(streams::watch(&watch_plan(&options, watch)?))?,
        Command::Keepalive(keepalive) => {
            on_one_thread(streams::keepalive(&keepalive_plan(&options, keepalive)))?
        }
        Command::Do { action } => {
            println!(
                "{}",
                on_one_thread(admin::act(options.endpoint[0], *action))?
            );
            return Ok(());
        }
    };
    print(&report, options.json);
    Ok(())
}

fn plan(options: &Options, run: &Run) -> Result<load::Plan> {
    ensure!(
        run.clients > 0 && run.threads > 0 && run.keys > 0,
        "clients, threads and keys must be above zero"
    );
    Ok(load::Plan {
        servers: options.endpoint.clone(),
        workload: run.workload,
        shape: Shape {
            keys: run.keys,
            value: vec![b'v'; run.value_bytes].into(),
        },
        clients: run.clients,
        connections: run.connections.unwrap_or(run.clients / 10).max(1),
        threads: run.threads.min(run.clients),
        duration: Duration::from_secs_f64(run.seconds),
        rate: run.rate,
        server_pids: options.pid.clone(),
    })
}

fn watch_plan(options: &Options, watch: &Watch) -> Result<streams::WatchPlan> {
    ensure!(
        watch.watchers >= watch.streams && watch.streams > 0,
        "each stream needs a watcher"
    );
    Ok(streams::WatchPlan {
        server: options.endpoint[0],
        watchers: watch.watchers,
        streams: watch.streams,
        connections: watch.connections.max(1),
        puts: watch.puts,
        value_bytes: watch.value_bytes,
        server_pids: options.pid.clone(),
    })
}

fn keepalive_plan(options: &Options, keepalive: &Keepalive) -> streams::KeepAlivePlan {
    streams::KeepAlivePlan {
        server: options.endpoint[0],
        streams: keepalive.streams,
        connections: keepalive.connections.max(1),
        duration: Duration::from_secs_f64(keepalive.seconds),
        server_pids: options.pid.clone(),
    }
}

fn on_one_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(work)
}

fn print(report: &Report, json: bool) {
    if json {
        println!("{}", report.json());
    } else {
        println!("{}", report.line());
    }
}
