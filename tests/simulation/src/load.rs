//! The clients of a member: they write, now and then compact, and read what must not be older than what anybody was told before.

use std::time::Duration;

use bytes::Bytes;
use keystead_proto::etcdserverpb::alarm_request::AlarmAction;
use keystead_proto::etcdserverpb::{AlarmMember, AlarmRequest, CompactionRequest, PutRequest};
use keystead_proto::internal::{Record, RecordKind};
use keystead_raft::Consensus;
use keystead_state::{Reader, Reply};

use crate::world::World;

/// Revisions that a compaction leaves.
const KEPT_REVISIONS: i64 = 40;

/// Writes with rests, as the plan says, until it is calm.
pub async fn write(world: World, at: usize, nth: u64, consensus: Consensus) {
    let (plan, starts) = {
        let facts = world.lock();
        (facts.plan.clone(), facts.slots[at].starts)
    };
    let mut dice = fastrand::Rng::with_seed(plan.seed ^ ((at as u64) << 40) ^ (nth << 32) ^ starts);
    loop {
        tokio::time::sleep(Duration::from_millis(dice.u64(1..=plan.rest_ms))).await;
        if world.lock().calm {
            return;
        }
        if dice.u8(..) < 4 {
            let revision = world.lock().acked_revision - KEPT_REVISIONS;
            // Whether it goes through is not asked: another may have been faster.
            drop(consensus.propose_one(compaction(revision)).await);
        }
        let key = format!("k{}", dice.u8(..12));
        let bytes = dice.usize(10..=plan.value_bytes);
        write_once(&world, at, &consensus, key.as_bytes(), bytes).await;
    }
}

/// Writes once, and says whether it was acknowledged.
pub async fn write_once(
    world: &World,
    at: usize,
    consensus: &Consensus,
    key: &[u8],
    bytes: usize,
) -> bool {
    write_leased(world, at, consensus, key, (bytes, 0)).await
}

/// The same, for as long as a lease lives.
pub async fn write_leased(
    world: &World,
    at: usize,
    consensus: &Consensus,
    key: &[u8],
    (bytes, lease): (usize, i64),
) -> bool {
    let number = {
        let mut facts = world.lock();
        facts.numbers += 1;
        facts.numbers
    };
    let key = Bytes::copy_from_slice(key);
    let value = Bytes::from(format!("{number:0bytes$}"));
    let outcome = consensus.propose_one(put(&key, &value, lease)).await;
    let mut facts = world.lock();
    match outcome {
        Ok(Reply::Put(response)) => {
            let revision = response.header.unwrap_or_default().revision;
            facts.acked(at, revision, key, value);
            true
        }
        other => {
            facts.note(|| format!("a client of m{at} is told {other:?}"));
            false
        }
    }
}

/// Reads with rests, until it is calm.
pub async fn read(world: World, at: usize, nth: u64, consensus: Consensus, reader: Reader) {
    let mut dice = fastrand::Rng::with_seed(((at as u64) << 8) ^ nth);
    loop {
        tokio::time::sleep(Duration::from_millis(dice.u64(1..250))).await;
        let (calm, acked) = {
            let facts = world.lock();
            (facts.calm, facts.acked_revision)
        };
        if calm {
            return;
        }
        let permitted = consensus.read_barrier().await;
        let found = reader.store().view().revision();
        let mut facts = world.lock();
        if permitted.is_err() {
            continue;
        }
        facts.coverage.reads += 1;
        if found < acked {
            facts.violated(format!(
                "a read at m{at} saw {found}, and {acked} was acknowledged before"
            ));
        }
    }
}

fn put(key: &Bytes, value: &Bytes, lease: i64) -> Record {
    let put = PutRequest {
        lease,
        key: key.clone(),
        value: value.clone(),
        ..PutRequest::default()
    };
    record(RecordKind::Put, &put)
}

/// What an operator does when a disk was full: compacts, and disarms the alarms.
pub async fn make_room(world: &World, consensus: &Consensus, reader: &Reader) {
    let revision = world.lock().acked_revision - KEPT_REVISIONS;
    // Another may have been faster, and alarms stand until they are disarmed.
    drop(consensus.propose_one(compaction(revision)).await);
    for AlarmMember { member_id, alarm } in reader.alarms() {
        let request = AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id,
            alarm,
        };
        drop(
            consensus
                .propose_one(record(RecordKind::Alarm, &request))
                .await,
        );
    }
}

fn compaction(revision: i64) -> Record {
    let request = CompactionRequest {
        revision,
        ..CompactionRequest::default()
    };
    record(RecordKind::Compaction, &request)
}

pub fn record(kind: RecordKind, request: &impl prost::Message) -> Record {
    Record {
        kind: kind.into(),
        payload: request.encode_to_vec().into(),
        ..Record::default()
    }
}
