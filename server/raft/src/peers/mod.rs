//! The way to other members, on the peer port.
//!
//! ```text
//!  openraft's tasks ──► Peer ──► Line ──────────► one connection a member and purpose
//!  core thread          network  line, greeting   peers' thread: dials, encodes, writes what is ready at once
//!
//!  RaftCore ◄────── Raft's handle ◄── serve ◄──── connections that others dialled
//! ```
//!
//! A member dials each other one for calls (votes, heartbeats, forwarded requests) and, while it leads, for the log, so that
//! a heartbeat never stands behind a megabyte of entries. Answers come back on the connection of the question.
//! All of it runs on one thread with a runtime of its own; the core thread hands over messages and hears answers, and never
//! waits for a socket.

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
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use keystead_proto::peer;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};

pub(crate) use hash::ask_all as ask_for_hashes;
pub use hash::{HashAnswer, NoHash, PeerHash};
pub use inquiry::{Roster, ask_for_members};
pub(crate) use line::LineError;
pub(crate) use removal::suspect;
pub use serve::PeerListener;
pub(crate) use serve::Serving;

use crate::blocking::simulated;
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

/// The thread, which ends when this is dropped.
pub(crate) struct PeersThread {
    pub(crate) peers: Peers,
    serve: Option<oneshot::Sender<Serving>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread. Nothing is taken from `listeners` before there is something to serve with.
///
/// # Errors
/// The system has no thread to give, or no descriptors.
pub(crate) fn start(shared: Shared, listeners: Vec<PeerListener>) -> io::Result<PeersThread> {
    let shared = Arc::new(shared);
    let peers = |runtime| Peers {
        shared: shared.clone(),
        lines: Arc::default(),
        runtime,
    };
    let (serve, serving) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    let serving_for = shared.clone();
    let work = async move {
        let Ok(serving) = serving.await else {
            return;
        };
        serve::all(serving_for, serving, listeners).await;
    };
    if simulated() {
        drop(tokio::spawn(work));
        return Ok(PeersThread {
            peers: peers(Handle::current()),
            serve: Some(serve),
            stop: Some(stop),
            thread: None,
        });
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let peers = peers(runtime.handle().clone());
    let thread = thread::Builder::new().name("peers".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = work => {}
                // The sender was dropped: that is the end, too.
                _ = stopped => {}
            }
        });
        runtime.shutdown_background();
    })?;
    Ok(PeersThread {
        peers,
        serve: Some(serve),
        stop: Some(stop),
        thread: Some(thread),
    })
}

impl PeersThread {
    /// Takes connections of other members from now on.
    pub(crate) fn serve(&mut self, serving: Serving) {
        if let Some(serve) = self.serve.take() {
            // The thread has ended only if it was told to.
            serve.send(serving).ok();
        }
    }
}

impl Drop for PeersThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the peers' thread ended by a panic");
        }
    }
}
