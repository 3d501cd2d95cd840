//! A member as tasks of a simulated host, for tests/simulation: one thread, simulated time, turmoil's network, a log on files
//! that the simulation makes. Built with the feature of that name only, and then for threads that called [`enter`].
//!
//! The loops that have threads elsewhere are local tasks of the host, what is done aside is done at once, and the store is the
//! real one: it commits in one step of its loop, so a host that ends between two steps leaves what was committed.

mod wire;

use std::cell::{Cell, RefCell};
use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock};

use keystead_state::Reader;
use openraft::async_runtime::WatchReceiver as _;

use crate::bootstrap::StartError;
use crate::config::Config;
use crate::consensus::Consensus;
use crate::log_storage::LogReader;
use crate::peers::PeerListener;
use crate::sink::Observer;
use crate::standing::Standing;
use crate::wal::{self, EntryId, Files, Wal};

pub(crate) use wire::Connection;
pub use wire::{Ends, Fate, Wire, wire};

thread_local! {
    static ENTERED: Cell<bool> = const { Cell::new(false) };
    static HALTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// From now on members on this thread are simulated.
pub fn enter() {
    ENTERED.set(true);
}

pub(crate) fn simulated() -> bool {
    ENTERED.get()
}

/// Why members of this thread would have ended their processes since the last call.
pub fn take_halts() -> Vec<String> {
    HALTS.take()
}

/// Ends the task that calls; who drives the simulation ends the rest of the host.
pub(crate) fn halt(reason: &str) -> ! {
    HALTS.with_borrow_mut(|halts| halts.push(reason.to_owned()));
    resume_unwind(Box::new("halted"))
}

/// What a simulated member is given.
pub struct Surroundings {
    /// Where its log is.
    pub files: Arc<dyn Files>,
    /// How its log is kept.
    pub log: wal::Options,
    /// The ports at which other members reach it.
    pub ports: Vec<u16>,
    /// To look into it, from the time that its data is open.
    pub inside: Inside,
}

/// What an invariant is checked by, and nobody else sees. Clones look into the same member; the member does not end while
/// there is one.
#[derive(Clone, Default)]
pub struct Inside(Arc<OnceLock<Looked>>);

struct Looked {
    log: LogReader,
    standing: Arc<Standing>,
    found: Durable,
}

/// What a member claims to have on its disk.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    /// Term and owner of its vote.
    pub vote: Option<(u64, u64)>,
    /// The last entry that is gone from the log because the store has it.
    pub purged: Option<EntryId>,
    /// The entries of the log, oldest first.
    pub entries: Vec<EntryId>,
}

impl Durable {
    /// Whether the log has, or had, the entry.
    pub fn has(&self, term: u64, index: u64) -> bool {
        if self.purged.is_some_and(|purged| index <= purged.index) {
            return true;
        }
        let first = self.entries.first().map_or(0, |first| first.index);
        let at = index.checked_sub(first).map(|at| at as usize);
        at.and_then(|at| self.entries.get(at))
            .is_some_and(|entry| entry.term == term)
    }

    /// The last entry that it has, or had.
    pub fn last(&self) -> Option<EntryId> {
        self.entries.last().copied().or(self.purged)
    }
}

impl Inside {
    pub(crate) fn fill(&self, log: LogReader, standing: Arc<Standing>) {
        let found = durable(&log);
        let looked = Looked {
            log,
            standing,
            found,
        };
        // A second start with the same one would be the caller's mistake, and sees the first.
        self.0.set(looked).ok();
    }

    /// What was found on the disk at the start.
    pub fn found(&self) -> Option<Durable> {
        self.0.get().map(|looked| looked.found.clone())
    }

    /// What is claimed to be on the disk now.
    pub fn durable(&self) -> Option<Durable> {
        self.0.get().map(|looked| durable(&looked.log))
    }

    /// Term and owner of the vote that is claimed to be on the disk.
    pub fn vote(&self) -> Option<(u64, u64)> {
        let vote = self.0.get()?.log.saved_vote()?;
        Some((vote.leader_id.term, vote.leader_id.voted_for))
    }

    /// Whether the entry is claimed to be on the disk, or was.
    pub fn has(&self, term: u64, index: u64) -> bool {
        let Some(looked) = self.0.get() else {
            return false;
        };
        let wal = looked.log.wal();
        let purged = wal.purged().is_some_and(|purged| index <= purged.index);
        let synced = wal.synced_index().is_some_and(|synced| index <= synced);
        purged || (synced && wal.id(index).is_some_and(|id| id.term == term))
    }

    /// The last entry of the log, synced or not.
    pub fn last(&self) -> Option<EntryId> {
        self.0.get()?.log.wal().last()
    }

    /// The last index that is gone from the log because the store has it.
    pub fn purged_upto(&self) -> Option<u64> {
        Some(self.0.get()?.log.wal().purged()?.index)
    }

    /// The entry at `index` of the log, synced or not.
    pub fn id(&self, index: u64) -> Option<EntryId> {
        self.0.get()?.log.wal().id(index)
    }

    /// Term and index of the entry that was applied last; zeros where there is none.
    pub fn applied(&self) -> (u64, u64) {
        let Some(looked) = self.0.get() else {
            return (0, 0);
        };
        let standing = &looked.standing;
        (
            standing.applied_term(),
            standing.applied().saturating_sub(1),
        )
    }
}

fn durable(log: &LogReader) -> Durable {
    let wal: &Wal = log.wal();
    let purged = wal.purged();
    let first = purged.map_or(0, |purged| purged.index + 1);
    let end = wal.synced_index().map_or(0, |synced| synced + 1);
    let vote = log.saved_vote();
    Durable {
        vote: vote.map(|vote| (vote.leader_id.term, vote.leader_id.voted_for)),
        purged,
        entries: (first..end).filter_map(|index| wal.id(index)).collect(),
    }
}

impl Consensus {
    /// Starts the member in the simulated host that the caller runs in, as [`Consensus::start`] does in a process.
    ///
    /// # Errors
    /// See [`StartError`]. What runs ends with the host.
    pub async fn simulate(
        config: Config,
        surroundings: Surroundings,
        observer: Arc<dyn Observer>,
    ) -> Result<(Self, Reader), StartError> {
        let Surroundings {
            files,
            log,
            ports,
            inside,
        } = surroundings;
        let listeners = ports.into_iter().map(PeerListener::Simulated).collect();
        Self::begin(
            config,
            Some((files, log)),
            listeners,
            observer,
            |log, standing| inside.fill(log, standing),
        )
        .await
    }

    /// Whether the core has ended, by a failure of the disk for one.
    pub fn has_ended(&self) -> bool {
        let metrics = self.0.raft.metrics();
        metrics.borrow_watched().running_state.is_err() || self.0.wal.failure().is_some()
    }
}
