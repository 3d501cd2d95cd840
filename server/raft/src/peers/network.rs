//! openraft's side of the way to other members: what its tasks call. Everything is handed to the lines, which encode it and
//! wait for the network in tasks of their own.

use std::future::Future;
use std::sync::Arc;

use futures::Stream;
use futures::StreamExt as _;
use futures::stream::unfold;
use keystead_proto::peer::{answer, ask};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use tokio::task::JoinHandle;

use super::line::{LineError, LogNews, LogSession};
use super::translate::{self, Untranslatable};
use super::window::Window;
use super::{Lines, Peers, snapshot_send};
use crate::node::Node;
use crate::snapshot::{Snapshot, SnapshotData};
use crate::stored;
use crate::type_config::{LogId, TypeConfig, Vote};

/// The way to one member, for one of openraft's tasks.
pub(crate) struct Peer {
    peers: Peers,
    target: u64,
    lines: Arc<Lines>,
    /// Entries go one after the other without waiting for answers; a heartbeat must not wait behind them.
    pipelined: bool,
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Node) -> Peer {
        Peer {
            pipelined: true,
            ..self.new_heartbeat_client(target, node).await
        }
    }

    async fn new_heartbeat_client(&mut self, target: u64, _: &Node) -> Peer {
        Peer {
            lines: self.lines(target),
            peers: self.clone(),
            target,
            pipelined: false,
        }
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Answer<T> = Result<T, RPCError<TypeConfig>>;
type Appends<'s> = BoxStream<'s, Answer<StreamAppendResult<TypeConfig>>>;

fn failed(error: &LineError) -> RPCError<TypeConfig> {
    match error {
        LineError::NotSent(_) => Unreachable::new(error).into(),
        LineError::Lost(_) => NetworkError::new(error).into(),
    }
}

fn strange(error: &Untranslatable) -> RPCError<TypeConfig> {
    NetworkError::new(error).into()
}

impl Peer {
    /// Asks over the line for calls; `read` takes the answer that is meant.
    async fn ask<T>(
        &self,
        what: ask::What,
        read: impl FnOnce(answer::What) -> Option<Result<T, Untranslatable>>,
    ) -> Answer<T> {
        let answer = self.lines.calls.call(what).await;
        let answer = answer.map_err(|error| failed(&error))?;
        read(answer)
            .unwrap_or(Err(Untranslatable::Missing("answer")))
            .map_err(|error| strange(&error))
    }

    async fn poll(
        &self,
        request: VoteRequest<TypeConfig>,
        pre: bool,
    ) -> Answer<VoteResponse<TypeConfig>> {
        let ballot = translate::ballot(&request, pre);
        self.ask(ask::What::Ballot(ballot), |answer| match answer {
            answer::What::Polled(polled) => Some(translate::parse_polled(&polled)),
            _ => None,
        })
        .await
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Answer<AppendEntriesResponse<TypeConfig>> {
        let append = translate::append(&request);
        let result = self
            .ask(ask::What::Append(append), |answer| match answer {
                answer::What::Appended(appended) => Some(translate::parse_appended(&appended)),
                _ => None,
            })
            .await?;
        Ok(AppendEntriesResponse::from(result))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Answer<Appends<'s>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        if !self.pipelined {
            return stream_append_sequential(self, input, option);
        }
        let lines = self.lines.clone();
        Box::pin(async move {
            let pipeline = Pipeline {
                lines,
                session: None,
                input: Some(input),
                window: Window::default(),
            };
            let answers: Appends<'s> = Box::pin(unfold(Some(pipeline), next_answer));
            Ok(answers)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Answer<VoteResponse<TypeConfig>> {
        self.poll(request, false).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Answer<VoteResponse<TypeConfig>> {
        self.poll(request, true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sending = snapshot_send::send(self.peers.shared.clone(), self.target, vote, snapshot);
        // Dropped, the task is aborted.
        let mut sending = AbortOnDrop(self.peers.runtime.spawn(sending));
        let sent = tokio::select! {
            sent = &mut sending.0 => sent,
            closed = cancel => return Err(closed.into()),
        };
        match sent {
            Ok(Ok(vote)) => Ok(SnapshotResponse::new(vote)),
            Ok(Err(error)) => {
                tracing::warn!(
                    peer = format!("{:016x}", self.target),
                    %error,
                    "a snapshot did not arrive"
                );
                // Not at once again: whatever it was needs time.
                Err(Unreachable::new(&error).into())
            }
            Err(error) => Err(Unreachable::new(&error).into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Answer<TransferLeaderResponse<TypeConfig>> {
        let transfer = translate::transfer(&request);
        self.ask(ask::What::Transfer(transfer), |answer| match answer {
            answer::What::Transferred(transferred) => {
                Some(translate::parse_transferred(&transferred, &request))
            }
            _ => None,
        })
        .await
    }
}

/// Entries on their way to one follower.
struct Pipeline<S> {
    lines: Arc<Lines>,
    /// Opened for the first request: openraft holds that back when the follower could not be reached, and without it an
    /// error that comes at once would be asked for again at once.
    session: Option<LogSession>,
    /// None once there are no more.
    input: Option<S>,
    window: Window,
}

/// The next answer that openraft is to hear. Requests are taken from openraft in here alone, so that none is sent between the
/// giving of an answer and its being heard.
async fn next_answer<S>(
    pipeline: Option<Pipeline<S>>,
) -> Option<(Answer<StreamAppendResult<TypeConfig>>, Option<Pipeline<S>>)>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let mut pipeline = pipeline?;
    loop {
        if pipeline.input.is_none() && pipeline.window.is_empty() {
            return None;
        }
        let room = pipeline.window.has_room();
        let Pipeline { session, input, .. } = &mut pipeline;
        let requests = async {
            match input {
                Some(input) => input.next().await,
                None => std::future::pending().await,
            }
        };
        let news = async {
            match session {
                Some(session) => session.news().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            news = news => match pipeline.heard(news) {
                Ok(Some(matched)) => return Some((Ok(Ok(matched)), Some(pipeline))),
                Ok(None) => {}
                Err(end) => return Some((end, None)),
            },
            request = requests, if room => match request {
                Some(request) => {
                    if let Err(error) = pipeline.send(request) {
                        return Some((Err(failed(&error)), None));
                    }
                }
                None => pipeline.input = None,
            },
        }
    }
}

impl<S> Pipeline<S> {
    fn send(&mut self, request: AppendEntriesRequest<TypeConfig>) -> Result<(), LineError> {
        let entries = request.entries.iter();
        let bytes = entries
            .map(|entry| stored::payload_bytes(&entry.payload))
            .sum();
        let last = request.entries.last().map(|entry| entry.log_id);
        self.window.sent(last.or(request.prev_log_id), bytes);
        let session = match self.session.take() {
            Some(session) => session,
            None => self.lines.log.open_log()?,
        };
        self.session.insert(session).append(request)
    }

    /// What is matched, where openraft may hear it; or how the session ends.
    fn heard(
        &mut self,
        news: LogNews,
    ) -> Result<Option<Option<LogId>>, Answer<StreamAppendResult<TypeConfig>>> {
        let appended = match news {
            LogNews::Appended(appended) => appended,
            LogNews::Ended(error) => return Err(Err(failed(&error))),
        };
        if !self.window.answered(appended.count) {
            let excess = Untranslatable::Missing("request");
            return Err(Err(strange(&excess)));
        }
        match translate::parse_appended(&appended) {
            Ok(Ok(matched)) => Ok(self.window.acknowledged(matched)),
            Ok(refused) => Err(Ok(refused)),
            Err(error) => Err(Err(strange(&error))),
        }
    }
}
