//! What is known of a run from outside of all members: who runs, what they claimed when they ended, and what is wrong. Members and
//! clients tell it; the rules of safety (`rules.rs`) are checked as they do.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;

use keystead_raft::simulation::{Durable, Inside};
use keystead_raft::{Consensus, MemberChange};
use keystead_state::Reader;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::coverage::Coverage;
use crate::disk::Disk;
use crate::leases::{Clockwork, Leases};
use crate::plan::{PORTS, Plan};
use crate::rules::Known;

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
    /// What the rules (`rules.rs`) know.
    pub known: Known,
    /// What is known of leases.
    pub leases: Leases,
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
    /// Since when it stops cleanly; and that it has.
    pub stopping: Option<u64>,
    pub stopped: bool,
    /// The last place that it said to have applied in this run of the process.
    pub applied: Option<u64>,
    pub term: u64,
    pub committed: u64,
    pub clock: Clockwork,
    /// Its address was changed to this port.
    pub moved: Option<u16>,
    /// The one port at which it can be reached, and until when.
    pub only: Option<(u16, u64)>,
    /// It was reached there.
    pub reached: bool,
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
    /// To stop as a member does that is asked to.
    Stop,
    /// To give unused space of its store back.
    Defragment,
    /// To compact, and then to disarm all alarms.
    MakeRoom,
}

/// Orders that wait, and what wakes the task that takes them.
#[derive(Default)]
pub struct Orders {
    pub waiting: Mutex<VecDeque<Order>>,
    pub more: Notify,
}

impl Slot {
    /// A host on which nothing has run yet.
    pub fn new(disk: Disk, dir: PathBuf, clock: Clockwork) -> Self {
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
            stopping: None,
            stopped: false,
            applied: None,
            term: 0,
            committed: 0,
            clock,
            moved: None,
            only: None,
            reached: false,
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
            known: Known::default(),
            leases: Leases::default(),
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

    /// A change of the members was done.
    pub fn changed(&mut self, change: &MemberChange) {
        let coverage = &mut self.coverage;
        coverage.members_changed += 1;
        match change {
            MemberChange::Add(member) => coverage.learners_added += u64::from(member.is_learner),
            MemberChange::Promote(_) => coverage.learners_promoted += 1,
            MemberChange::Remove(_) => coverage.members_removed += 1,
            MemberChange::Update { id, peer_urls } => {
                coverage.members_updated += 1;
                let at = Plan::at(*id);
                let mut ports = PORTS.into_iter();
                self.slots[at].moved = ports.find(|port| peer_urls.contains(&Plan::url(at, *port)));
            }
        }
    }

    /// A member is about to start.
    pub fn starting(&mut self, at: usize, inside: Inside) {
        let slot = &mut self.slots[at];
        slot.starts += 1;
        (slot.asked, slot.wrote_last) = (false, false);
        (slot.applied, slot.term, slot.committed) = (None, 0, 0);
        slot.reached = false;
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
        (slot.stopping, slot.stopped) = (None, false);
        // A start that was cut short has claimed nothing new.
        if let Some(running) = slot.running.take()
            && let Some((consensus, _)) = &running.member
        {
            slot.claims = running.inside.durable().unwrap_or_default();
            self.coverage.take(&consensus.counters());
        }
    }
}
