//! Calls in a closed loop through one client, and the CPU time that this process spent on each, in microseconds:
//!
//! ```text
//! client-cost keystead|keystead-all|etcd-client put|get http://127.0.0.1:2379 TASKS CALLS
//! ```
//!
//! `keystead-all` has telemetry, a session, a watch and the learning of members beside the calls.

use std::env;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use keystead_client::{Client, ConnectOptions, KeyRange, Telemetry, TelemetrySink, Watch};

const KEYS: u64 = 1000;
const VALUE_BYTES: usize = 256;
/// The kernel reports CPU time in ticks of 1/100 s.
const TICK: Duration = Duration::from_millis(10);

#[derive(Clone, Copy)]
enum Operation {
    Put,
    Get,
}

#[derive(Clone)]
enum Caller {
    Keystead(Client),
    Etcd(etcd_client::Client),
}

impl Caller {
    async fn call(&mut self, operation: Operation, number: u64, value: &Bytes) -> Result<()> {
        let key = format!("cost/{}", number % KEYS);
        match (self, operation) {
            (Caller::Keystead(client), Operation::Put) => {
                client.put(key, value.clone()).await?;
            }
            (Caller::Keystead(client), Operation::Get) => {
                ensure!(client.get(key).await?.is_some(), "the key is there");
            }
            (Caller::Etcd(client), Operation::Put) => {
                client.put(key, value.as_ref(), None).await?;
            }
            (Caller::Etcd(client), Operation::Get) => {
                let answer = client.get(key, None).await?;
                ensure!(!answer.kvs().is_empty(), "the key is there");
            }
        }
        Ok(())
    }
}

/// Counts, as metrics do.
#[derive(Default)]
struct Counts {
    calls: AtomicU64,
    attempts: AtomicU64,
    micros: AtomicU64,
}

impl Telemetry for Counts {
    fn call(&self, call: &keystead_client::Call<'_>) {
        self.calls.fetch_add(1, Relaxed);
        let micros = call.duration.as_micros();
        self.micros.fetch_add(micros as u64, Relaxed);
    }

    fn attempt(&self, _: &keystead_client::Attempt<'_>) {
        self.attempts.fetch_add(1, Relaxed);
    }
}

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [client, operation, endpoint, tasks, calls] = &words[..] else {
        bail!("client-cost CLIENT put|get ENDPOINT TASKS CALLS");
    };
    let operation = match operation.as_str() {
        "put" => Operation::Put,
        "get" => Operation::Get,
        other => bail!("{other}: put or get"),
    };
    let (tasks, calls) = (tasks.parse()?, calls.parse()?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measure(client, operation, endpoint, tasks, calls))
}

async fn measure(
    client: &str,
    operation: Operation,
    endpoint: &str,
    tasks: usize,
    calls: u64,
) -> Result<()> {
    let options = ConnectOptions::new([endpoint]);
    match client {
        "keystead" => {
            let caller = Caller::Keystead(Client::connect(options).await?);
            report(&caller, operation, tasks, calls).await
        }
        "keystead-all" => {
            let options = ConnectOptions {
                telemetry: Some(TelemetrySink::new(Counts::default())),
                sync_interval: Some(Duration::from_secs(1)),
                ..options
            };
            let client = Client::connect(options).await?;
            let session = client.session(Duration::from_secs(3)).await?;
            let watch = Watch::new(KeyRange::prefix("elsewhere/"));
            let watcher = client.watch(watch).await?;
            let caller = Caller::Keystead(client);
            report(&caller, operation, tasks, calls).await?;
            watcher.cancel();
            Ok(session.close().await?)
        }
        "etcd-client" => {
            let client = etcd_client::Client::connect([endpoint], None).await?;
            report(&Caller::Etcd(client), operation, tasks, calls).await
        }
        other => bail!("{other}: which client?"),
    }
}

async fn report(caller: &Caller, operation: Operation, tasks: usize, calls: u64) -> Result<()> {
    // Every key is there, and everything is warm.
    run(caller, Operation::Put, tasks, KEYS).await?;
    run(caller, operation, tasks, calls / 10).await?;
    let before = cpu_time()?;
    run(caller, operation, tasks, calls).await?;
    let used = cpu_time()? - before;
    println!("{:.3}", used.as_secs_f64() * 1e6 / calls as f64);
    Ok(())
}

async fn run(caller: &Caller, operation: Operation, tasks: usize, calls: u64) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let tasks = (0..tasks).map(|_| {
        let (mut caller, next, value) = (caller.clone(), next.clone(), value.clone());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= calls {
                    return anyhow::Ok(());
                }
                caller.call(operation, number, &value).await?;
            }
        })
    });
    for ended in try_join_all(tasks).await? {
        ended?;
    }
    Ok(())
}

/// Of this process, in user space and in the kernel.
fn cpu_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // Fields count from the closing parenthesis, where "state" is the first.
    let fields = stat.rsplit(')').next().context("no fields")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks =
        |index: usize| -> Result<u32> { Ok(fields.get(index).context("no field")?.parse()?) };
    Ok(TICK * (ticks(11)? + ticks(12)?))
}
