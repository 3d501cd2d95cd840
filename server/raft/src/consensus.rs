//! The facade: what the server sees of consensus. No type of openraft passes through it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keystead_proto::etcdserverpb::Member as MemberRecord;
use keystead_proto::internal::Record;
use keystead_proto::peer::{answer, ask};
use keystead_state::{Outcome, Reader, Refusal};
use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, LogIdOptionExt as _, RaftMetrics, ServerState};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::blocking::{Loop, drive};
use crate::bootstrap::{self, Parts, StartError};
use crate::config::Config;
use crate::core::{self, Core, Running, Stop};
use crate::data_dir::{DataDir, Identity};
use crate::flusher::{self, Surroundings};
use crate::forwards::Forwards;
use crate::handover::Handover;
use crate::initial_check;
use crate::log_storage::{self, LogReader, LogStorage};
use crate::machine::{Machine, Told};
use crate::membership::{MemberChange, Members};
use crate::peers::{self, PeerListener, Peers};
use crate::queue::Queue;
use crate::reads::{self, Reads};
use crate::replies::Waiters;
use crate::sink::{Observer, ReplySink};
use crate::space;
use crate::standing::Standing;
use crate::status::{Counters, Status};
use crate::type_config::{Raft, TypeConfig};
use crate::wal::Wal;

/// One member's part in consensus. Clones are of the same member; when the last is dropped without
/// [`shutdown`](Self::shutdown), the member stops as if it had been killed.
#[derive(Clone)]
pub struct Consensus(pub(crate) Arc<Member>);

pub(crate) struct Member {
    queue: Arc<Queue>,
    standing: Arc<Standing>,
    pub(crate) raft: Raft,
    pub(crate) reads: Reads,
    flusher: flusher::Handle,
    pub(crate) wal: Arc<Wal>,
    pub(crate) store: keystead_mvcc::Store,
    unflushed_limit_bytes: u64,
    members: Members,
    handover: Handover,
    /// A leader, or its quorum, that was silent for this long is lost.
    leader_lost: Duration,
    election_timeout: Duration,
    pub(crate) identity: Identity,
    pub(crate) peers: Peers,
    core: Mutex<Option<(oneshot::Sender<Stop>, Loop)>>,
    /// Locked as long as anything of the member lives.
    _data_dir: DataDir,
}

impl Consensus {
    /// Starts the member on its data directory: everything known to be committed is applied when this returns, and a
    /// lone voter leads. A fresh directory becomes a cluster of its founders, once a majority of them has started; where
    /// none are named, the directory waits for the members of a cluster that has this one as a member.
    ///
    /// It blocks for as long as that takes. Other members are listened for on `listeners`. `observer` is called from
    /// inside.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing runs then.
    pub fn start(
        config: Config,
        listeners: Vec<PeerListener>,
        observer: Arc<dyn Observer>,
    ) -> Result<(Self, Reader), StartError> {
        drive(Self::begin(config, None, listeners, observer, |_, _| {}))
    }

    /// Starts the member. `opened` hears of its log before anything is applied.
    pub(crate) async fn begin(
        config: Config,
        log: bootstrap::Log,
        listeners: Vec<PeerListener>,
        observer: Arc<dyn Observer>,
        opened: impl FnOnce(LogReader, Arc<Standing>),
    ) -> Result<(Self, Reader), StartError> {
        let Parts {
            data_dir,
            wal,
            recovered,
            store,
            flusher,
            flushed,
            state,
            reader,
            note,
            installing,
        } = bootstrap::open(&config, log).await?;
        if config.initial_corrupt_check {
            initial_check::check(&config, &reader)?;
        }
        let identity = config.identity;
        let member_id = identity.member_id;
        let standing = Arc::new(Standing::of(member_id));
        let log = LogStorage::new(
            wal.clone(),
            &recovered,
            standing.clone(),
            installing.clone(),
        )?;
        opened(log.reader(), standing.clone());
        let (synced, written, short) = (wal.clone(), wal.clone(), wal.clone());
        let queue = Queue::new(config.proposal_deadline());
        let surroundings = Surroundings {
            standing: standing.clone(),
            store: store.clone(),
            synced: Arc::new(move || log_storage::synced(&synced)),
            log_bytes: Arc::new(move || written.counters().bytes),
            long_before: wal.first_within(config.wal_retained_bytes).unwrap_or(0),
            log_wants_space: Arc::new(move || short.wants_space()),
            no_space: space::alarm(reader.clone(), queue.clone(), member_id),
        };
        let flushing = flusher::start(flusher, flushed, note.clone(), &config, surroundings)
            .map_err(StartError::Thread)?;
        let handle = flushing.handle.clone();
        let note = note.unwrap_or_default();
        let forwards = Arc::new(Forwards::of(member_id));
        let machine = Machine::new(
            state,
            store.clone(),
            note,
            wal.clone(),
            Told {
                observer: observer.clone(),
                standing: standing.clone(),
                flusher: handle.clone(),
                reader: reader.clone(),
                forwards: forwards.clone(),
            },
        );
        let sharing = peers::Shared::new(&config, standing.clone(), observer.clone());
        let (reads, rounds) = reads::channel();
        let unflushed_limit_bytes = config.unflushed_limit_bytes;
        let (leader_lost, election_timeout) =
            (config.election_timeout * 3 / 2, config.election_timeout);
        let Running {
            raft,
            peers,
            stop,
            ends,
        } = core::start(Core {
            config: config.clone(),
            log,
            machine,
            queue: queue.clone(),
            rounds,
            standing: standing.clone(),
            observer,
            flushing,
            wal: wal.clone(),
            sharing,
            listeners,
            forwards,
            reads: reads.clone(),
            reader: reader.clone(),
            installing,
        })
        .await?;
        let core = Mutex::new(Some((stop, ends)));
        let flusher = handle;
        let members = Members::new(raft.clone(), reader.clone(), &config);
        let handover = Handover::new(raft.clone(), &config);
        let member = Member {
            queue,
            standing,
            raft,
            reads,
            flusher,
            wal,
            store,
            unflushed_limit_bytes,
            members,
            handover,
            leader_lost,
            election_timeout,
            identity,
            peers,
            core,
            _data_dir: data_dir,
        };
        Ok((Self(Arc::new(member)), reader))
    }

    /// Proposes `batch`, each record under a token of the sink's own choosing. Never blocks. Every token is answered
    /// once: with what became of the record, or with a refusal. [`Refusal::TooManyRequests`] and
    /// [`Refusal::NoLeader`] say that it was not proposed; after [`Refusal::Timeout`], [`Refusal::LeaderLost`],
    /// [`Refusal::ConnectionLost`], [`Refusal::LeaderChanged`] and [`Refusal::Stopped`] it may have been applied, or may yet
    /// be.
    pub fn propose(&self, sink: &Arc<dyn ReplySink>, batch: Vec<(u64, Record)>) {
        let unflushed = self.0.standing.unflushed_bytes();
        if let Some(room) = self.0.unflushed_limit_bytes.checked_sub(unflushed) {
            return self.0.queue.push(sink, batch, room);
        }
        let tokens = batch.into_iter().map(|(token, _)| token).collect();
        Waiters {
            sink: sink.clone(),
            tokens,
        }
        .refuse(&Refusal::TooManyRequests);
    }

    /// The same, for what this member decided as the leader of `term`: unless it leads in that very term still, all is
    /// refused with [`Refusal::NoLeader`] and never proposed by another.
    pub fn propose_in_term(&self, sink: &Arc<dyn ReplySink>, batch: Vec<(u64, Record)>, term: u64) {
        // Never for want of room: it is the leader's own, and little.
        self.0.queue.push_bound(sink, batch, term, u64::MAX);
    }

    /// The same for one record; waits for its outcome.
    pub async fn propose_one_in_term(&self, record: Record, term: u64) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let sink: Arc<dyn ReplySink> = Arc::new(OneReply(Mutex::new(Some(answer))));
        self.propose_in_term(&sink, vec![(0, record)], term);
        drop(sink);
        answered.await.unwrap_or(Err(Refusal::Stopped))
    }

    /// Proposes one record and waits for its outcome.
    pub async fn propose_one(&self, record: Record) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let sink: Arc<dyn ReplySink> = Arc::new(OneReply(Mutex::new(Some(answer))));
        self.propose(&sink, vec![(0, record)]);
        drop(sink);
        answered.await.unwrap_or(Err(Refusal::Stopped))
    }

    /// A linearizable read's permission to read what is applied here, where no other member need be asked; `None`
    /// means that [`read_barrier`](Self::read_barrier) must be awaited. Reads two atomics.
    pub fn try_read_barrier(&self) -> Option<Result<(), Refusal>> {
        self.0.standing.reads_are_current().then_some(Ok(()))
    }

    /// Returns when everything that was acknowledged anywhere before the call is applied here.
    ///
    /// # Errors
    /// [`Refusal::NoLeader`], [`Refusal::Timeout`], [`Refusal::Stopped`] or [`Refusal::TooManyRequests`].
    pub async fn read_barrier(&self) -> Result<(), Refusal> {
        match self.try_read_barrier() {
            Some(answer) => answer,
            None => self.0.reads.barrier().await,
        }
    }

    /// Changes who the members are, on the leader. Returns the members after the change; it is then on the disks of a
    /// quorum of the voters before it, and applied here as soon as a quorum of the voters after it has it.
    ///
    /// # Errors
    /// [`Refusal::NotLeader`] and etcd's reasons against the change: nothing was changed. [`Refusal::Timeout`],
    /// [`Refusal::LeaderChanged`] and [`Refusal::Stopped`]: it may have been made, or may yet be.
    pub async fn change_members(
        &self,
        change: &MemberChange,
    ) -> Result<Vec<MemberRecord>, Refusal> {
        self.0.members.change(change).await
    }

    /// The members that the log names, by id, an entry that waits for its quorum included; with the names and client URLs
    /// that are applied here.
    pub fn members(&self) -> Vec<MemberRecord> {
        self.0.members.list()
    }

    /// Whether this is a member without a vote; who is none at all is no learner. Reads an atomic.
    pub fn is_learner(&self) -> bool {
        self.0.standing.is_learner()
    }

    /// Hands the leadership to `target`, when it has the log and answers, and returns when it leads. Writes that
    /// come in between are refused with [`Refusal::NoLeader`] or sent on.
    ///
    /// # Errors
    /// [`Refusal::NotLeader`], [`Refusal::BadTransferee`]: nothing was begun. [`Refusal::TransferTimeout`]: it does not lead
    /// yet, nor perhaps ever.
    pub async fn move_leader(&self, target: u64) -> Result<(), Refusal> {
        self.0.handover.to(target).await
    }

    /// Hands the leadership to whoever is best placed to have it, for a member that is about to stop. Returns at once where
    /// it does not lead, or nobody else could.
    pub async fn hand_over(&self) {
        self.0.handover.before_stop().await;
    }

    /// Where the member stands.
    pub fn status(&self) -> Status {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        Status {
            leader: self.leader(&metrics).unwrap_or(0),
            term: metrics.current_term,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            committed_index: metrics.local_committed.index().unwrap_or(0),
            applied_index: self.0.standing.applied().saturating_sub(1),
            is_leader: metrics.state == ServerState::Leader,
            is_learner: metrics.state == ServerState::Learner,
        }
    }

    /// The position of the log up to which all is applied here, and the observer was told of it.
    pub fn applied(&self) -> u64 {
        self.0.standing.applied()
    }

    /// The leader that is still there: for itself, a leader judges by the age of its quorum's last word, a follower by that
    /// of the leader's.
    fn leader(&self, metrics: &RaftMetrics<TypeConfig>) -> Option<u64> {
        let leader = metrics.current_leader?;
        let is_there = if metrics.state == ServerState::Leader {
            let silence = metrics.last_quorum_acked.map(|at| at.elapsed());
            self.0.standing.is_lone_voter() || silence.is_none_or(|it| it < self.0.leader_lost)
        } else {
            let silence = self.0.standing.leader_silence();
            leader != metrics.id && silence.is_some_and(|it| it < self.0.leader_lost)
        };
        is_there.then_some(leader)
    }

    /// Whether this member leads and nobody else can, which it knows by the age of its quorum's last word.
    pub fn leads(&self) -> bool {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        self.0.standing.leads(&metrics, self.0.election_timeout)
    }

    /// Asks the leader, where that is another member, what its observer knows ([`Observer::asked`]), and waits for so long.
    ///
    /// # Errors
    /// [`Refusal::NoLeader`]: no other leads, or it did not answer; it may have heard the question.
    pub async fn ask_leader(&self, request: Bytes, patience: Duration) -> Result<Bytes, Refusal> {
        let leader = self.0.raft.metrics().borrow_watched().current_leader;
        let leader = leader.filter(|leader| *leader != self.0.identity.member_id);
        let lines = self.0.peers.lines(leader.ok_or(Refusal::NoLeader)?);
        let asking = lines.calls.call(ask::What::Request(request));
        match tokio::time::timeout(patience, asking).await {
            Ok(Ok(answer::What::Response(answer))) => Ok(answer),
            _ => Err(Refusal::NoLeader),
        }
    }

    /// Waits until everything that a compaction at `revision` superseded is gone from the store.
    pub async fn physically_compacted(&self, revision: i64) {
        // The flusher ends only when the member stops; then nobody can wait for it any more.
        self.0
            .flusher
            .physically_compacted()
            .wait_for(|reached| *reached >= revision)
            .await
            .ok();
    }

    /// Writes to the store all that was applied before the call.
    ///
    /// # Errors
    /// What the file system said; it is tried again with the next flush.
    pub async fn flush(&self) -> std::io::Result<()> {
        self.0.flusher.flush().await.map(drop)
    }

    /// Gives unused space of the store back to the file system, while it serves.
    ///
    /// # Errors
    /// What the file system said; the store is as it was.
    pub async fn defragment(&self) -> std::io::Result<()> {
        self.0.flusher.defragment().await
    }

    /// What the member did since it started.
    pub fn counters(&self) -> Counters {
        Counters {
            log: self.0.wal.counters(),
            store: self.0.store.counters(),
        }
    }

    /// Stops the member: what was proposed is answered, what was applied is flushed, the index is written down.
    /// Proposals that come later are refused. Further calls return at once.
    pub async fn shutdown(&self) {
        let Some((stop, core)) = self.0.core.lock().take() else {
            return;
        };
        // The core may have ended before.
        stop.send(Stop::Cleanly).ok();
        if !core.ended_aside().await {
            tracing::warn!("the core thread ended by a panic");
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let Some((stop, core)) = self.core.lock().take() else {
            return;
        };
        stop.send(Stop::AsItStands).ok();
        // An observer may hold the last handle: the core then ends after this, by itself.
        if !core.join() {
            tracing::warn!("the core thread ended by a panic");
        }
    }
}

struct OneReply(Mutex<Option<oneshot::Sender<Outcome>>>);

impl ReplySink for OneReply {
    fn deliver(&self, replies: Vec<(u64, Outcome)>) {
        let answer = self.0.lock().take();
        if let (Some(answer), Some((_, outcome))) = (answer, replies.into_iter().next()) {
            // Who no longer waits needs no answer.
            answer.send(outcome).ok();
        }
    }
}
