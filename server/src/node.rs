//! One running member: opens its data, starts consensus, then the network, and stops them in reverse.
//! The command line and the tests start it; it is the only file that knows all parts.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use keystead_proto::etcdserverpb::Member as MemberRecord;
use keystead_proto::internal::RecordKind;
use keystead_raft::{self as raft, Consensus, DataDir, Identity, Observer};
use keystead_state::{Applied, Limits, Refusal};
use prost::Message;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::config::{Config, ListenAddress};
use crate::founding::{self, FoundingError};
use crate::header::Headers;
use crate::lease::{self, BootClock, Lessor, Revocations};
use crate::member::Member;
use crate::net::{Bound, ConnectionLimits, Shards, StartShards, bind, turn_away};
use crate::service::Services;
use crate::watch::{Inbox, Publisher};
use crate::{compactor, identity, open_files};

/// How long calls that are open may go on after the member was told to stop.
const DRAIN: Duration = Duration::from_secs(2);
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
    /// The member could not say who it is.
    #[error("the member could not publish its name and addresses: {0}")]
    Publish(Refusal),
    /// The system gives no thread or no descriptors.
    #[error("the system has no thread or file for the member: {0}")]
    System(#[from] io::Error),
}

impl Node {
    /// Starts a member and returns when it serves. Blocks for as long as its log takes to be read.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing runs then, and the data is as it was.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let bound = listen(&config.listen_client, "listen-client-urls")?;
        let peers = listen(&config.listen_peer, "listen-peer-urls")?;
        let addresses = bound.addresses().to_vec();
        let identity = whose(&config)?;
        let headers = Arc::new(Headers::new(identity.cluster_id, identity.member_id));
        let lessor = Arc::new(Lessor::new(Arc::new(BootClock), config.election_timeout));
        let (publisher, inboxes) = Publisher::new(shard_count(&config));
        let observer = Arc::new(Follower {
            headers: headers.clone(),
            lessor: lessor.clone(),
            publisher,
        });
        let (consensus, reader) = Consensus::start(raft_config(&config, identity), observer)?;
        lessor.adopt(reader.leases());
        let (stop, stopping) = watch::channel(false);
        let member = Arc::new(Member {
            config,
            headers,
            reader,
            consensus: consensus.clone(),
            stopping,
        });
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime
            .block_on(publish(&member))
            .map_err(StartError::Publish)?;
        let background = start_background(member.clone(), lessor.clone(), peers)?;
        let shards = start_shards(member, lessor, inboxes, bound)?;
        Ok(Self {
            consensus,
            runtime,
            shards,
            background,
            stop,
            addresses,
        })
    }

    /// Where clients are served, with the ports that were chosen for port 0.
    pub fn client_addresses(&self) -> &[ListenAddress] {
        &self.addresses
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
    publisher: Publisher,
}

impl Observer for Follower {
    fn applied(&self, applied: &Applied) {
        self.lessor.applied(&applied.lease_changes);
        let sealed = &applied.sealed;
        self.publisher.publish(&sealed.rows, sealed.payload_bytes);
    }

    fn leader_changed(&self, leading: bool, term: u64) {
        self.headers.set_term(term);
        self.lessor.leader_changed(leading);
    }
}

/// Whose data the directory holds; a new directory becomes that of the member that the addresses and the token name.
fn whose(config: &Config) -> Result<Identity, StartError> {
    if let Some(identity) = DataDir::identity(&config.data_dir)? {
        return Ok(identity);
    }
    founding::check(config)?;
    let member_id = identity::member_id(&config.advertise_peer_urls, &config.cluster_token);
    Ok(Identity {
        cluster_id: identity::cluster_id(&[member_id]),
        member_id,
    })
}

fn raft_config(config: &Config, identity: Identity) -> raft::Config {
    let limits = Limits {
        quota_bytes: config.quota_bytes.unwrap_or(-1),
    };
    raft::Config {
        founders: vec![MemberRecord {
            id: identity.member_id,
            name: config.name.clone(),
            peer_urls: config.advertise_peer_urls.clone(),
            ..MemberRecord::default()
        }],
        force_new_cluster: config.force_new_cluster,
        strict_reconfig_check: config.strict_reconfig_check,
        max_learners: config.max_learners,
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
        ..raft::Config::at(&config.data_dir, identity, limits)
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
        member
            .propose(RecordKind::MemberAttributes, record.encode_to_vec().into())
            .await?;
    }
    if member.reader.cluster_version().is_none() {
        member
            .propose(RecordKind::ClusterVersion, CLUSTER_VERSION.into())
            .await?;
    }
    Ok(())
}

/// What the member does by itself, off the shards' threads.
fn start_background(
    member: Arc<Member>,
    lessor: Arc<Lessor>,
    peers: Bound,
) -> io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name("background".into())
        .spawn(move || {
            let mut stopping = member.stopping.clone();
            runtime.block_on(async move {
                let revocations = Revocations::new(member.consensus.clone());
                let reaper = tokio::spawn(lease::reap(lessor, revocations));
                let compactor = tokio::spawn(compactor::run(member));
                let peer_port = tokio::spawn(turn_away(peers));
                let _stopped = stopping.wait_for(|stop| *stop).await;
                peer_port.abort();
                compactor.abort();
                reaper.abort();
            });
        })
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
