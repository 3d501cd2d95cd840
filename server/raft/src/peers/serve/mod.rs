//! What other members ask of this one: connections that they dialled.
//!
//! Entries of the log go to openraft one after the other, and are answered when they are on the disk, as many as are
//! ready with one answer. Calls are answered each by itself.

mod answers;
mod hash;
mod seats;
mod snapshot;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _};
use keystead_proto::peer::{
    self, Answer, Append, Ask, Ballot, Forward, Hello, Line, Nothing, ReadIndex, Reason, Refused,
    Roster, Transfer, Welcome, answer, ask,
};
use keystead_seeded::{Bug, planted};
use openraft::async_runtime::WatchReceiver as _;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use prost::Message as _;
use tokio::io::ReadHalf;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::Shared;
use super::addresses::Socket;
use super::frame::{self, Frames};
use super::greeting::{refusal, say, welcome};
use super::translate::{self, AppendResult};
use crate::backing::Backed;
use crate::flusher;
use crate::installing::Installing;
use crate::node::published_by;
use crate::proposer::{ForwardAnswer, ForwardSink};
use crate::queue::{Forwarded, Queue};
use crate::reads::Reads;
use crate::type_config::{Raft, TypeConfig};

/// How long somebody who connected may take to say who it is.
const GREETING: Duration = Duration::from_secs(5);
/// Calls of one connection that are being answered at a time.
const CALLS: usize = 1024;
/// Appends that wait for openraft. Their sender holds them to fewer bytes than there may be in them.
const WAITING_APPENDS: usize = 64;
/// Answers that wait for the socket.
const WAITING_ANSWERS: usize = 1024;
/// How long the port rests when the system gives no connection.
const REST: Duration = Duration::from_millis(100);

use answers::UNAWAITED;
use seats::{Seat, Seats};
pub(super) use snapshot::Begun;

/// Where other members connect to.
#[derive(Debug)]
pub enum PeerListener {
    /// A port, set not to block.
    Tcp(std::net::TcpListener),
    /// A socket file, set not to block.
    Unix(std::os::unix::net::UnixListener),
    /// A port of the simulated host.
    #[cfg(feature = "simulation")]
    Simulated(u16),
}

/// The same, polled by the core's runtime.
enum Port {
    Tcp(TcpListener),
    Unix(UnixListener),
    #[cfg(feature = "simulation")]
    Simulated(turmoil::net::TcpListener),
}

impl Port {
    async fn of(listener: PeerListener) -> io::Result<Self> {
        Ok(match listener {
            PeerListener::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            PeerListener::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
            #[cfg(feature = "simulation")]
            PeerListener::Simulated(port) => {
                let any = std::net::Ipv4Addr::UNSPECIFIED;
                Self::Simulated(turmoil::net::TcpListener::bind((any, port)).await?)
            }
        })
    }

    async fn accept(&self) -> io::Result<Box<dyn Socket>> {
        match self {
            Self::Tcp(listener) => {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                Ok(Box::new(socket))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
            #[cfg(feature = "simulation")]
            Self::Simulated(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Box::new(crate::simulation::Connection::over(stream)?))
            }
        }
    }
}

/// What other members are served with.
pub(crate) struct Serving {
    pub(crate) raft: Raft,
    pub(crate) queue: Arc<Queue>,
    pub(crate) reads: Reads,
    pub(crate) reader: keystead_state::Reader,
    pub(crate) flusher: flusher::Handle,
    pub(crate) installing: Arc<Installing>,
    /// What others forward is refused while more than this waits for a flush.
    pub(crate) unflushed_limit_bytes: u64,
}

struct Served {
    shared: Arc<Shared>,
    with: Serving,
    /// Whose turn it is to have this member hash what it stores.
    hashing: tokio::sync::Mutex<()>,
    seats: Arc<Seats>,
}

/// Serves all that connect, until it is dropped.
pub(crate) async fn all(shared: Arc<Shared>, with: Serving, listeners: Vec<PeerListener>) {
    let served = Arc::new(Served {
        shared,
        with,
        hashing: tokio::sync::Mutex::default(),
        seats: Arc::default(),
    });
    let mut ports = JoinSet::new();
    for listener in listeners {
        match Port::of(listener).await {
            Ok(port) => drop(ports.spawn(take(served.clone(), port))),
            Err(error) => tracing::error!(%error, "a peer port can't be served"),
        }
    }
    while ports.join_next().await.is_some() {}
    // Without a port there are still the lines to others.
    std::future::pending().await
}

async fn take(served: Arc<Served>, port: Port) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match port.accept().await {
            Ok(socket) => {
                let (served, seat) = (served.clone(), served.seats.take());
                connections.spawn(async move {
                    let ended = tokio::select! {
                        ended = connection(served, &seat, socket) => ended,
                        () = seat.must_leave() => Err(io::Error::other("it made way for another")),
                    };
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a peer's connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a peer's connection could not be taken");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

type Reader = Frames<ReadHalf<Box<dyn Socket>>>;

async fn connection(served: Arc<Served>, seat: &Seat, socket: Box<dyn Socket>) -> io::Result<()> {
    let (reader, mut writer) = tokio::io::split(socket);
    let mut frames = Frames::new(reader, frame::GREETING_BYTES);
    let hello = timeout(GREETING, frames.next::<Hello>()).await??;
    let Some(hello) = hello else { return Ok(()) };
    let refused = refusal(&hello, served.shared.me);
    if let Some(refusal) = &refused {
        tracing::warn!(
            peer = format!("{:016x}", hello.from),
            refusal,
            "refused a peer's connection"
        );
    }
    if hello.line() == Line::Inquiry && refused.is_none() {
        return say(&mut writer, &served.roster()).await;
    }
    let removed = refused.is_none() && served.with.reader.was_removed(hello.from);
    let is_refused = refused.is_some();
    let welcome = Welcome {
        removed,
        ..welcome(refused)
    };
    say(&mut writer, &welcome).await?;
    if is_refused || removed {
        return Ok(());
    }
    seat.greeted(hello.from, hello.line());
    frames.trust();
    let (answers, written) = mpsc::channel(WAITING_ANSWERS);
    let serving = async {
        match hello.line() {
            Line::Calls => calls(served, hello.from, frames, answers).await,
            Line::Log => log(served, frames, answers).await,
            Line::Snapshot => snapshot::receive(&served, frames, answers).await,
            Line::Hash => hash::answer_all(&served, frames, answers).await,
            _ => Ok(()),
        }
    };
    let (served, written) = tokio::join!(serving, answers::write(written, writer, UNAWAITED));
    served.and(written)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

async fn calls(
    served: Arc<Served>,
    from: u64,
    mut frames: Reader,
    answers: mpsc::Sender<Answer>,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(CALLS));
    let mut asked = JoinSet::new();
    loop {
        let next = tokio::select! {
            next = frames.next::<Ask>() => next?,
            () = answers.closed() => return Err(gone()),
        };
        let Some(Ask { id, what }) = next else {
            return Ok(());
        };
        let what = what.ok_or_else(|| invalid("an empty question"))?;
        // It is told so when it dials again.
        let is_question = matches!(what, ask::What::Ping(_) | ask::What::Ballot(_));
        if is_question && served.with.reader.was_removed(from) {
            return Err(gone());
        }
        while asked.try_join_next().is_some() {}
        let permit = room.clone().acquire_owned().await.map_err(invalid)?;
        let (served, answers) = (served.clone(), answers.clone());
        asked.spawn(async move {
            let what = Some(served.answer(from, what).await);
            // The connection is gone: nobody waits.
            answers.send(Answer { id, what }).await.ok();
            drop(permit);
        });
    }
}

/// One session of the log: where its requests go. Its answers are given by a task of its own.
struct Session {
    id: u64,
    requests: mpsc::Sender<AppendEntriesRequest<TypeConfig>>,
}

async fn log(
    served: Arc<Served>,
    mut frames: Reader,
    answers: mpsc::Sender<Answer>,
) -> io::Result<()> {
    let mut session: Option<Session> = None;
    let mut answering = JoinSet::new();
    loop {
        let next = tokio::select! {
            next = frames.next::<Ask>() => next?,
            () = answers.closed() => return Err(gone()),
        };
        let append = match next {
            None => return Ok(()),
            Some(Ask {
                id,
                what: Some(ask::What::Append(append)),
            }) => (id, append),
            Some(Ask {
                id,
                what: Some(ask::What::Ping(_)),
            }) => {
                let what = Some(answer::What::Ping(Nothing {}));
                answers
                    .send(Answer { id, what })
                    .await
                    .map_err(|_| gone())?;
                continue;
            }
            Some(_) => return Err(invalid("a call on a connection for the log")),
        };
        let (id, append) = append;
        // A store that is behind is not helped by more; apply itself never waits for it.
        while served.shared.standing.unflushed_bytes() > served.with.unflushed_limit_bytes {
            tokio::time::sleep(REST).await;
        }
        let request = translate::parse_append(append).map_err(invalid)?;
        if session.as_ref().is_none_or(|session| session.id != id) {
            while answering.try_join_next().is_some() {}
            let (requests, input) = mpsc::channel(WAITING_APPENDS);
            let input = futures::stream::unfold(input, |mut input| async move {
                Some((input.recv().await?, input))
            });
            let results = served
                .with
                .raft
                .stream_append(input)
                .map(|result| result.ok());
            answering.spawn(acknowledge(served.clone(), id, results, answers.clone()));
            session = Some(Session { id, requests });
        }
        if let Some(Session { requests, .. }) = &session {
            // A session that ended with a conflict or another leader takes no more: its sender has heard of it.
            requests.send(request).await.ok();
        }
    }
}

/// Answers what openraft has on its disk, as much as is ready with one answer. The leader learns nothing when it is told once more up to
/// where the logs match, as after a message that says what is committed: that waits for the next answer.
async fn acknowledge(
    served: Arc<Served>,
    id: u64,
    results: impl Stream<Item = Option<AppendResult>>,
    answers: mpsc::Sender<Answer>,
) {
    // Asked once more after its end, where that comes right behind a result.
    let mut results = pin!(results.fuse());
    let mut count = 0;
    let mut told = None;
    // None: the core has stopped, and so does the process.
    while let Some(Some(mut result)) = results.next().await {
        count += 1;
        if result.is_ok() {
            served.shared.standing.heard_leader();
        }
        let until = Instant::now() + UNAWAITED;
        while let Ok(matched) = &result {
            let more = results.next();
            let next = match told.as_ref() == Some(matched) {
                true => timeout_at(until, more).await.ok(),
                false => more.now_or_never(),
            };
            let Some(Some(Some(next))) = next else { break };
            count += 1;
            result = next;
        }
        told = result.as_ref().ok().cloned();
        let what = Some(answer::What::Appended(translate::appended(count, &result)));
        if answers.send(Answer { id, what }).await.is_err() {
            return;
        }
    }
}

impl Served {
    /// The answer to who asks without belonging to the cluster: the members by the log, for an entry that adds one may wait
    /// for that very member, which asks this first.
    fn roster(&self) -> Welcome {
        let metrics = self.with.raft.metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        let members = published_by(membership.membership(), &self.with.reader);
        Welcome {
            roster: Some(Roster {
                cluster_id: self.shared.me.cluster_id,
                members: members
                    .iter()
                    .map(|member| member.encode_to_vec().into())
                    .collect(),
            }),
            ..welcome(None)
        }
    }

    async fn answer(&self, from: u64, what: ask::What) -> answer::What {
        let answered = match what {
            ask::What::Append(append) => self.append(append).await,
            ask::What::Ballot(ballot) => self.poll(&ballot).await,
            ask::What::Transfer(transfer) => self.transfer(&transfer).await,
            ask::What::Ping(nothing) => Ok(answer::What::Ping(nothing)),
            ask::What::ReadIndex(asked) => self.read_index(from, asked).await,
            ask::What::Backing(vote) => self.backs(vote).await,
            ask::What::Forward(forward) => self.forward(forward).await,
            ask::What::Request(request) => self.request(request).await,
            ask::What::SnapshotBegin(_)
            | ask::What::SnapshotRows(_)
            | ask::What::SnapshotEnd(_)
            | ask::What::HashAt(_) => Err(unknown("not served here")),
        };
        answered.unwrap_or_else(|(reason, text)| {
            answer::What::Refused(Refused {
                reason: reason.into(),
                text,
            })
        })
    }

    /// A heartbeat. Who leads is known before what came earlier is on this member's disk, and that is all it asks.
    async fn append(&self, append: Append) -> Result<answer::What, (Reason, String)> {
        let request = translate::parse_append(append).map_err(unknown)?;
        let (vote, prev) = (request.vote, request.prev_log_id);
        let only_asks = request.entries.is_empty();
        let mut appended = pin!(self.with.raft.append_entries(request));
        let at_once = match futures::poll!(&mut appended) {
            std::task::Poll::Ready(done) => Some(done),
            std::task::Poll::Pending if only_asks => {
                // Looked at after the request was: they go through one queue.
                let accepted = self
                    .with
                    .raft
                    .with_raft_state(move |state| *state.vote_ref() == vote);
                let accepted = accepted.await.map_err(stopping)?;
                match appended.as_mut().now_or_never() {
                    None if accepted => Some(Ok(AppendEntriesResponse::Success)),
                    done => done,
                }
            }
            std::task::Poll::Pending => None,
        };
        let done = match at_once {
            Some(done) => done,
            None => appended.await,
        };
        let result = done.map_err(stopping)?.into_stream_result(prev, prev);
        if result.is_ok() {
            self.shared.standing.heard_leader();
        }
        Ok(answer::What::Appended(translate::appended(1, &result)))
    }

    async fn poll(&self, ballot: &Ballot) -> Result<answer::What, (Reason, String)> {
        let request = translate::parse_ballot(ballot).map_err(unknown)?;
        let response = match ballot.pre {
            true => self.with.raft.pre_vote(request).await,
            false => self.with.raft.vote(request).await,
        };
        let response = response.map_err(stopping)?;
        Ok(answer::What::Polled(translate::polled(&response)))
    }

    async fn transfer(&self, transfer: &Transfer) -> Result<answer::What, (Reason, String)> {
        let request = translate::parse_transfer(transfer).map_err(unknown)?;
        let response = self.with.raft.handle_transfer_leader(request).await;
        let response = response.map_err(stopping)?;
        Ok(answer::What::Transferred(translate::transferred(&response)))
    }

    /// Who asks backs this member by that, or not.
    async fn read_index(
        &self,
        from: u64,
        asked: ReadIndex,
    ) -> Result<answer::What, (Reason, String)> {
        if asked.vote.is_some() {
            let vote = translate::parse_vote(asked.vote).map_err(unknown)?;
            let backers = [self.shared.me.member_id, from];
            let proven = self.with.raft.with_raft_state(move |state| {
                Backed::of(state).filter(|led| led.vote == vote && led.is_proven_by(&backers))
            });
            if let Some(led) = proven.await.map_err(stopping)? {
                return Ok(answer::What::ReadIndex(led.position));
            }
        }
        match self.with.reads.index().await {
            Ok(Some(position)) => Ok(answer::What::ReadIndex(position)),
            Ok(None) => Err((
                Reason::NotLeader,
                "no quorum says that this member leads".into(),
            )),
            Err(refusal) => Err((Reason::TooMany, refusal.to_string())),
        }
    }

    async fn backs(&self, vote: peer::Vote) -> Result<answer::What, (Reason, String)> {
        let vote = translate::parse_vote(Some(vote)).map_err(unknown)?;
        let raft = &self.with.raft;
        let own = raft.with_raft_state(|state| *state.vote_ref());
        let own = own.await.map_err(stopping)?;
        match own == vote || planted(Bug::BackAnyVote) {
            true => Ok(answer::What::Backed(Nothing {})),
            false => Err((Reason::NotLeader, "another has this member's vote".into())),
        }
    }

    /// Before and after, since the answer may take long, and who slept may not know yet that another leads.
    async fn request(&self, request: Bytes) -> Result<answer::What, (Reason, String)> {
        let not_led = || (Reason::NotLeader, String::new());
        if !leads(&self.with.raft, &self.shared) {
            return Err(not_led());
        }
        let answer = self.shared.observer.asked(request).await;
        match answer {
            Some(answer) if leads(&self.with.raft, &self.shared) => {
                Ok(answer::What::Response(answer))
            }
            _ => Err(not_led()),
        }
    }

    async fn forward(&self, forward: Forward) -> Result<answer::What, (Reason, String)> {
        let Forward {
            term,
            origin: sender,
            number,
            records,
        } = forward;
        let (sink, answered) = ForwardSink::new();
        let unflushed = self.shared.standing.unflushed_bytes();
        let Some(room) = self.with.unflushed_limit_bytes.checked_sub(unflushed) else {
            return Err((Reason::TooMany, "the store is behind".to_owned()));
        };
        let forwarded = (term, Forwarded { sender, number });
        self.with
            .queue
            .push_forwarded(sink, records, forwarded, room);
        match answered.await {
            Ok(ForwardAnswer::NotLeader) => Err((Reason::NotLeader, String::new())),
            Ok(ForwardAnswer::TooMany) => Err((Reason::TooMany, String::new())),
            // The sink was dropped with what it waited for: nobody knows here.
            Ok(ForwardAnswer::Taken) | Err(_) => Ok(answer::What::Taken(Nothing {})),
        }
    }
}

fn leads(raft: &Raft, shared: &Shared) -> bool {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    shared.standing.leads(&metrics, shared.timing.election)
}

fn unknown(error: impl std::fmt::Display) -> (Reason, String) {
    (Reason::UnknownRequest, error.to_string())
}

fn stopping(error: impl std::fmt::Display) -> (Reason, String) {
    (Reason::Stopping, error.to_string())
}
