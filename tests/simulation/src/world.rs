//! What is known of a run from outside of all members: who runs, what was acknowledged, what was applied where, and what is wrong
//! with that. Members and clients tell it; the rules of safety are checked as they do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use keystead_mvcc::Row;
use keystead_proto::mvccpb::KeyValue;
use keystead_raft::simulation::{Durable, Inside};
use keystead_raft::{Consensus, MemberChange};
use keystead_state::Reader;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::Notify;

use crate::coverage::Coverage;
use crate::disk::Disk;
use crate::plan::Plan;

/// Shared by all hosts and by who drives them, all on one thread: it is never held while anybody else is called who may take it.
pub type World = Arc<Mutex<Facts>>;

/// See the file's head.
pub struct Facts {
    pub plan: Plan,
    pub now_ms: u64,
    pub slots: Vec<Slot>,
    pub coverage: Coverage,
    /// No new load is made.
    pub calm: bool,
    /// What is wrong, in the order in which it was seen.
    pub violations: Vec<String>,
    /// The newest revision that any client was told of.
    pub acked_revision: i64,
    /// How many writes were begun: each writes its number.
    pub numbers: u64,
    acked: Vec<Ack>,
    entries: BTreeMap<u64, Entry>,
    /// The content of each revision.
    rows: BTreeMap<i64, Bytes>,
    leaders: BTreeMap<u64, u64>,
    trace: DefaultHasher,
    verbose: bool,
}

/// A host, and the member on it.
pub struct Slot {
    pub disk: Disk,
    pub dir: PathBuf,
    pub running: Option<Running>,
    /// What the member claimed to have when it ended last.
    pub claims: Durable,
    /// How often it was started.
    pub starts: u64,
    /// When it starts again; where it is not to, never.
    pub restart_at: Option<u64>,
    /// It was removed, and does not come back.
    pub gone: bool,
    pub orders: Arc<Orders>,
    /// It was asked to write when the faults were over, and has.
    pub asked: bool,
    pub wrote_last: bool,
    /// The last place that it said to have applied in this run of the process.
    applied: Option<u64>,
    term: u64,
    committed: u64,
}

/// A member that runs.
pub struct Running {
    pub inside: Inside,
    /// Once its start is over.
    pub member: Option<(Consensus, Reader)>,
}

/// What a host is asked to do.
#[derive(Clone, Debug)]
pub enum Order {
    Move(u64),
    Change(MemberChange),
    /// To write until it is acknowledged.
    Write,
}

/// Orders that wait, and what wakes the task that takes them.
#[derive(Default)]
pub struct Orders {
    pub waiting: Mutex<VecDeque<Order>>,
    pub more: Notify,
}

struct Entry {
    term: u64,
    digest: u64,
}

struct Ack {
    revision: i64,
    key: Bytes,
    value: Bytes,
}

impl Slot {
    /// A host on which nothing has run yet.
    pub fn new(disk: Disk, dir: PathBuf) -> Self {
        Self {
            disk,
            dir,
            running: None,
            claims: Durable::default(),
            starts: 0,
            restart_at: None,
            gone: false,
            orders: Arc::default(),
            asked: false,
            wrote_last: false,
            applied: None,
            term: 0,
            committed: 0,
        }
    }
}

impl Facts {
    /// The world before anything has happened in it.
    pub fn new(plan: Plan, slots: Vec<Slot>, verbose: bool) -> World {
        Arc::new(Mutex::new(Self {
            plan,
            now_ms: 0,
            slots,
            coverage: Coverage::default(),
            calm: false,
            violations: Vec::new(),
            acked_revision: 0,
            numbers: 0,
            acked: Vec::new(),
            entries: BTreeMap::new(),
            rows: BTreeMap::new(),
            leaders: BTreeMap::new(),
            trace: DefaultHasher::new(),
            verbose,
        }))
    }

    /// Something happened: it is part of the trace by which two runs are compared.
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        let what = what();
        (self.now_ms, &what).hash(&mut self.trace);
        if self.verbose {
            eprintln!("{:>7} ms  {what}", self.now_ms);
        }
    }

    /// Two runs with the same are the same.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Something is wrong.
    pub fn violated(&mut self, what: String) {
        self.note(|| format!("VIOLATION: {what}"));
        self.violations.push(what);
    }

    /// Hosts whose members are up and have started.
    pub fn up(&self) -> Vec<usize> {
        let hosts = 0..self.slots.len();
        hosts.filter(|at| self.member(*at).is_some()).collect()
    }

    /// The member on a host, where it has started.
    pub fn member(&self, at: usize) -> Option<&(Consensus, Reader)> {
        self.slots[at].running.as_ref()?.member.as_ref()
    }

    /// The host whose member leads, as it believes itself, in the highest term. (Whether a quorum has answered it lately
    /// can't be asked here: outside of its host there is no simulated time.)
    pub fn leader(&self) -> Option<usize> {
        let leading = self.up().into_iter().filter_map(|at| {
            let status = self.member(at)?.0.status();
            status.is_leader.then_some((status.term, at))
        });
        leading.max().map(|(_, at)| at)
    }

    /// The hosts of the members that the leader has applied, where there is a leader.
    pub fn members(&self) -> Vec<usize> {
        let leader = self.leader().and_then(|at| self.member(at));
        let members = leader.map_or(Vec::new(), |(_, reader)| reader.members());
        let hosts = members.iter().map(|member| Plan::at(member.id));
        hosts.filter(|at| *at < self.slots.len()).collect()
    }

    /// Gives a host something to do.
    pub fn order(&mut self, at: usize, order: Order) {
        self.note(|| format!("m{at} is asked: {order:?}"));
        let orders = &self.slots[at].orders;
        orders.waiting.lock().push_back(order);
        orders.more.notify_one();
    }

    /// A member is about to start.
    pub fn starting(&mut self, at: usize, inside: Inside) {
        let slot = &mut self.slots[at];
        slot.starts += 1;
        (slot.asked, slot.wrote_last) = (false, false);
        (slot.applied, slot.term, slot.committed) = (None, 0, 0);
        slot.orders.waiting.lock().clear();
        slot.running = Some(Running {
            inside,
            member: None,
        });
        let starts = slot.starts;
        self.note(|| format!("m{at} starts for the {starts}. time"));
    }

    /// It has started: what it had claimed before it ended must be there.
    pub fn started(&mut self, at: usize, consensus: Consensus, reader: Reader) {
        let slot = &mut self.slots[at];
        let Some(running) = &mut slot.running else {
            return;
        };
        let found = running.inside.found().unwrap_or_default();
        running.member = Some((consensus, reader));
        let claims = std::mem::take(&mut slot.claims);
        self.note(|| format!("m{at} has started with {:?}", found.last()));
        if found.vote < claims.vote {
            let (found, claimed) = (found.vote, claims.vote);
            self.violated(format!(
                "m{at} voted {claimed:?}, and came back with {found:?}"
            ));
        }
        let lost = claims
            .entries
            .iter()
            .find(|entry| !found.has(entry.term, entry.index));
        if let Some(lost) = lost {
            let last = found.last();
            self.violated(format!(
                "m{at} had {lost:?} on its disk, and came back with {last:?}"
            ));
        }
    }

    /// A member's process ends, and what it claimed is remembered.
    pub fn ended(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        // A start that was cut short has claimed nothing new.
        if let Some(running) = slot.running.take()
            && let Some((consensus, _)) = &running.member
        {
            slot.claims = running.inside.durable().unwrap_or_default();
            self.coverage.take(&consensus.counters());
        }
    }

    /// A member began to lead.
    pub fn leads(&mut self, at: usize, term: u64) {
        let known = *self.leaders.entry(term).or_insert(Plan::id(at));
        self.coverage.leaders = self.leaders.len() as u64;
        if known != Plan::id(at) {
            self.violated(format!(
                "two leaders in term {term}: m{} and m{at}",
                Plan::at(known)
            ));
        }
    }

    /// A member has applied an entry.
    pub fn applied(&mut self, at: usize, (term, index): (u64, u64), rows: &[Row], digest: u64) {
        self.note(|| format!("m{at} applies {index} of term {term}: {digest:016x}"));
        let before = self.slots[at].applied.replace(index);
        if before >= Some(index) {
            self.violated(format!("m{at} applied {index} after {before:?}"));
        }
        match self.entries.get(&index) {
            Some(known) if (known.term, known.digest) != (term, digest) => {
                let known = known.term;
                self.violated(format!(
                    "m{at} applied {index} of term {term}, which is of term {known} elsewhere or has other effects"
                ));
            }
            Some(_) => {}
            None => {
                self.entries.insert(index, Entry { term, digest });
                for row in rows {
                    self.rows.insert(row.revision.main, row.payload.clone());
                }
                self.check_quorum(at, term, index);
            }
        }
    }

    /// What was applied for the first time must be on the disks of a majority, by the voters that are applied or by those that are
    /// in force already.
    fn check_quorum(&mut self, at: usize, term: u64, index: u64) {
        let Some((consensus, reader)) = self.member(at) else {
            return;
        };
        let voters = |members: Vec<keystead_proto::etcdserverpb::Member>| -> BTreeSet<u64> {
            let voters = members.into_iter().filter(|member| !member.is_learner);
            voters.map(|member| member.id).collect()
        };
        let has = |id: &u64| {
            let Some(slot) = self.slots.get(Plan::at(*id)) else {
                return false;
            };
            match &slot.running {
                Some(running) if running.inside.found().is_some() => {
                    running.inside.has(term, index)
                }
                _ => slot.claims.has(term, index),
            }
        };
        let held =
            |voters: BTreeSet<u64>| voters.iter().filter(|id| has(id)).count() > voters.len() / 2;
        let in_force = voters(consensus.members());
        let applied = voters(reader.members());
        if !held(in_force.clone()) && !held(applied.clone()) {
            self.violated(format!(
                "m{at} applied {index} of term {term}, which is not on the disks of a majority of {in_force:x?} or {applied:x?}"
            ));
        }
    }

    /// A member's state was replaced by another's.
    pub fn restored(&mut self, at: usize, index: u64) {
        self.note(|| format!("m{at} has taken over a store up to {index}"));
        self.slots[at].applied = Some(index);
        self.coverage.snapshots_installed += 1;
    }

    /// A client was told that its write is done.
    pub fn acked(&mut self, at: usize, revision: i64, key: Bytes, value: Bytes) {
        self.note(|| format!("a client of m{at} is told of revision {revision}"));
        self.acked_revision = self.acked_revision.max(revision);
        self.coverage.writes += 1;
        let status = self.member(at).map(|(consensus, _)| consensus.status());
        if status.is_some_and(|status| !status.is_leader) {
            self.coverage.writes_through_followers += 1;
        }
        self.acked.push(Ack {
            revision,
            key,
            value,
        });
    }

    /// Compares what a running member says of itself with what it said before.
    pub fn look(&mut self, at: usize) {
        let Some((consensus, _)) = self.member(at) else {
            return;
        };
        let status = consensus.status();
        let slot = &mut self.slots[at];
        let before = (slot.term, slot.committed);
        (slot.term, slot.committed) = (status.term, status.committed_index);
        if status.term < before.0 || status.committed_index < before.1 {
            self.violated(format!("m{at} went back from {before:?} to {status:?}"));
        }
        if status.is_leader {
            self.leads(at, status.term);
        }
    }

    /// Where two logs have the same entry, they have the same before it.
    pub fn compare_logs(&mut self) {
        let up = self.up();
        let mut differs = None;
        for (nth, one) in up.iter().enumerate() {
            for other in &up[nth + 1..] {
                let inside = |at: usize| self.slots[at].running.as_ref().map(|it| &it.inside);
                let (Some(one_in), Some(other_in)) = (inside(*one), inside(*other)) else {
                    continue;
                };
                differs = differs.or(differing(one_in, other_in).map(|at| (*one, *other, at)));
            }
        }
        if let Some((one, other, index)) = differs {
            self.violated(format!(
                "the logs of m{one} and m{other} differ at {index}, and agree on a later entry"
            ));
        }
    }

    /// Every acknowledged write is the one that was applied at its revision.
    pub fn check_acked(&mut self) {
        let mut wrong = Vec::new();
        for ack in &self.acked {
            let row = self.rows.get(&ack.revision).cloned().unwrap_or_default();
            let row = KeyValue::decode(row).unwrap_or_default();
            if (&row.key, &row.value) != (&ack.key, &ack.value) {
                wrong.push(format!(
                    "a client was told that {:?} was written at {}, where {:?} is",
                    ack.key, ack.revision, row.key
                ));
            }
        }
        wrong.into_iter().for_each(|what| self.violated(what));
    }
}

/// The newest index below one on which both logs agree, at which they don't.
fn differing(one: &Inside, other: &Inside) -> Option<u64> {
    let last = one.last()?.index.min(other.last()?.index);
    let mut agreed = false;
    // Further back both have purged, or were compared when it was new.
    for index in (last.saturating_sub(200)..=last).rev() {
        let (Some(here), Some(there)) = (one.id(index), other.id(index)) else {
            return None;
        };
        if here.term == there.term {
            agreed = true;
        } else if agreed {
            return Some(index);
        }
    }
    None
}
