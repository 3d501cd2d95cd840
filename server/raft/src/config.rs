//! What a member needs to know to start; checked by whoever builds it (the server's own configuration), trusted here.

use std::path::PathBuf;
use std::time::Duration;

use keystead_mvcc as mvcc;
use keystead_proto::etcdserverpb::Member;
use keystead_state::Limits;

use crate::data_dir::Identity;
use crate::queue::ENTRY_BYTES;

/// How one member of a cluster runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Holds everything the member stores; see [`crate::DataDir`].
    pub data_dir: PathBuf,
    /// Holds the log where it has a disk of its own; otherwise the data directory does.
    pub wal_dir: Option<PathBuf>,
    /// Which member of which cluster this is. A directory that was used before must agree.
    pub identity: Identity,
    /// Who makes a cluster of a fresh directory, all with a vote: ids, names and peer URLs, the same on every founder. A
    /// directory that was used before knows its members. Empty where a cluster that runs has this member already.
    pub founders: Vec<Member>,
    /// Whether to go on alone, for good: the log gets an entry that names no other member. For data whose cluster is lost.
    pub force_new_cluster: bool,
    /// Whether a change of members is refused that might cost the cluster its quorum.
    pub strict_reconfig_check: bool,
    /// How many learners there may be.
    pub max_learners: usize,
    /// Whether a member that has data compares it with the others' before it takes part.
    pub initial_corrupt_check: bool,
    /// How often a leader tells its followers that it is alive.
    pub heartbeat: Duration,
    /// After this much silence a follower asks for an election: at a random point between 1.1 and 1.3 of it.
    pub election_timeout: Duration,
    /// Limits of the replicated state, the same on every member.
    pub limits: Limits,
    /// How large a segment of the log is; a recycled segment is never made again.
    pub wal_segment_bytes: u64,
    /// Log entries up to about this many bytes are kept when the store has them, so that a slow follower is served
    /// from the log and not by a snapshot.
    pub wal_retained_bytes: u64,
    /// How much of the recent history stays in memory, for reads and watches that follow closely.
    pub ring_bytes: usize,
    /// The longest time between a change and its flush to the store.
    pub flush_interval: Duration,
    /// A flush starts early when this much waits for it.
    pub flush_bytes: u64,
    /// Proposals are refused while more than this waits for a flush. What is set aside for the time when the disk is full
    /// is made large enough for it.
    pub unflushed_limit_bytes: u64,
    /// How large the store's file may get; a limit of LMDB's, far above the quota.
    pub map_bytes: u64,
    /// How often the index is written down so that a start is fast.
    pub checkpoint_interval: Duration,
    /// Revisions that one step of physical compaction removes.
    pub compaction_batch: usize,
    /// The pause between two such steps.
    pub compaction_pause: Duration,
}

impl Config {
    /// The defaults for a member that keeps its data in `data_dir`, and founds a cluster of its own.
    pub fn at(data_dir: impl Into<PathBuf>, identity: Identity, limits: Limits) -> Self {
        Self {
            data_dir: data_dir.into(),
            wal_dir: None,
            identity,
            founders: vec![Member {
                id: identity.member_id,
                ..Member::default()
            }],
            force_new_cluster: false,
            strict_reconfig_check: true,
            max_learners: 1,
            initial_corrupt_check: false,
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            limits,
            wal_segment_bytes: 64 << 20,
            wal_retained_bytes: 64 << 20,
            ring_bytes: 32 << 20,
            flush_interval: Duration::from_secs(1),
            flush_bytes: 8 << 20,
            unflushed_limit_bytes: 64 << 20,
            map_bytes: mvcc::Options::map_for_quota(limits.quota()),
            checkpoint_interval: Duration::from_secs(600),
            compaction_batch: 10_000,
            compaction_pause: Duration::from_millis(10),
        }
    }

    /// What the store may need to write all that may wait for a flush: beside the limit there is an entry that is being
    /// written to the log and one that is being applied, and a row just above half a page takes a whole one.
    pub(crate) fn flush_reserve_bytes(&self) -> u64 {
        2 * (self.unflushed_limit_bytes + 2 * ENTRY_BYTES as u64)
    }

    /// The room on the disk that is set aside: that, and the log's next segment.
    pub(crate) fn ballast_bytes(&self) -> u64 {
        self.wal_segment_bytes + self.flush_reserve_bytes()
    }

    /// How long a proposal may take before its outcome is reported as unknown; etcd's rule.
    pub(crate) fn proposal_deadline(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }
}
