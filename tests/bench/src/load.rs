//! Runs a unary workload: closed loop (each client calls again when it was answered) or at a fixed rate (a call starts
//! when it is due, however late the earlier ones are, so that a stall shows in the percentiles).
//!
//! Each thread has its own runtime, connections and histogram; the coordinator sleeps, and reads the clocks and
//! counters at the edges of the measured window.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

use crate::caller::{Caller, Rpcs, Shape, Workload};
use crate::report::{Report, histogram};
use crate::usage::Usage;
use crate::wire::Connection;

/// Calls before the measured window, so that connections are up and caches warm.
const WARM_UP: Duration = Duration::from_millis(300);

/// A run's shape in time and space.
#[derive(Clone)]
pub struct Plan {
    /// Never empty.
    pub servers: Vec<SocketAddr>,
    pub workload: Workload,
    pub shape: Shape,
    pub clients: usize,
    pub connections: usize,
    pub threads: usize,
    pub duration: Duration,
    /// Calls a second over all threads; `None` is a closed loop.
    pub rate: Option<u64>,
    pub server_pids: Vec<u32>,
}

/// Shared by a run's threads; each counts in its own words.
#[derive(Default)]
struct Signals {
    measuring: AtomicBool,
    stopping: AtomicBool,
}

#[derive(Default)]
struct Counters {
    calls: AtomicU64,
    errors: AtomicU64,
}

/// Runs the plan to its end.
///
/// # Errors
/// When the server cannot be reached at all; calls that fail later are counted in the report.
pub fn run(plan: &Plan) -> Result<Report> {
    let signals = Arc::new(Signals::default());
    let counters: Vec<Arc<Counters>> = (0..plan.threads).map(|_| Arc::default()).collect();
    // `load` is measured from its first call to its last, the others in a window.
    let one_pass = plan.workload == Workload::Load;
    signals.measuring.store(one_pass, Relaxed);
    let start = Edge::read(plan, &counters)?;
    let threads: Vec<_> = counters
        .iter()
        .enumerate()
        .map(|(index, own)| spawn(plan, index, &signals, own))
        .collect();
    let window = if one_pass {
        None
    } else {
        Some(measure(plan, &signals, &counters)?)
    };
    signals.stopping.store(!one_pass, Relaxed);
    let latency = join(threads)?;
    let last = Edge::read(plan, &counters)?;
    let (calls, errors) = (last.calls, last.errors);
    let (begin, end) = window.unwrap_or((start, last));
    Ok(Report {
        workload: plan.workload.name(),
        clients: plan.clients,
        connections: plan.connections,
        operations: end.calls - begin.calls,
        calls,
        errors,
        elapsed: end.at - begin.at,
        latency,
        own: end.own.since(&begin.own),
        server: end
            .server
            .zip(begin.server)
            .map(|(end, begin)| end.since(&begin)),
    })
}

fn measure(plan: &Plan, signals: &Signals, counters: &[Arc<Counters>]) -> Result<(Edge, Edge)> {
    thread::sleep(WARM_UP);
    let begin = Edge::read(plan, counters)?;
    signals.measuring.store(true, Relaxed);
    thread::sleep(plan.duration);
    let end = Edge::read(plan, counters)?;
    signals.measuring.store(false, Relaxed);
    Ok((begin, end))
}

/// All that is read at an edge of the measured window.
struct Edge {
    at: Instant,
    own: Usage,
    server: Option<Usage>,
    calls: u64,
    errors: u64,
}

impl Edge {
    fn read(plan: &Plan, counters: &[Arc<Counters>]) -> Result<Edge> {
        Ok(Edge {
            at: Instant::now(),
            own: Usage::own()?,
            server: Usage::of_all(&plan.server_pids)?,
            calls: counters
                .iter()
                .map(|thread| thread.calls.load(Relaxed))
                .sum(),
            errors: counters
                .iter()
                .map(|thread| thread.errors.load(Relaxed))
                .sum(),
        })
    }
}

type Handle = thread::JoinHandle<Result<Histogram<u64>>>;

fn spawn(plan: &Plan, index: usize, signals: &Arc<Signals>, counters: &Arc<Counters>) -> Handle {
    let (plan, signals, counters) = (plan.clone(), signals.clone(), counters.clone());
    thread::spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())?;
        runtime.block_on(async move {
            let thread = Thread::connect(plan, index, signals, counters).await?;
            match thread.plan.rate {
                Some(rate) => at_rate(Rc::new(thread), rate).await,
                None => closed_loop(Rc::new(thread)).await,
            }
        })
    })
}

fn join(threads: Vec<Handle>) -> Result<Histogram<u64>> {
    let mut all = histogram();
    for thread in threads {
        let latency = thread
            .join()
            .map_err(|_| anyhow!("a load thread panicked"))??;
        all.add(latency)?;
    }
    Ok(all)
}

/// What the tasks of one thread share.
struct Thread {
    plan: Plan,
    index: usize,
    rpcs: Rpcs,
    connections: Vec<Connection>,
    signals: Arc<Signals>,
    counters: Arc<Counters>,
    latency: RefCell<Histogram<u64>>,
}

impl Thread {
    async fn connect(
        plan: Plan,
        index: usize,
        signals: Arc<Signals>,
        counters: Arc<Counters>,
    ) -> Result<Thread> {
        let mut connections = Vec::new();
        let own = plan.connections.div_ceil(plan.threads);
        for server in plan.servers.iter().cycle().skip(index).take(own) {
            connections.push(Connection::open(*server).await?);
        }
        // A server takes calls whatever authority they name.
        let rpcs = Rpcs::new(plan.servers[0])?;
        Ok(Thread {
            plan,
            index,
            rpcs,
            connections,
            signals,
            counters,
            latency: RefCell::new(histogram()),
        })
    }

    fn caller(&self, client: usize) -> Caller {
        Caller::new(
            self.plan.workload,
            self.plan.shape.clone(),
            client,
            self.plan.clients,
        )
    }

    /// One call, timed from `due`, and told if it was due within the window, however late it ends: what a stall leaves
    /// waiting at the window's end counts. False when the caller has nothing left to ask.
    async fn call(&self, caller: &mut Caller, connection: &mut Connection, due: Instant) -> bool {
        let Some((rpc, message)) = caller.request(&self.rpcs) else {
            return false;
        };
        let measured = self.signals.measuring.load(Relaxed);
        match connection.call(rpc, message).await {
            Ok(answer) => caller.answered(answer),
            Err(error) if self.counters.errors.fetch_add(1, Relaxed) == 0 => {
                eprintln!("first failed call: {error:#}")
            }
            Err(_) => {}
        }
        self.counters.calls.fetch_add(1, Relaxed);
        if measured {
            self.latency
                .borrow_mut()
                .saturating_record(due.elapsed().as_micros() as u64);
        }
        true
    }
}

async fn closed_loop(thread: Rc<Thread>) -> Result<Histogram<u64>> {
    let mut clients = tokio::task::JoinSet::new();
    let here = (thread.plan.clients - thread.index).div_ceil(thread.plan.threads);
    for client in (thread.index..thread.plan.clients).step_by(thread.plan.threads) {
        let mut caller = thread.caller(client);
        // One of the connections; several where there are fewer clients, which are used in turn.
        let (own, all) = (
            clients.len() % thread.connections.len(),
            &thread.connections,
        );
        let mut own: Vec<_> = all.iter().skip(own).step_by(here).cloned().collect();
        let thread = thread.clone();
        clients.spawn_local(async move {
            for turn in 0.. {
                let connection = turn % own.len();
                let stopping = thread.signals.stopping.load(Relaxed);
                if stopping
                    || !thread
                        .call(&mut caller, &mut own[connection], Instant::now())
                        .await
                {
                    return;
                }
            }
        });
    }
    clients.join_all().await;
    Ok(thread.latency.borrow().clone())
}

async fn at_rate(thread: Rc<Thread>, rate: u64) -> Result<Histogram<u64>> {
    let mut due = pace(
        rate as f64 / thread.plan.threads as f64,
        thread.signals.clone(),
    );
    let mut calls = tokio::task::JoinSet::new();
    let mut number = thread.index;
    while let Some(due) = due.recv().await {
        let mut caller = thread.caller(number);
        let mut connection = thread.connections[number % thread.connections.len()].clone();
        number += thread.plan.threads;
        let thread = thread.clone();
        calls.spawn_local(async move { thread.call(&mut caller, &mut connection, due).await });
        while calls.try_join_next().is_some() {}
    }
    calls.join_all().await;
    Ok(thread.latency.borrow().clone())
}

/// A thread of its own wakes at each due time: tokio's timer has a grain of a millisecond, a sleep about 60 us.
fn pace(rate: f64, signals: Arc<Signals>) -> mpsc::UnboundedReceiver<Instant> {
    let (send, receive) = mpsc::unbounded_channel();
    thread::spawn(move || {
        let start = Instant::now();
        for number in 0u64.. {
            let due = start + Duration::from_secs_f64(number as f64 / rate);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if signals.stopping.load(Relaxed) || send.send(due).is_err() {
                return;
            }
        }
    });
    receive
}
