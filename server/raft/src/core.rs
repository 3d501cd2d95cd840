//! The core thread: openraft's core, apply, the proposer, the connections with other members and their small companions, on
//! one runtime of their own. Disk waits are on other threads.
//!
//! A core that ends without being told to has lost its log or its state: the process is ended, so that nobody is
//! served by half a member.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use keystead_state::Reader;
use openraft::async_runtime::WatchReceiver as _;
use openraft::{Config as RaftConfig, SnapshotPolicy};
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};

use crate::blocking::{Loop, heard};
use crate::bootstrap::StartError;
use crate::config::Config;
use crate::flusher::Flushing;
use crate::forwards::Forwards;
use crate::installing::Installing;
use crate::leadership::{self, Leading};
use crate::log_storage::LogStorage;
use crate::machine::Machine;
use crate::node::Node;
use crate::peers::{self, PeerListener, Peers, Serving, serve_all, suspect};
use crate::proposer::Proposer;
use crate::purge;
use crate::queue::Queue;
use crate::reads::{Reads, Rounds, Ways};
use crate::sink::Observer;
use crate::standing::Standing;
use crate::type_config::Raft;
use crate::wal::Wal;

/// How long a clean stop waits for what was proposed before it.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a start waits for space after the ballast is gone, and how often it looks.
const SPACE_PATIENCE: Duration = Duration::from_secs(2);
const SPACE_STEP: Duration = Duration::from_millis(50);
/// How long the thread's end waits for what is being done aside: a name that is looked up may take longer.
const LAST_ASIDES: Duration = Duration::from_secs(2);

/// How a member is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Answer what was proposed, flush, write the index down.
    Cleanly,
    /// As if the process had been killed, for tests and for handles that were dropped.
    AsItStands,
}

/// All that runs on the core thread, and what must be closed after it.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) log: LogStorage,
    pub(crate) machine: Machine,
    pub(crate) queue: Arc<Queue>,
    pub(crate) rounds: Rounds,
    pub(crate) standing: Arc<Standing>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) flushing: Flushing,
    pub(crate) wal: Arc<Wal>,
    pub(crate) sharing: peers::Shared,
    /// Where other members connect to.
    pub(crate) listeners: Vec<PeerListener>,
    pub(crate) forwards: Arc<Forwards>,
    pub(crate) reads: Reads,
    pub(crate) reader: Reader,
    pub(crate) installing: Arc<Installing>,
}

/// A core that runs.
pub(crate) struct Running {
    pub(crate) raft: Raft,
    pub(crate) peers: Peers,
    pub(crate) stop: oneshot::Sender<Stop>,
    pub(crate) ends: Loop,
}

/// Starts the thread and waits until everything that is known to be committed was applied, and a lone voter leads.
pub(crate) async fn start(core: Core) -> Result<Running, StartError> {
    let (started, has_started) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    #[cfg(feature = "simulation")]
    if crate::blocking::simulated() {
        let task = tokio::task::spawn_local(core.run(started, stopped));
        return running(has_started, stop, Loop::Task(task)).await;
    }
    let run = move || match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            runtime.block_on(core.run(started, stopped));
            runtime.shutdown_timeout(LAST_ASIDES);
        }
        Err(error) => drop(started.send(Err(StartError::Thread(error)))),
    };
    let thread = thread::Builder::new()
        .name("core".to_owned())
        .spawn(run)
        .map_err(StartError::Thread)?;
    running(has_started, stop, Loop::Thread(thread)).await
}

/// What a core answers once it runs.
type Started = Result<(Raft, Peers), StartError>;

async fn running(
    started: oneshot::Receiver<Started>,
    stop: oneshot::Sender<Stop>,
    ends: Loop,
) -> Result<Running, StartError> {
    let error = match heard(started).await {
        Ok(Ok((raft, peers))) => {
            return Ok(Running {
                raft,
                peers,
                stop,
                ends,
            });
        }
        Ok(Err(error)) => error,
        Err(_) => StartError::Core("the core thread panicked".to_owned()),
    };
    // It gives up log and store: who starts again finds them free.
    if !ends.join() {
        tracing::warn!("the core thread ended by a panic");
    }
    Err(error)
}

impl Core {
    async fn run(self, started: oneshot::Sender<Started>, stopped: oneshot::Receiver<Stop>) {
        let id = self.config.identity.member_id;
        let (config, peers) = (raft_config(&self.config), Peers::new(self.sharing));
        let raft = match Raft::new(id, config, peers.clone(), self.log, self.machine).await {
            Ok(raft) => raft,
            Err(error) => return drop(started.send(Err(StartError::Core(error.to_string())))),
        };
        let (leading_sender, leading) = watch::channel(Leading::default());
        tokio::spawn(leadership::follow(
            raft.clone(),
            id,
            self.standing.clone(),
            self.observer,
            leading_sender,
        ));
        let led = tokio::select! {
            led = lead(&raft, &self.config, &self.standing, leading.clone()) => led,
            () = lacks_space(&self.wal, self.config.flush_interval) => Err(StartError::NoSpace),
        };
        if let Err(error) = led {
            return drop(started.send(Err(error)));
        }
        let serving = Serving {
            raft: raft.clone(),
            queue: self.queue.clone(),
            reads: self.reads,
            reader: self.reader,
            flusher: self.flushing.handle.clone(),
            installing: self.installing,
            unflushed_limit_bytes: self.config.unflushed_limit_bytes,
        };
        let serving = serve_all(peers.shared.clone(), serving, self.listeners);
        let serving = tokio::spawn(serving);
        tokio::spawn(self.rounds.run(Ways {
            raft: raft.clone(),
            peers: peers.clone(),
            leading: leading.clone(),
            standing: self.standing.clone(),
            me: id,
            first_backer: Arc::default(),
            heartbeat: self.config.heartbeat,
            deadline: self.config.proposal_deadline(),
            patience: self.config.election_timeout,
        }));
        tokio::spawn(purge::follow(raft.clone(), self.flushing.purgeable.clone()));
        let suspecting = suspect(raft.clone(), peers.clone(), self.config.election_timeout);
        tokio::spawn(suspecting);
        let (queue, forwards) = (self.queue.clone(), self.forwards);
        let proposer = Proposer::new(queue, raft.clone(), peers.clone(), forwards, leading);
        let proposer = tokio::spawn(proposer.run());
        if started.send(Ok((raft.clone(), peers))).is_err() {
            return;
        }
        let how = tokio::select! {
            how = stopped => how.unwrap_or(Stop::AsItStands),
            reason = ended(&raft) => halt(&reason),
        };
        self.queue.close();
        if how == Stop::Cleanly && tokio::time::timeout(DRAIN, proposer).await.is_err() {
            tracing::warn!("stopping with proposals unanswered");
        }
        if raft.shutdown().await.is_err() {
            tracing::warn!("the raft core ended by a panic");
        }
        serving.abort();
        self.flushing.end(how == Stop::Cleanly).await;
        self.wal.closed().await;
    }
}

fn raft_config(config: &Config) -> Arc<RaftConfig> {
    let election_ms = config.election_timeout.as_millis() as u64;
    Arc::new(RaftConfig {
        cluster_name: format!("{:016x}", config.identity.cluster_id),
        heartbeat_interval: config.heartbeat.as_millis() as u64,
        // openraft campaigns when its lease, which is as long as the longest, and then a random one have passed since the
        // leader's last word: after 1.1 to 1.3 of the timeout. A vote that is not there in the shortest is not waited for.
        election_timeout_min: election_ms * 45 / 100,
        election_timeout_max: election_ms * 65 / 100,
        // The store is the snapshot, and what to purge is chosen by bytes.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: u64::MAX,
        purge_batch_size: 256,
        max_payload_entries: 2048,
        enable_pre_vote: Some(true),
        // A term of its own shows a restarted leader what was committed before.
        enable_leader_restore: Some(false),
        ..RaftConfig::default()
    })
}

/// Makes a fresh directory a cluster of its founders; otherwise asks for an election at once where no other can win it.
async fn lead(
    raft: &Raft,
    config: &Config,
    standing: &Standing,
    mut leading: watch::Receiver<Leading>,
) -> Result<(), StartError> {
    let initialized = raft.is_initialized().await.map_err(failed)?;
    if !initialized && !config.founders.is_empty() {
        let founders = config.founders.iter();
        let voters: BTreeMap<_, _> = founders
            .map(|member| (member.id, Node::of(member)))
            .collect();
        raft.initialize(voters).await.map_err(failed)?;
    }
    let membership =
        raft.with_raft_state(|state| state.membership_state.effective().membership().clone());
    standing.set_membership(&membership.await.map_err(failed)?);
    if !standing.is_lone_voter() {
        return Ok(());
    }
    if initialized {
        // A fresh cluster elects its first leader by itself.
        raft.trigger().elect(false).await.map_err(failed)?;
    }
    tokio::select! {
        led = leading.wait_for(|leading| leading.term().is_some()) => led.map(|_| ()).map_err(failed),
        reason = ended(raft) => Err(StartError::Core(reason)),
    }
}

/// Returns when the log has waited for space for longer than the flusher needs to give it the ballast.
async fn lacks_space(wal: &Wal, flush_interval: Duration) {
    while wal.wants_space_for() < flush_interval + SPACE_PATIENCE {
        tokio::time::sleep(SPACE_STEP).await;
    }
}

fn failed(error: impl std::fmt::Display) -> StartError {
    StartError::Core(error.to_string())
}

/// Waits until openraft's core has ended, and says why.
async fn ended(raft: &Raft) -> String {
    let mut metrics = raft.metrics();
    loop {
        let running = metrics.borrow_watched().running_state.clone();
        if let Err(reason) = running {
            return reason.to_string();
        }
        if metrics.changed().await.is_err() {
            return "the raft core ended by a panic".to_owned();
        }
    }
}

/// Ends the process: what is on this member's disk is known only after a restart.
pub(crate) fn halt(reason: &str) -> ! {
    tracing::error!(reason, "this member can not go on");
    #[cfg(feature = "simulation")]
    if crate::blocking::simulated() {
        crate::simulation::halt(reason)
    }
    std::process::exit(1)
}

/// Makes any panic in the process end it, after the message: a member must not go on without one of its tasks.
/// For a process that is a member and nothing else; an embedding that must survive a panic does without.
pub fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        tracing::error!(%panic, "a thread panicked: this member can not go on");
        std::process::abort();
    }));
}
