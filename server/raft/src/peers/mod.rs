//! The way to other members, on the peer port.
//!
//! ```text
//!  openraft's tasks ──► Peer ──► Line ──────────► one connection a member and purpose
//!                       network  line, greeting: dials, encodes, writes what is ready at once
//!
//!  RaftCore ◄────── Raft's handle ◄── serve ◄──── connections that others dialled
//! ```
//!
//! A member dials each other one for calls (votes, heartbeats, forwarded requests) and, while it leads, for the log, so that
//! a heartbeat never stands behind a megabyte of entries. Answers come back on the connection of the question.
//! All of it are tasks on the core thread: what arrives is with openraft, and what openraft has to say on its way, without another
//! thread being woken. For a lone write those wakes were most of what a cluster paid for it.

mod addresses;
mod frame;
mod greeting;
mod hash;
mod inquiry;
mod line;
mod network;
mod removal;
mod serve;
mod snapshot_send;
pub(crate) mod translate;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keystead_proto::peer;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

pub(crate) use hash::ask_all as ask_for_hashes;
pub use hash::{HashAnswer, NoHash, PeerHash};
pub use inquiry::{Roster, ask_for_members};
pub(crate) use line::LineError;
pub(crate) use removal::suspect;
pub use serve::PeerListener;
pub(crate) use serve::{Serving, all as serve_all};

use crate::config::Config;
use crate::data_dir::Identity;
use crate::sink::Observer;
use crate::standing::Standing;
pub(crate) use addresses::Addresses;
use line::Line;

/// A peer that owes a part of the log may be writing to a slow disk all that time.
const LOG_PATIENCE: Duration = Duration::from_secs(5);
/// A dial, names and greeting included.
const DIAL: Duration = Duration::from_secs(2);

/// How long things may take, as the heartbeat and election settings say.
struct Timing {
    dial: Duration,
    election: Duration,
}

/// What all connections share.
pub(crate) struct Shared {
    me: Identity,
    timing: Timing,
    standing: Arc<Standing>,
    observer: Arc<dyn Observer>,
    /// A snapshot that did not arrive as a whole yet. One is taken at a time.
    begun: tokio::sync::Mutex<Option<serve::Begun>>,
    /// How many were to be taken: who takes one lets it go when there is another.
    snapshots: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(
        config: &Config,
        standing: Arc<Standing>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            me: config.identity,
            timing: Timing {
                dial: DIAL,
                election: config.election_timeout,
            },
            standing,
            observer,
            begun: tokio::sync::Mutex::default(),
            snapshots: watch::Sender::default(),
        }
    }
}

/// What a connection is dialled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Calls,
    Log,
    Snapshot,
}

impl Purpose {
    fn line(self) -> peer::Line {
        match self {
            Self::Calls => peer::Line::Calls,
            Self::Log => peer::Line::Log,
            Self::Snapshot => peer::Line::Snapshot,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Log => "log",
            Self::Snapshot => "snapshot",
        }
    }

    /// How long a peer that owes an answer may be silent.
    fn patience(self, timing: &Timing) -> Duration {
        match self {
            Self::Calls => 2 * timing.election,
            Self::Log | Self::Snapshot => LOG_PATIENCE.max(3 * timing.election),
        }
    }
}

/// The connections to one member, dialled when they are needed.
pub(crate) struct Lines {
    pub(crate) calls: Line,
    log: Line,
}

/// The ways to all members. Clones share them.
#[derive(Clone)]
pub(crate) struct Peers {
    pub(crate) shared: Arc<Shared>,
    lines: Arc<Mutex<BTreeMap<u64, Arc<Lines>>>>,
    pub(crate) runtime: Handle,
}

impl Peers {
    /// Ways whose tasks run on the caller's runtime.
    pub(crate) fn new(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
            lines: Arc::default(),
            runtime: Handle::current(),
        }
    }

    /// The lines to a member.
    pub(crate) fn lines(&self, target: u64) -> Arc<Lines> {
        let mut lines = self.lines.lock();
        if let Some(known) = lines.get(&target) {
            return known.clone();
        }
        let line = |purpose| {
            let (line, keeper) = Line::to(target, purpose, self.shared.clone());
            self.runtime.spawn(keeper);
            line
        };
        let made = Arc::new(Lines {
            calls: line(Purpose::Calls),
            log: line(Purpose::Log),
        });
        lines.insert(target, made.clone());
        made
    }
}
