//! What a seed means: how many members there are, how they are configured, how long faults last. All limits are tiny, so
//! that segments, purges and snapshots happen within seconds.

use std::path::Path;
use std::time::Duration;

use keystead_proto::etcdserverpb::Member;
use keystead_raft::{Config, Identity, wal};
use keystead_state::Limits;

/// The ports of every member: at the first it is reached until its address is changed.
pub const PORTS: [u16; 2] = [2380, 2381];
/// How many hosts there may be over a run, those that come later included.
pub const HOSTS: usize = 9;
const CLUSTER: u64 = 0xc1;

/// See the file's head.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Members at the begin.
    pub members: usize,
    /// For how long there are faults.
    pub faults_ms: u64,
    /// The longest time that a message takes.
    pub latency_ms: u64,
    /// The largest value that is written.
    pub value_bytes: usize,
    /// The longest time between two writes of a client.
    pub rest_ms: u64,
    /// Whether the membership changes.
    pub changes_members: bool,
    election: Duration,
    flush_interval: Duration,
    segment_bytes: u64,
    retained_bytes: u64,
    recent_bytes: usize,
}

impl Plan {
    /// What `seed` means.
    pub fn of(seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        Self {
            seed,
            members: [3, 5][dice.usize(..2)],
            faults_ms: dice.u64(5_000..10_000),
            latency_ms: dice.u64(1..20),
            value_bytes: dice.usize(50..2_000),
            rest_ms: dice.u64(20..200),
            changes_members: dice.u8(..3) > 0,
            election: Duration::from_millis(dice.u64(200..600)),
            flush_interval: Duration::from_millis(dice.u64(40..400)),
            segment_bytes: dice.u64(2..16) << 10,
            retained_bytes: dice.u64(1..16) << 10,
            recent_bytes: dice.usize(1..16) << 10,
        }
    }

    /// The name of a host.
    pub fn host(at: usize) -> String {
        format!("m{at}")
    }

    /// The id of the member on a host.
    pub fn id(at: usize) -> u64 {
        0xa0 + at as u64
    }

    /// The host of a member.
    pub fn at(id: u64) -> usize {
        (id - 0xa0) as usize
    }

    /// Where the member on a host is reached.
    pub fn url(at: usize, port: u16) -> String {
        format!("http://{}:{port}", Self::host(at))
    }

    /// What the cluster knows of the member on a host.
    pub fn record(at: usize, is_learner: bool) -> Member {
        Member {
            id: Self::id(at),
            name: Self::host(at),
            peer_urls: vec![Self::url(at, PORTS[0])],
            is_learner,
            ..Member::default()
        }
    }

    /// How the member on a host is configured.
    pub fn config(&self, at: usize, dir: &Path) -> Config {
        let identity = Identity {
            cluster_id: CLUSTER,
            member_id: Self::id(at),
        };
        let founders = match at < self.members {
            true => (0..self.members)
                .map(|at| Self::record(at, false))
                .collect(),
            false => Vec::new(),
        };
        Config {
            founders,
            strict_reconfig_check: false,
            max_learners: 2,
            heartbeat: self.election / 10,
            election_timeout: self.election,
            wal_segment_bytes: self.segment_bytes,
            wal_retained_bytes: self.retained_bytes,
            ring_bytes: 32 << 10,
            flush_interval: self.flush_interval,
            flush_bytes: 64 << 10,
            unflushed_limit_bytes: 1 << 20,
            map_bytes: 64 << 20,
            checkpoint_interval: Duration::from_secs(3),
            compaction_batch: 16,
            ..Config::at(dir, identity, Limits::default())
        }
    }

    /// How its log is kept.
    pub fn log(&self, at: usize) -> wal::Options {
        wal::Options {
            segment_bytes: self.segment_bytes,
            recent_bytes_max: self.recent_bytes,
            log_id: self.seed ^ Self::id(at),
            ..wal::Options::default()
        }
    }

    /// How long the cluster has to be whole again when all faults are over.
    pub fn healing_ms(&self) -> u64 {
        60_000
    }
}
