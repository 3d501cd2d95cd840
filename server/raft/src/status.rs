//! What a member says of itself, for the status call and for metrics.

use crate::wal;

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The member that leads; zero while nobody is known to.
    pub leader: u64,
    /// The term that the member is in.
    pub term: u64,
    /// The index of its last log entry.
    pub last_log_index: u64,
    /// Up to where the log is known to be committed.
    pub committed_index: u64,
    /// Up to where it is applied.
    pub applied_index: u64,
    /// Whether the member leads.
    pub is_leader: bool,
    /// Whether the member has no vote.
    pub is_learner: bool,
}

/// What a member's log and store did since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Syncs, segments and purges.
    pub log: wal::Counters,
    /// Flushes, checkpoints and compaction.
    pub store: keystead_mvcc::Counters,
}
