//! Where this member stands, in words that any thread may read without asking the core: what it has applied, whether it
//! leads, and how much waits for the disk.
//!
//! Written by the log storage, the state machine, the flusher and the leadership task; read by `Consensus`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft::{Instant as _, RaftMetrics, ServerState};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::peers::Addresses;
use crate::type_config::{LogId, Membership, TypeConfig};

/// A count of log entries: the index of the next one. Zero means none, since the first index is zero.
pub(crate) type Position = u64;

/// The position after the entry at `index`.
pub(crate) fn position_after(index: u64) -> Position {
    index + 1
}

/// See the file's head.
pub(crate) struct Standing {
    member_id: u64,
    applied: AtomicU64,
    /// Of the last entry that was applied.
    applied_term: AtomicU64,
    /// This member leads, with everything from earlier terms applied.
    leading: AtomicBool,
    /// This member has the only vote.
    lone_voter: AtomicBool,
    /// This member is one without a vote.
    learner: AtomicBool,
    unflushed_bytes: AtomicU64,
    begun: Instant,
    /// When a leader was heard that this member follows, in milliseconds after `begun`; zero means never.
    heard_leader: AtomicU64,
    /// Where the members are dialled.
    pub(crate) addresses: Addresses,
    /// An entry was applied. One task waits for it.
    pub(crate) applied_more: Notify,
    /// An entry of another term than the one before was applied.
    pub(crate) term_applied: Notify,
}

impl Standing {
    pub(crate) fn of(member_id: u64) -> Self {
        Self {
            member_id,
            applied: AtomicU64::new(0),
            applied_term: AtomicU64::new(0),
            leading: AtomicBool::new(false),
            lone_voter: AtomicBool::new(false),
            learner: AtomicBool::new(false),
            unflushed_bytes: AtomicU64::new(0),
            begun: Instant::now(),
            heard_leader: AtomicU64::new(0),
            addresses: Addresses::default(),
            applied_more: Notify::new(),
            term_applied: Notify::new(),
        }
    }

    pub(crate) fn set_applied(&self, last: &LogId) {
        self.applied
            .store(position_after(last.index), Ordering::Release);
        self.applied_more.notify_one();
        if self
            .applied_term
            .swap(last.leader_id.term, Ordering::AcqRel)
            != last.leader_id.term
        {
            self.term_applied.notify_one();
        }
    }

    pub(crate) fn applied(&self) -> Position {
        self.applied.load(Ordering::Acquire)
    }

    pub(crate) fn applied_term(&self) -> u64 {
        self.applied_term.load(Ordering::Acquire)
    }

    pub(crate) fn set_leading(&self, leading: bool) {
        self.leading.store(leading, Ordering::Release);
    }

    /// Takes note of the membership in force: in Raft it is so from the moment that it stands in the log.
    pub(crate) fn set_membership(&self, membership: &Membership) {
        let mut voters = membership.voter_ids();
        let lone = voters.next() == Some(self.member_id) && voters.next().is_none();
        self.lone_voter.store(lone, Ordering::Release);
        self.take_back_membership(membership);
    }

    /// Takes note of the membership that is in force again, where the one after it was given up; that this member has the
    /// only vote is never learnt so.
    pub(crate) fn take_back_membership(&self, membership: &Membership) {
        let learner = membership
            .learner_ids()
            .any(|learner| learner == self.member_id);
        self.learner.store(learner, Ordering::Release);
        self.addresses.learn(membership);
    }

    /// The end of the log was taken back, and a membership may have gone with it: which one is in force is heard later. Only
    /// one that leads alone gains by knowing at once, and who leads alone takes nothing back.
    pub(crate) fn doubt_membership(&self) {
        self.lone_voter.store(false, Ordering::Release);
    }

    pub(crate) fn is_learner(&self) -> bool {
        self.learner.load(Ordering::Acquire)
    }

    pub(crate) fn is_lone_voter(&self) -> bool {
        self.lone_voter.load(Ordering::Acquire)
    }

    /// Whether this member's applied state is current without asking anybody: no other member can lead, and nothing
    /// that was acknowledged in an earlier term is missing. (An entry is applied here before it is acknowledged.)
    pub(crate) fn reads_are_current(&self) -> bool {
        self.is_lone_voter() && self.leading.load(Ordering::Acquire)
    }

    /// The leader that this member follows said something.
    pub(crate) fn heard_leader(&self) {
        let now = self.begun.elapsed().as_millis() as u64;
        self.heard_leader.store(now.max(1), Ordering::Relaxed);
    }

    /// How long the leader has been silent; none where none was ever heard.
    pub(crate) fn leader_silence(&self) -> Option<Duration> {
        match self.heard_leader.load(Ordering::Relaxed) {
            0 => None,
            heard => Some(
                self.begun
                    .elapsed()
                    .saturating_sub(Duration::from_millis(heard)),
            ),
        }
    }

    /// Whether this member leads, and nobody else can: a quorum acknowledged so less than an election `timeout` ago.
    pub(crate) fn leads(&self, metrics: &RaftMetrics<TypeConfig>, timeout: Duration) -> bool {
        let acknowledged = metrics.last_quorum_acked.map(|at| at.elapsed());
        metrics.state == ServerState::Leader
            && (self.is_lone_voter() || acknowledged.is_some_and(|it| it < timeout))
    }

    pub(crate) fn set_unflushed_bytes(&self, bytes: u64) {
        self.unflushed_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn unflushed_bytes(&self) -> u64 {
        self.unflushed_bytes.load(Ordering::Relaxed)
    }
}
