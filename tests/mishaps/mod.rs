//! What a cluster does in the moments that matter, one test each, on Keystead and, where it can be built, on real etcd.
//! Random faults are in `chaos`.

mod disk;
mod founding;
mod leader;
mod leases;
mod majority;
mod refusals;
mod snapshot;
mod streams;
mod timeouts;

use std::time::Duration;

use keystead_proto::etcdserverpb::{PutRequest, RangeRequest};
use keystead_tests::{Cluster, Kind, Unary, eventually};
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Channel;

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(90);
/// Longer than a member takes to give up a request: 5 s and two election timeouts.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// What every test runs on.
const PROGRAMS: [Kind; 2] = [Kind::Etcd, Kind::Keystead];

/// Elections within a second.
const TIMING: [&str; 4] = ["--heartbeat-interval", "50", "--election-timeout", "500"];

/// Runs a test on a fresh cluster of three of each program, one after the other.
async fn on_each(test: impl AsyncFn(&mut Cluster)) {
    for kind in PROGRAMS {
        match Cluster::start(kind, 3, &TIMING).await {
            Some(mut cluster) => {
                println!("on {kind:?}");
                test(&mut cluster).await;
            }
            None => println!("skipped on {kind:?}: there is none"),
        }
    }
}

async fn put(channel: Channel, key: &str, value: &str) -> Result<i64, Status> {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    };
    let answer = within(request.send(channel)).await?;
    Ok(answer.header.map_or(0, |it| it.revision))
}

/// The value of a key, by a linearizable read or one of this member alone.
async fn get(channel: Channel, key: &str, serializable: bool) -> Result<Option<String>, Status> {
    let request = RangeRequest {
        key: key.to_owned().into(),
        serializable,
        ..Default::default()
    };
    let mut answer = within(request.send(channel)).await?;
    let value = answer.kvs.pop().map(|kv| kv.value);
    Ok(value.map(|it| String::from_utf8_lossy(&it).into_owned()))
}

/// The answer of a member; a member that gives none in time is at fault.
async fn within<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let answer = timeout(ANSWER_LIMIT, answer).await;
    answer.expect("a member answers every request, at last by saying that it timed out")
}

/// Writes as soon as the member can.
async fn put_eventually(cluster: &Cluster, member: usize, key: &str, value: &str) {
    eventually("a write", async || {
        put(cluster.channel(member), key, value).await.ok()
    })
    .await;
}

/// The leader that these members agree on, once there is one other than `old`.
async fn leader_among(cluster: &Cluster, members: &[usize], old: usize) -> usize {
    eventually("a leader", async || {
        for member in members {
            let status = cluster.status(*member).await.ok()?;
            if status.leader != 0 && status.header?.member_id == status.leader && *member != old {
                return Some(*member);
            }
        }
        None
    })
    .await
}
