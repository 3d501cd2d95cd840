//! The member's validated configuration. The command line builds it; past [`crate::node`]'s door nothing sees an option that might be wrong.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The etcd release whose behaviour this member has and whose version it reports unless told otherwise.
pub const REPORTED_VERSION: &str = "3.6.14";

/// The quota when none was asked for: etcd's 2 GiB.
pub const DEFAULT_QUOTA_BYTES: i64 = 2 * 1024 * 1024 * 1024;

/// Everything a member needs to know to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's name, `default` unless told.
    pub name: String,
    /// Directory of the data; made with mode 0700 when absent.
    pub data_dir: PathBuf,
    /// Directory of the write-ahead log, inside `data_dir` unless told.
    pub wal_dir: Option<PathBuf>,
    /// Where clients are listened for. Port 0 takes a free one; see `Node::client_addresses`.
    pub listen_client: Vec<SocketAddr>,
    /// Where members are listened for.
    pub listen_peer: Vec<SocketAddr>,
    /// Client URLs told in the member list.
    pub advertise_client_urls: Vec<String>,
    /// Peer URLs told in the member list; the member's id is derived from them and the token.
    pub advertise_peer_urls: Vec<String>,
    /// Tells clusters with equal URLs apart.
    pub cluster_token: String,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Time without a leader before an election.
    pub election_timeout: Duration,
    /// Logical bytes before NOSPACE; `None` is no limit.
    pub quota_bytes: Option<i64>,
    /// Most operations in one transaction.
    pub max_txn_ops: usize,
    /// Largest request, as a log entry, in bytes.
    pub max_request_bytes: usize,
    /// Most concurrent streams on one connection.
    pub max_concurrent_streams: u32,
    /// How often an idle watch that asked for it hears the revision.
    pub watch_progress_interval: Duration,
    /// What compacts by itself.
    pub auto_compaction: AutoCompaction,
    /// Physical compaction's pace.
    pub compaction_batch: usize,
    /// Pause between two batches of a physical compaction.
    pub compaction_pause: Duration,
    /// What Status and `/version` report.
    pub reported_version: String,
    /// Sizes and times of the store, for tuning and for tests with tiny limits.
    pub storage: Storage,
}

/// Sizes and times of the store.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Size of one segment of the write-ahead log in bytes.
    pub wal_segment_bytes: u64,
    /// Recent history kept in memory in bytes.
    pub ring_bytes: usize,
    /// Longest time before applied writes go to the store's file.
    pub flush_interval: Duration,
    /// Applied bytes that go to the store's file at once.
    pub flush_bytes: usize,
    /// How often the index is saved.
    pub checkpoint_interval: Duration,
}

/// Compaction by itself, as etcd's `--auto-compaction-mode` and `-retention` say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// History is kept until somebody compacts.
    Off,
    /// Keeps this much time.
    Periodic(Duration),
    /// Keeps this many revisions.
    Revision(i64),
}
