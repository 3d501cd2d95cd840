//! Concurrent writers and the upkeep beside them, until they are told to stop or an answer fails to come. Each writer owns
//! its keys and its lease and has one write open at a time; what is open at the end may have happened or not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use keystead_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keystead_proto::etcdserverpb::{CompactionRequest, DefragmentRequest, SnapshotRequest};
use keystead_tests::{Random, Unary};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use super::model::Operation;

const WRITERS: u64 = 8;
const KEYS_PER_WRITER: u64 = 12;
/// Revisions that a compaction leaves alone, so that what was open at a cut can still be looked at.
const KEPT_REVISIONS: i64 = 60;

/// What was said and answered in one round.
#[derive(Default)]
pub struct Round {
    /// Acknowledged writes with the revision of their answer; those of one writer in their order.
    pub acknowledged: Vec<(Operation, i64)>,
    /// Writes without an answer.
    pub open: Vec<Operation>,
    /// Compactions that were asked for, and whether they were acknowledged.
    pub compactions: Vec<(i64, bool)>,
}

/// Writers at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Round>>,
    upkeep: JoinHandle<Round>,
}

impl Load {
    /// Starts writing. `round` tells values and leases of this round from all others; `leases` are alive.
    pub fn start(
        channel: &Channel,
        round: u64,
        leases: &BTreeSet<i64>,
        random: &mut Random,
    ) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let newest = Arc::new(AtomicI64::new(0));
        let writer = |number: u64, random: Random| Writer {
            number,
            round,
            written: 0,
            lease: leases.iter().copied().find(|lease| owner(*lease) == number),
            random,
        };
        let writers = (0..WRITERS)
            .map(|number| {
                let writer = writer(number, Random::new(random.bits()));
                tokio::spawn(writer.run(channel.clone(), stop.clone(), newest.clone()))
            })
            .collect();
        let upkeep = upkeep(channel.clone(), newest, Random::new(random.bits()));
        Load {
            stop,
            writers,
            upkeep: tokio::spawn(upkeep),
        }
    }

    /// Whether every writer has met a failure and given up.
    pub fn gave_up(&self) -> bool {
        self.writers.iter().all(JoinHandle::is_finished)
    }

    /// No write begins any more; gives what became of those that did.
    pub async fn stop(self) -> Round {
        self.stop.store(true, Relaxed);
        let mut all = self.upkeep.await.expect("the upkeep does not panic");
        for writer in self.writers {
            let one = writer.await.expect("a writer does not panic");
            all.acknowledged.extend(one.acknowledged);
            all.open.extend(one.open);
        }
        all
    }
}

/// The writer that a lease belongs to.
fn owner(lease: i64) -> u64 {
    lease as u64 % WRITERS
}

struct Writer {
    number: u64,
    round: u64,
    written: u64,
    lease: Option<i64>,
    random: Random,
}

impl Writer {
    async fn run(
        mut self,
        channel: Channel,
        stop: Arc<AtomicBool>,
        newest: Arc<AtomicI64>,
    ) -> Round {
        let mut round = Round::default();
        while !stop.load(Relaxed) {
            let operation = self.next();
            match operation.send(channel.clone()).await {
                Ok(revision) => {
                    newest.fetch_max(revision, Relaxed);
                    round.acknowledged.push((operation, revision));
                }
                Err(_) => {
                    round.open.push(operation);
                    break;
                }
            }
        }
        round
    }

    fn next(&mut self) -> Operation {
        match self.random.below(20) {
            0..10 => self.put(),
            10..13 => Operation::Delete { key: self.key() },
            13..18 => self.txn(),
            _ => self.change_lease(),
        }
    }

    fn key(&mut self) -> String {
        format!(
            "k/{}/{:02}",
            self.number,
            self.random.below(KEYS_PER_WRITER)
        )
    }

    fn put(&mut self) -> Operation {
        let key = self.key();
        self.put_to(key)
    }

    fn put_to(&mut self, key: String) -> Operation {
        // Now and then one that fills half a segment.
        let filling = match self.random.below(60) {
            0 => 30_000,
            _ => self.random.below(600) as usize,
        };
        self.written += 1;
        let value = format!(
            "{}.{}.{} {}",
            self.round,
            self.number,
            self.written,
            "v".repeat(filling)
        )
        .into();
        let lease = self.lease.filter(|_| self.random.one_in(4)).unwrap_or(0);
        Operation::Put { key, value, lease }
    }

    fn txn(&mut self) -> Operation {
        let mut keys = BTreeSet::new();
        while keys.len() < 3 {
            keys.insert(self.key());
        }
        let guard = self.key();
        let or_else = keys.iter().take(2).cloned();
        let or_else = or_else.map(|key| self.put_to(key)).collect();
        let last = keys.pop_last().expect("there are three");
        let mut then: Vec<_> = keys.into_iter().map(|key| self.put_to(key)).collect();
        then.push(Operation::Delete { key: last });
        Operation::Txn {
            guard,
            then,
            or_else,
        }
    }

    fn change_lease(&mut self) -> Operation {
        if let Some(lease) = self.lease.take() {
            return Operation::Revoke { lease };
        }
        self.written += 1;
        let unique = self.round << 24 | self.written;
        let lease = (unique * WRITERS + self.number) as i64;
        self.lease = Some(lease);
        Operation::Grant { lease }
    }
}

/// A compaction in half of the rounds, a defragmentation and a snapshot in some, each at a moment of its own.
async fn upkeep(channel: Channel, newest: Arc<AtomicI64>, mut random: Random) -> Round {
    let mut round = Round::default();
    let pause = async |random: &mut Random| {
        tokio::time::sleep(Duration::from_millis(random.below(60))).await;
    };
    pause(&mut random).await;
    let revision = newest.load(Relaxed) - KEPT_REVISIONS;
    if random.one_in(2) && revision > 0 {
        let compaction = CompactionRequest {
            revision,
            physical: true,
        };
        let answered = compaction.send(channel.clone()).await.is_ok();
        round.compactions.push((revision, answered));
    }
    // Whether these are answered is no promise about data.
    if random.one_in(3) {
        pause(&mut random).await;
        let _ = DefragmentRequest {}.send(channel.clone()).await;
    }
    if random.one_in(5) {
        pause(&mut random).await;
        let _ = read_snapshot(channel).await;
    }
    round
}

async fn read_snapshot(channel: Channel) -> Result<(), tonic::Status> {
    let mut client = MaintenanceClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut parts = client.snapshot(SnapshotRequest {}).await?.into_inner();
    while parts.message().await?.is_some() {}
    Ok(())
}
