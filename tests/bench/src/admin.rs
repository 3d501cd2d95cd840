//! Single calls that `compare` times: is the member up, defragment, compact, save a snapshot, what does it say of itself.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::ValueEnum;
use keystead_proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, PutRequest, PutResponse, RangeRequest, RangeResponse,
    SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
};
use prost::Message;
use serde_json::{Value, json};

use crate::caller::key;
use crate::wire::{Connection, Rpc, frame};

/// How long `ready` and `writable` wait.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long they wait for one answer before they ask again.
const READ_WITHIN: Duration = Duration::from_secs(5);
const WRITTEN_WITHIN: Duration = Duration::from_millis(200);

/// What to do once.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Action {
    /// Wait until a linearizable read answers.
    Ready,
    /// Wait until a put is answered.
    Writable,
    /// Copy the store into a compact one.
    Defragment,
    /// Compact at the newest revision and wait until it is done physically.
    Compact,
    /// Receive a whole snapshot.
    Snapshot,
    /// Version, sizes, revision, and whether this member leads.
    Status,
}

/// Does it, and gives what it took.
pub async fn act(server: SocketAddr, action: Action) -> Result<Value> {
    let start = Instant::now();
    let mut facts = match action {
        Action::Ready => ready(server).await?,
        Action::Writable => writable(server).await?,
        Action::Defragment => defragment(server).await?,
        Action::Compact => compact(server).await?,
        Action::Snapshot => snapshot(server).await?,
        Action::Status => status(server).await?,
    };
    facts["elapsed_secs"] = json!(start.elapsed().as_secs_f64());
    Ok(facts)
}

async fn ready(server: SocketAddr) -> Result<Value> {
    let rpc = Rpc::new(server, "/etcdserverpb.KV/Range")?;
    let message = frame(&RangeRequest {
        key: key(0),
        ..Default::default()
    });
    let answer = until_answered(server, &rpc, message, READ_WITHIN).await?;
    Ok(json!({ "keys_found": RangeResponse::decode(answer)?.count }))
}

async fn writable(server: SocketAddr) -> Result<Value> {
    let rpc = Rpc::new(server, "/etcdserverpb.KV/Put")?;
    let message = frame(&PutRequest {
        key: Bytes::from_static(b"bench-writable"),
        ..Default::default()
    });
    until_answered(server, &rpc, message, WRITTEN_WITHIN).await?;
    Ok(json!({}))
}

/// Asks again and again, each time on a connection of its own.
async fn until_answered(
    server: SocketAddr,
    rpc: &Rpc,
    message: Bytes,
    within: Duration,
) -> Result<Bytes> {
    let start = Instant::now();
    loop {
        let answer = async {
            Connection::open(server)
                .await?
                .call(rpc, message.clone())
                .await
        };
        match tokio::time::timeout(within, answer).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if start.elapsed() > READY_WITHIN => return Err(error),
            Err(_) if start.elapsed() > READY_WITHIN => bail!("the member did not answer"),
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

async fn defragment(server: SocketAddr) -> Result<Value> {
    let rpc = Rpc::new(server, "/etcdserverpb.Maintenance/Defragment")?;
    Connection::open(server)
        .await?
        .call(&rpc, frame(&DefragmentRequest {}))
        .await?;
    Ok(json!({}))
}

async fn compact(server: SocketAddr) -> Result<Value> {
    let mut connection = Connection::open(server).await?;
    let put = Rpc::new(server, "/etcdserverpb.KV/Put")?;
    let request = PutRequest {
        key: Bytes::from_static(b"bench-compact"),
        ..Default::default()
    };
    let answer = PutResponse::decode(connection.call(&put, frame(&request)).await?)?;
    let revision = answer
        .header
        .context("a put's answer has a header")?
        .revision;
    let rpc = Rpc::new(server, "/etcdserverpb.KV/Compact")?;
    connection
        .call(
            &rpc,
            frame(&CompactionRequest {
                revision,
                physical: true,
            }),
        )
        .await?;
    Ok(json!({ "revision": revision }))
}

async fn snapshot(server: SocketAddr) -> Result<Value> {
    let rpc = Rpc::new(server, "/etcdserverpb.Maintenance/Snapshot")?;
    let mut stream = Connection::open(server).await?.stream(&rpc).await?;
    stream.send(frame(&SnapshotRequest {}))?;
    stream.finish()?;
    let mut size_bytes = 0;
    while let Some(part) = stream.next().await? {
        size_bytes += SnapshotResponse::decode(part)?.blob.len();
    }
    Ok(json!({ "size_bytes": size_bytes }))
}

async fn status(server: SocketAddr) -> Result<Value> {
    let rpc = Rpc::new(server, "/etcdserverpb.Maintenance/Status")?;
    let answer = Connection::open(server)
        .await?
        .call(&rpc, frame(&StatusRequest {}))
        .await?;
    let status = StatusResponse::decode(answer)?;
    Ok(json!({
        "version": status.version,
        "leads": status.header.is_some_and(|header| header.member_id == status.leader),
        "db_size_bytes": status.db_size,
        "db_size_in_use_bytes": status.db_size_in_use,
        "revision": status.header.map_or(0, |header| header.revision),
    }))
}
