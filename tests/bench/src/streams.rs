//! The workloads on long streams: watchers that share one key, and lease keepalives.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, PutRequest, WatchCreateRequest,
    WatchRequest, WatchResponse,
};
use prost::Message;
use tokio::task::JoinSet;

use crate::report::{Report, histogram};
use crate::usage::Usage;
use crate::wire::{Connection, Rpc, Stream, frame};

/// The key that every watcher watches.
const WATCHED: &[u8] = b"bench-watched";
/// A lease that outlives any run.
const LEASE_TTL_SECS: i64 = 3600;

/// `watchers` on one key over `streams` streams, and `puts` of that key, each after all have seen the one before.
pub struct WatchPlan {
    pub server: SocketAddr,
    pub watchers: usize,
    pub streams: usize,
    pub connections: usize,
    pub puts: u64,
    pub value_bytes: usize,
    pub server_pids: Vec<u32>,
}

/// Runs the watchers. An operation of the report is one delivered event; its latency counts from the put's start.
pub async fn watch(plan: &WatchPlan) -> Result<Report> {
    let rpc = Rpc::new(plan.server, "/etcdserverpb.Watch/Watch")?;
    let connections = connect(plan.server, plan.connections).await?;
    let seen = Rc::new(Deliveries::new(plan.watchers));
    let mut tasks = JoinSet::new();
    for index in 0..plan.streams {
        let mut stream = connections[index % connections.len()]
            .clone()
            .stream(&rpc)
            .await?;
        let watchers =
            plan.watchers / plan.streams + usize::from(index < plan.watchers % plan.streams);
        for _ in 0..watchers {
            stream.send(frame(&create(WATCHED)))?;
        }
        for _ in 0..watchers {
            let answer = stream.next().await?.context("the watch ended at once")?;
            if !WatchResponse::decode(answer)?.created {
                bail!("the server did not confirm a watcher");
            }
        }
        tasks.spawn_local(deliver(stream, seen.clone()));
    }
    let begin = (
        Instant::now(),
        Usage::own()?,
        Usage::of_all(&plan.server_pids)?,
    );
    put_one_by_one(plan, connections[0].clone(), &seen).await?;
    let elapsed = begin.0.elapsed();
    let server = Usage::of_all(&plan.server_pids)?;
    Ok(Report {
        workload: "watch".to_owned(),
        clients: plan.watchers,
        connections: plan.connections,
        operations: seen.events.get(),
        calls: plan.puts,
        errors: 0,
        elapsed,
        latency: seen.latency.borrow().clone(),
        own: Usage::own()?.since(&begin.1),
        server: server.zip(begin.2).map(|(end, begin)| end.since(&begin)),
    })
}

/// Counts events as they arrive and wakes the writer when every watcher has the newest.
struct Deliveries {
    watchers: u64,
    events: Cell<u64>,
    put_at: Cell<Instant>,
    latency: RefCell<Histogram<u64>>,
    complete: tokio::sync::Notify,
}

impl Deliveries {
    fn new(watchers: usize) -> Deliveries {
        Deliveries {
            watchers: watchers as u64,
            events: Cell::new(0),
            put_at: Cell::new(Instant::now()),
            latency: RefCell::new(histogram()),
            complete: tokio::sync::Notify::new(),
        }
    }

    fn arrived(&self, events: u64) {
        let latency = self.put_at.get().elapsed().as_micros() as u64;
        self.latency
            .borrow_mut()
            .saturating_record_n(latency, events);
        self.events.set(self.events.get() + events);
        if self.events.get().is_multiple_of(self.watchers) {
            self.complete.notify_one();
        }
    }
}

async fn deliver(mut stream: Stream, seen: Rc<Deliveries>) -> Result<()> {
    while let Some(answer) = stream.next().await? {
        let events = WatchResponse::decode(answer)?.events.len() as u64;
        if events > 0 {
            seen.arrived(events);
        }
    }
    Ok(())
}

async fn put_one_by_one(
    plan: &WatchPlan,
    mut connection: Connection,
    seen: &Deliveries,
) -> Result<()> {
    let rpc = Rpc::new(plan.server, "/etcdserverpb.KV/Put")?;
    let put = frame(&PutRequest {
        key: Bytes::from_static(WATCHED),
        value: vec![b'v'; plan.value_bytes].into(),
        ..Default::default()
    });
    for _ in 0..plan.puts {
        seen.put_at.set(Instant::now());
        connection.call(&rpc, put.clone()).await?;
        tokio::time::timeout(Duration::from_secs(30), seen.complete.notified())
            .await
            .context("the watchers did not all get an event within 30 s")?;
    }
    Ok(())
}

fn create(key: &'static [u8]) -> WatchRequest {
    let create = WatchCreateRequest {
        key: Bytes::from_static(key),
        ..Default::default()
    };
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    }
}

/// `streams` long keepalive streams, each with one lease, each sending again when it was answered.
pub struct KeepAlivePlan {
    pub server: SocketAddr,
    pub streams: usize,
    pub connections: usize,
    pub duration: Duration,
    pub server_pids: Vec<u32>,
}

/// Runs the keepalives.
pub async fn keepalive(plan: &KeepAlivePlan) -> Result<Report> {
    let connections = connect(plan.server, plan.connections).await?;
    let grant = Rpc::new(plan.server, "/etcdserverpb.Lease/LeaseGrant")?;
    let rpc = Rpc::new(plan.server, "/etcdserverpb.Lease/LeaseKeepAlive")?;
    let latency = Rc::new(RefCell::new(histogram()));
    let mut leases = Vec::new();
    for index in 0..plan.streams {
        let mut connection = connections[index % connections.len()].clone();
        let request = LeaseGrantRequest {
            ttl: LEASE_TTL_SECS,
            ..Default::default()
        };
        let lease = LeaseGrantResponse::decode(connection.call(&grant, frame(&request)).await?)?.id;
        leases.push((connection.stream(&rpc).await?, lease));
    }
    let begin = (
        Instant::now(),
        Usage::own()?,
        Usage::of_all(&plan.server_pids)?,
    );
    let until = begin.0 + plan.duration;
    let mut tasks = JoinSet::new();
    for (stream, lease) in leases {
        tasks.spawn_local(keep(stream, lease, until, latency.clone()));
    }
    let mut errors = 0;
    while let Some(ended) = tasks.join_next().await {
        errors += u64::from(ended?.is_err());
    }
    let latency = latency.borrow().clone();
    let server = Usage::of_all(&plan.server_pids)?;
    Ok(Report {
        workload: "keepalive".to_owned(),
        clients: plan.streams,
        connections: plan.connections,
        operations: latency.len(),
        calls: latency.len(),
        errors,
        elapsed: begin.0.elapsed(),
        latency,
        own: Usage::own()?.since(&begin.1),
        server: server.zip(begin.2).map(|(end, begin)| end.since(&begin)),
    })
}

async fn keep(
    mut stream: Stream,
    lease: i64,
    until: Instant,
    latency: Rc<RefCell<Histogram<u64>>>,
) -> Result<()> {
    let message = frame(&LeaseKeepAliveRequest { id: lease });
    loop {
        let sent = Instant::now();
        if sent >= until {
            return stream.finish();
        }
        stream.send(message.clone())?;
        stream.next().await?.context("the keepalive stream ended")?;
        latency
            .borrow_mut()
            .saturating_record(sent.elapsed().as_micros() as u64);
    }
}

async fn connect(server: SocketAddr, count: usize) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(Connection::open(server).await?);
    }
    Ok(connections)
}
