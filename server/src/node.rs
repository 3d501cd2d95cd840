//! One running member: opens its data, starts consensus, then the network, and stops them in reverse.
//! The command line and the tests start it; it is the only file that knows all parts.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use keystead_proto::etcdserverpb::{AlarmType, Member as MemberRecord};
use keystead_proto::internal::RecordKind;
use keystead_raft::{self as raft, Answering, Consensus, DataDir, Observer, Roster};
use keystead_state::{AlarmChange, Applied, Limits, Reader, Refusal};
use prost::Message;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::auth::{Passwords, Tokens};
use crate::config::{Config, ListenAddress};
use crate::founding::{self, Founding, FoundingError};
use crate::header::Headers;
use crate::lease::{self, BootClock, Checkpoints, Lessor, Revocations};
use crate::member::Member;
use crate::member_changes::{self, Changes, Wanted};
use crate::net::{Bound, ConnectionLimits, Shards, SocketFiles, StartShards, bind};
use crate::service::Services;
use crate::watch::{Inbox, Publisher};
use crate::{compactor, corruption, leader_request, open_files};

/// How long calls that are open may go on after the member was told to stop.
const DRAIN: Duration = Duration::from_secs(2);
/// How long the members of a cluster may take to say who they are to one that joins it, and to one that takes itself for a
/// founder, as long as etcd gives them: at the first beginning nobody answers, which is known at once but where an address is silent.
const JOINING: Duration = Duration::from_secs(5);
const FOUNDING: Duration = Duration::from_secs(1);
/// How long a busy leader is left alone by a member that starts.
const BUSY: Duration = Duration::from_millis(200);
/// How often tokens that have ended are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// The version of the cluster that a new member agrees on with itself.
const CLUSTER_VERSION: &str = "3.6.0";

/// A running member. Call [`Node::shutdown`] to stop it; dropped without, it stops as if it had been killed.
pub struct Node {
    consensus: Consensus,
    runtime: Runtime,
    shards: Shards,
    background: JoinHandle<()>,
    stop: watch::Sender<bool>,
    addresses: Vec<ListenAddress>,
    was_removed: watch::Receiver<bool>,
    /// Of the peer port.
    _peer_files: SocketFiles,
}

/// Why a member did not start, in a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken, or not this host's.
    #[error(
        "cannot listen on {address}: {error}; stop what uses it, or choose another with --{flag}"
    )]
    Listen {
        /// The address.
        address: ListenAddress,
        /// The flag that named it.
        flag: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The data or consensus.
    #[error(transparent)]
    Consensus(#[from] raft::StartError),
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] raft::DataDirError),
    /// There is no data, and no cluster that could be founded.
    #[error(transparent)]
    Founding(#[from] FoundingError),
    /// It was told to stop before it served.
    #[error("stopped while it started")]
    Interrupted,
    /// Another member says that this one was removed.
    #[error(
        "the member has been permanently removed from the cluster: its data directory must not be used again; add the \
         member anew, with an empty one"
    )]
    Removed,
    /// The member could not say who it is.
    #[error("the member could not publish its name and addresses: {0}")]
    Publish(Refusal),
    /// The system gives no thread or no descriptors.
    #[error("the system has no thread or file for the member: {0}")]
    System(#[from] io::Error),
}

impl Node {
    /// Starts a member and returns when it serves, unless `interrupted` becomes true before. Blocks for as long as its log
    /// takes to be read and, where it founds a cluster with others, until a majority of them is there: clients are
    /// answered when the cluster knows the member's name and addresses. One that it knew before waits for nobody.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing runs then.
    pub fn start(
        config: Config,
        mut interrupted: watch::Receiver<bool>,
    ) -> Result<Self, StartError> {
        let bound = listen(&config.listen_client, "listen-client-urls")?;
        let peers = listen(&config.listen_peer, "listen-peer-urls")?;
        let addresses = bound.addresses().to_vec();
        let founding = whose(&config)?;
        let identity = founding.identity;
        let headers = Arc::new(Headers::new(identity.cluster_id, identity.member_id));
        let lessor = Arc::new(Lessor::new(
            Arc::new(BootClock),
            config.election_timeout,
            config.lease_checkpoint_interval,
        ));
        let (removed, was_removed) = watch::channel(false);
        let (changes, wanted_changes) = member_changes::channel();
        let (publisher, inboxes) = Publisher::new(shard_count(&config));
        let tokens = Arc::new(Tokens::new(&config.tokens));
        let observer = Arc::new(Follower {
            tokens: tokens.clone(),
            headers: headers.clone(),
            lessor: lessor.clone(),
            changes,
            publisher,
            removed,
        });
        let (peers, _peer_files) = peers.for_peers();
        let (consensus, reader) =
            Consensus::start(raft_config(&config, founding), peers, observer)?;
        lessor.adopt(|| reader.leases());
        let (stop, stopping) = watch::channel(false);
        let member = Arc::new(Member {
            passwords: Passwords::new(config.bcrypt_cost),
            tokens,
            config,
            headers,
            reader,
            consensus: consensus.clone(),
            was_current: AtomicBool::new(false),
            stopping,
        });
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut was_removed = was_removed.clone();
            tokio::select! {
                Ok(_) = was_removed.wait_for(|removed| *removed) => Err(StartError::Removed),
                published = publish(&member) => published.map_err(StartError::Publish),
                // Who can't interrupt any more does not.
                Ok(_) = interrupted.wait_for(|stop| *stop) => Err(StartError::Interrupted),
            }
        })?;
        let background = start_background(member.clone(), lessor.clone(), wanted_changes)?;
        let shards = start_shards(member, lessor, inboxes, bound)?;
        Ok(Self {
            consensus,
            runtime,
            shards,
            background,
            stop,
            addresses,
            was_removed,
            _peer_files,
        })
    }

    /// Where clients are served, with the ports that were chosen for port 0.
    pub fn client_addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// Tells when the member was removed from its cluster: it is to be stopped then, and not to be started again.
    pub fn was_removed(&self) -> Removal {
        Removal(self.was_removed.clone())
    }

    /// Stops the member: takes no further call, lets those that are open end for a while, flushes what was applied.
    pub fn shutdown(self) {
        // While clients are still served, so that they notice little.
        self.runtime.block_on(self.consensus.hand_over());
        self.stop.send_replace(true);
        self.shards.join();
        if self.background.join().is_err() {
            tracing::error!("the background thread ended in a panic");
        }
        self.runtime.block_on(self.consensus.shutdown());
    }
}

/// Waits for the removal of a member from its cluster.
pub struct Removal(watch::Receiver<bool>);

impl Removal {
    /// Blocks until the member was removed, which is true, or has ended.
    pub fn wait(mut self) -> bool {
        let runtime = Builder::new_current_thread().build();
        runtime.is_ok_and(|runtime| {
            runtime
                .block_on(self.0.wait_for(|removed| *removed))
                .is_ok()
        })
    }
}

fn listen(addresses: &[ListenAddress], flag: &'static str) -> Result<Bound, StartError> {
    bind(addresses).map_err(|(address, error)| StartError::Listen {
        address,
        flag,
        error,
    })
}

/// What consensus tells while it applies.
struct Follower {
    headers: Arc<Headers>,
    lessor: Arc<Lessor>,
    tokens: Arc<Tokens>,
    changes: Changes,
    publisher: Publisher,
    removed: watch::Sender<bool>,
}

impl Observer for Follower {
    fn applied(&self, _: raft::wal::EntryId, applied: &Applied) {
        self.lessor.applied(&applied.lease_changes);
        for change in &applied.auth_changes {
            self.tokens.follow(change);
        }
        let sealed = &applied.sealed;
        self.publisher.publish(&sealed.rows, sealed.payload_bytes);
        applied.alarm_changes.iter().for_each(tell);
    }

    fn restored(&self, reader: &Reader) {
        self.lessor.replace(reader.leases());
        self.tokens.forget();
        self.publisher.pass_over();
    }

    fn removed(&self) {
        self.removed.send_replace(true);
    }

    fn asked(&self, request: Bytes) -> Answering {
        let (lessor, changes) = (self.lessor.clone(), self.changes.clone());
        Box::pin(leader_request::answer(lessor, changes, request))
    }

    fn leader_changed(&self, leading: bool, term: u64) {
        self.headers.set_term(term);
        self.lessor.leader_changed(leading.then_some(term));
    }
}

/// Tells the operator of an alarm.
fn tell(change: &AlarmChange) {
    let member = format!("{:016x}", change.member_id);
    let alarm = AlarmType::try_from(change.alarm).map_or("unknown", |kind| kind.as_str_name());
    if change.raised {
        tracing::warn!(member, alarm, "alarm raised");
    } else {
        tracing::warn!(member, alarm, "alarm disarmed");
    }
}

/// Whose data the directory holds; a new directory becomes that of the founder that the addresses and the token name.
fn whose(config: &Config) -> Result<Founding, StartError> {
    match DataDir::identity(&config.data_dir)? {
        // A start that was cut short before there was anything in the log founds anew. DNS is asked once only: it may be
        // gone, and then each start would wait for it.
        Some(identity) => Ok(Some(config)
            .filter(|config| config.discovery.is_none())
            .and_then(|config| founding::found(config).ok())
            .filter(|founding| founding.identity == identity && !config.joins)
            .unwrap_or(Founding {
                identity,
                founders: Vec::new(),
            })),
        None if config.joins => Ok(founding::join(config, |others, agrees| {
            ask(others, JOINING, agrees)
        })?),
        None => {
            let founding = founding::found(config)?;
            let others = founding::others(&founding);
            if let Some(roster) = (!others.is_empty())
                .then(|| {
                    let began = |roster: &Roster| founding::is_new(&founding, roster).is_err();
                    ask(&others, FOUNDING, began)
                })
                .flatten()
            {
                founding::is_new(&founding, &roster)?;
            }
            Ok(founding)
        }
    }
}

/// What one of the members at these peer URLs says of its cluster, where any does.
fn ask(peer_urls: &[String], patience: Duration, fits: impl Fn(&Roster) -> bool) -> Option<Roster> {
    raft::ask_for_members(peer_urls, patience, fits)
        .inspect_err(|error| tracing::warn!(%error, "the other members can't be asked"))
        .ok()
        .flatten()
}

fn raft_config(config: &Config, founding: Founding) -> raft::Config {
    let limits = Limits {
        quota_bytes: config.quota_bytes.unwrap_or(-1),
    };
    raft::Config {
        founders: founding.founders,
        force_new_cluster: config.force_new_cluster,
        strict_reconfig_check: config.strict_reconfig_check,
        max_learners: config.max_learners,
        initial_corrupt_check: config.initial_corrupt_check,
        heartbeat: config.heartbeat,
        election_timeout: config.election_timeout,
        wal_segment_bytes: config.storage.wal_segment_bytes,
        // A segment's worth of entries stays for followers that are behind.
        wal_retained_bytes: config.storage.wal_segment_bytes,
        ring_bytes: config.storage.ring_bytes,
        flush_interval: config.storage.flush_interval,
        flush_bytes: config.storage.flush_bytes as u64,
        checkpoint_interval: config.storage.checkpoint_interval,
        wal_dir: config.wal_dir.clone(),
        compaction_batch: config.compaction_batch,
        compaction_pause: config.compaction_pause,
        unflushed_limit_bytes: config.storage.unflushed_limit_bytes,
        ..raft::Config::at(&config.data_dir, founding.identity, limits)
    }
}

/// Tells the cluster this member's name and addresses, and the cluster's version, where they are not what it knows.
async fn publish(member: &Member) -> Result<(), Refusal> {
    let record = MemberRecord {
        id: member.headers.member_id(),
        name: member.config.name.clone(),
        peer_urls: member.config.advertise_peer_urls.clone(),
        client_urls: member.config.advertise_client_urls.clone(),
        is_learner: false,
    };
    let known = |known: &MemberRecord| {
        (known.id, &known.name, &known.client_urls)
            == (record.id, &record.name, &record.client_urls)
    };
    if !member.reader.members().iter().any(known) {
        let record = record.encode_to_vec().into();
        agree(member, RecordKind::MemberAttributes, record).await?;
    }
    if member.reader.cluster_version().is_none() {
        agree(member, RecordKind::ClusterVersion, CLUSTER_VERSION.into()).await?;
    }
    Ok(())
}

/// Proposes until there is a leader that takes it. Both records may come twice.
async fn agree(member: &Member, kind: RecordKind, payload: Bytes) -> Result<(), Refusal> {
    loop {
        match member.propose(kind, payload.clone()).await {
            Ok(_) => return Ok(()),
            Err(
                Refusal::Timeout
                | Refusal::LeaderLost
                | Refusal::ConnectionLost
                | Refusal::NoLeader
                | Refusal::LeaderChanged,
            ) => {
                tracing::warn!("no leader yet: is a majority of the cluster's members running?");
            }
            Err(Refusal::TooManyRequests) => tokio::time::sleep(BUSY).await,
            Err(refusal) => return Err(refusal),
        }
    }
}

/// What the member does by itself, off the shards' threads.
fn start_background(
    member: Arc<Member>,
    lessor: Arc<Lessor>,
    wanted_changes: mpsc::Receiver<Wanted>,
) -> io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name("background".into())
        .spawn(move || {
            let mut stopping = member.stopping.clone();
            runtime.block_on(async move {
                let revocations = Revocations::new(member.consensus.clone());
                let reaper = tokio::spawn(lease::reap(lessor.clone(), revocations));
                let checkpoints = Checkpoints::new(member.consensus.clone());
                let checkpointer = tokio::spawn(lease::checkpoint(lessor, checkpoints));
                let changes =
                    tokio::spawn(member_changes::make_all(member.clone(), wanted_changes));
                let checked = member.clone();
                let checks = tokio::spawn(async move { corruption::watch(&checked).await });
                let tokens = tokio::spawn(sweep(member.tokens.clone()));
                let compactor = tokio::spawn(compactor::run(member));
                let _stopped = stopping.wait_for(|stop| *stop).await;
                compactor.abort();
                tokens.abort();
                checks.abort();
                changes.abort();
                checkpointer.abort();
                reaper.abort();
            });
        })
}

/// Gives back the room of tokens that have ended.
async fn sweep(tokens: Arc<Tokens>) {
    let mut sweeps = tokio::time::interval(SWEEP);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        sweeps.tick().await;
        tokens.sweep();
    }
}

fn start_shards(
    member: Arc<Member>,
    lessor: Arc<Lessor>,
    inboxes: Vec<Arc<Inbox>>,
    bound: Bound,
) -> io::Result<Shards> {
    let config = &member.config;
    let limits = ConnectionLimits {
        max_message_bytes: config.max_message_bytes(),
        max_concurrent_streams: config.max_concurrent_streams,
        keepalive: config.keepalive,
        drain: DRAIN,
    };
    let stopping = member.stopping.clone();
    StartShards {
        count: inboxes.len(),
        limits,
        connections: open_files::most_connections(inboxes.len())?,
        handler: move |shard: usize| Services::start(&member, &lessor, inboxes[shard].clone()),
        stopping,
    }
    .start(bound)
}

fn shard_count(config: &Config) -> usize {
    match config.shards {
        0 => thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}
