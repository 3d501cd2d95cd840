//! The member's validated configuration. The command line builds it; past [`crate::node`]'s door nothing sees an option that might be wrong.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::{DEFAULT_BCRYPT_COST, TokenKind};

/// The etcd release whose behaviour this member has and whose version it reports unless told otherwise.
pub const REPORTED_VERSION: &str = "3.6.16";

/// The quota when none was asked for: etcd's 2 GiB.
pub const DEFAULT_QUOTA_BYTES: i64 = 2 * 1024 * 1024 * 1024;

/// How long a simple token holds that is not used, unless told: etcd's five minutes.
pub const DEFAULT_TOKEN_TTL: Duration = Duration::from_secs(300);

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
    pub listen_client: Vec<ListenAddress>,
    /// Where members are listened for.
    pub listen_peer: Vec<ListenAddress>,
    /// Client URLs told in the member list.
    pub advertise_client_urls: Vec<String>,
    /// Peer URLs told in the member list, sorted; the member's id is derived from them and the token.
    pub advertise_peer_urls: Vec<String>,
    /// The members that found the cluster, as etcd's `--initial-cluster` lists them: `name=url` with commas between. Read by a new
    /// member only.
    pub initial_cluster: Option<String>,
    /// Where DNS names these members, in place of the list. Read by a new member only.
    pub discovery: Option<Discovery>,
    /// Whether a new member is to join a cluster that runs.
    pub joins: bool,
    /// Tells clusters with equal URLs apart.
    pub cluster_token: String,
    /// Whether to go on alone, for good, with the data of a member whose cluster is lost.
    pub force_new_cluster: bool,
    /// Whether a change of members is refused that might cost the cluster its quorum.
    pub strict_reconfig_check: bool,
    /// How many learners there may be.
    pub max_learners: usize,
    /// Whether a member that has data compares it with the others' before it takes part.
    pub initial_corrupt_check: bool,
    /// How often the leader compares all members' history; `None` is never.
    pub corrupt_check_interval: Option<Duration>,
    /// How often the leader compares the hashes that compactions leave; `None` is never.
    pub compact_hash_check_interval: Option<Duration>,
    /// How long after one checkpoint of a lease's remaining time the next one is due; `None` is no checkpoints: a new leader
    /// gives every lease its whole time.
    pub lease_checkpoint_interval: Option<Duration>,
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
    /// Revisions that one step of a physical compaction removes. Ten times etcd's default: a step here holds up neither apply
    /// nor readers, and each costs a transaction.
    pub compaction_batch: usize,
    /// Pause between two batches of a physical compaction.
    pub compaction_pause: Duration,
    /// What Status and `/version` report.
    pub reported_version: String,
    /// How connections are probed.
    pub keepalive: Keepalive,
    /// Network threads; 0 is one for each core.
    pub shards: usize,
    /// What stands for a user's password once it was given.
    pub tokens: TokenKind,
    /// What hashing a password costs: from [`crate::auth::MIN_BCRYPT_COST`] to [`crate::auth::MAX_BCRYPT_COST`].
    pub bcrypt_cost: u32,
    /// Sizes and times of the store, for tuning and for tests with tiny limits.
    pub storage: Storage,
}

/// SRV records that name the members of a cluster, as etcd's `--discovery-srv` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The domain that they are of.
    pub domain: String,
    /// What tells several clusters of one domain apart, after a dash in the service's name; may be empty.
    pub service_name: String,
    /// The DNS servers to ask; none are those of this machine.
    pub nameservers: Vec<SocketAddr>,
}

/// What can be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A port of this host.
    Tcp(SocketAddr),
    /// A socket file, made at the start and removed at the stop.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => path.display().fmt(out),
        }
    }
}

/// HTTP/2 pings, as etcd's `--grpc-keepalive-*`.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    /// Time between two pings of ours on one connection.
    pub interval: Duration,
    /// How long a client may take to answer ours before its connection is closed.
    pub timeout: Duration,
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
    /// Applied bytes that may wait for the store's file; writes are refused beyond. Room for them is set aside on the disk.
    pub unflushed_limit_bytes: u64,
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

/// Bytes that a gRPC message may have beyond [`Config::max_request_bytes`], as in etcd: room for the envelope.
const MESSAGE_OVERHEAD_BYTES: usize = 512 * 1024;

impl Config {
    /// How long a request may take on the server, as etcd counts it: 5 s for the disk, and two elections.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// The largest gRPC message taken from a client.
    pub fn max_message_bytes(&self) -> usize {
        self.max_request_bytes + MESSAGE_OVERHEAD_BYTES
    }

    /// The shortest lease: one and a half elections, counted in whole heartbeats, then in whole seconds.
    pub fn min_lease_ttl_secs(&self) -> i64 {
        let heartbeat = self.heartbeat.as_millis().max(1);
        let ticks = self.election_timeout.as_millis() / heartbeat;
        let millis = (3 * ticks).div_ceil(2) * heartbeat;
        i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX)
    }
}

impl Default for Config {
    /// etcd's defaults: one member called `default` on the usual ports of this host.
    fn default() -> Self {
        Self {
            name: "default".into(),
            data_dir: "default.keystead".into(),
            wal_dir: None,
            listen_client: vec![ListenAddress::Tcp(([127, 0, 0, 1], 2379).into())],
            listen_peer: vec![ListenAddress::Tcp(([127, 0, 0, 1], 2380).into())],
            advertise_client_urls: vec!["http://localhost:2379".into()],
            advertise_peer_urls: vec!["http://localhost:2380".into()],
            initial_cluster: None,
            discovery: None,
            joins: false,
            cluster_token: "etcd-cluster".into(),
            force_new_cluster: false,
            strict_reconfig_check: true,
            max_learners: 1,
            initial_corrupt_check: false,
            corrupt_check_interval: None,
            compact_hash_check_interval: None,
            lease_checkpoint_interval: None,
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            quota_bytes: Some(DEFAULT_QUOTA_BYTES),
            max_txn_ops: 128,
            max_request_bytes: 1_572_864,
            max_concurrent_streams: u32::MAX,
            watch_progress_interval: Duration::from_secs(600),
            auto_compaction: AutoCompaction::Off,
            compaction_batch: 10_000,
            compaction_pause: Duration::from_millis(10),
            reported_version: REPORTED_VERSION.into(),
            keepalive: Keepalive::default(),
            shards: 0,
            tokens: TokenKind::Simple {
                ttl: DEFAULT_TOKEN_TTL,
            },
            bcrypt_cost: DEFAULT_BCRYPT_COST,
            storage: Storage::default(),
        }
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2 * 60 * 60),
            timeout: Duration::from_secs(20),
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            wal_segment_bytes: 64 << 20,
            ring_bytes: 32 << 20,
            flush_interval: Duration::from_secs(1),
            flush_bytes: 8 << 20,
            checkpoint_interval: Duration::from_secs(60),
            unflushed_limit_bytes: 64 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reported_version_is_that_of_the_etcd_we_are_compared_with() {
        let oracle = include_str!("../../tests/oracle/go.mod");
        let server = format!("go.etcd.io/etcd/server/v3 v{REPORTED_VERSION} ");
        assert!(oracle.contains(&server), "{server}is not in go.mod");
    }

    #[test]
    fn the_shortest_lease_is_two_seconds_by_default() {
        assert_eq!(Config::default().min_lease_ttl_secs(), 2);
        let slow = Config {
            election_timeout: Duration::from_secs(5),
            ..Config::default()
        };
        assert_eq!(slow.min_lease_ttl_secs(), 8);
    }
}
