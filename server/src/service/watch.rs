//! Watch: moves a client's requests into its hub stream, and the stream's messages out to the client.
//! What is sent, and when, is the hub's business.

use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use keystead_mvcc::Store;
use keystead_proto::etcdserverpb::watch_create_request::FilterType;
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use keystead_state::Refusal;
use prost::Message;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::decode_in_stream;
use super::streams::Streams;
use crate::error::{Code, GrpcStatus};
use crate::header::Headers;
use crate::member::Member;
use crate::net::Call;
use crate::net::grpc::{Incoming, Metadata, Outgoing};
use crate::watch::{self, Create, Hub, Stream};

/// Messages of this size or more make the stream let others run before its next.
const YIELD_BYTES: usize = 64 << 10;

/// The service of one shard.
#[derive(Clone)]
pub(super) struct Watch {
    member: Arc<Member>,
    hub: Rc<Hub<Store>>,
    streams: Rc<Streams>,
}

impl Watch {
    pub(super) fn new(member: Arc<Member>, hub: Rc<Hub<Store>>, streams: Rc<Streams>) -> Self {
        Self {
            member,
            hub,
            streams,
        }
    }

    pub(super) fn watch(&self, call: Call) {
        // A client that has gone already needs no answer.
        if let Ok((metadata, incoming, outgoing)) = call.stream() {
            tokio::task::spawn_local(self.clone().serve(metadata, incoming, outgoing));
        }
    }

    async fn serve(self, metadata: Metadata, incoming: Incoming, outgoing: Outgoing) {
        let mut session = Session {
            member: self.member.clone(),
            metadata: metadata.clone(),
            stream: self.hub.open(),
            incoming,
            outgoing,
            half_closed: false,
            writable: true,
            progress: progress_ticks(self.member.config.watch_progress_interval),
        };
        let status = tokio::select! {
            status = session.run() => status,
            status = self.streams.ended(&metadata) => status,
        };
        session.outgoing.finish(status);
    }
}

/// One client's call.
struct Session {
    member: Arc<Member>,
    /// Has the token, which is looked at for each watcher.
    metadata: Metadata,
    stream: Stream<Store>,
    incoming: Incoming,
    outgoing: Outgoing,
    /// The client has sent its last request; its watchers live on.
    half_closed: bool,
    /// What was sent before fits the client's window.
    writable: bool,
    progress: Interval,
}

/// What a session does next.
enum Step {
    Request(Bytes),
    HalfClosed,
    Send(Bytes),
    Tick,
    End(GrpcStatus),
}

impl Session {
    async fn run(&mut self) -> GrpcStatus {
        loop {
            match poll_fn(|cx| self.poll_step(cx)).await {
                Step::Request(message) => {
                    if let Err(status) = self.take_request(&message).await {
                        return status;
                    }
                }
                Step::HalfClosed => self.half_closed = true,
                Step::Send(messages) => {
                    let large = messages.len() >= YIELD_BYTES;
                    self.outgoing.try_send_framed(messages);
                    self.writable = false;
                    if large {
                        tokio::task::yield_now().await;
                    }
                }
                Step::Tick => self.stream.tick(),
                Step::End(status) => return status,
            }
        }
    }

    /// Requests come first, but only while their answers have room: a client that does not read is not
    /// read either.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.half_closed {
            if self.outgoing.poll_closed(cx).is_ready() {
                return Poll::Ready(Step::End(canceled()));
            }
        } else if self.stream.is_roomy()
            && let Poll::Ready(message) = self.incoming.poll_message(cx)
        {
            return Poll::Ready(match message {
                Ok(Some(message)) => Step::Request(message),
                Ok(None) => Step::HalfClosed,
                Err(status) if status.code == Code::Cancelled => Step::End(canceled()),
                Err(status) => Step::End(status),
            });
        }
        if !self.writable {
            match self.outgoing.poll_ready(cx) {
                Poll::Ready(Ok(())) => self.writable = true,
                Poll::Ready(Err(_)) => return Poll::Ready(Step::End(canceled())),
                Poll::Pending => {}
            }
        }
        if self.writable
            && let Poll::Ready(messages) = self.stream.poll_take(cx)
        {
            return Poll::Ready(Step::Send(messages));
        }
        self.progress.poll_tick(cx).map(|_| Step::Tick)
    }

    /// Whether the client may watch what it asks for. A watch from before all history is refused for that first.
    async fn permit(&self, request: &WatchCreateRequest) -> Result<(), Refusal> {
        if request.start_revision < 0 {
            return Ok(());
        }
        self.member.once_current().await?;
        let caller = self.member.caller(&self.metadata).await?;
        let key: &[u8] = match &request.key[..] {
            b"" => b"\0",
            key => key,
        };
        caller.permit(&self.member.reader, |auth, caller| {
            auth.permit_read(caller, key, &request.range_end)
        })
    }

    async fn take_request(&self, message: &Bytes) -> Result<(), GrpcStatus> {
        match decode_in_stream::<WatchRequest>(message)?.request_union {
            Some(RequestUnion::CreateRequest(request)) => match self.permit(&request).await {
                Ok(()) => self.stream.create(&create(&request)).await,
                Err(refusal) => {
                    let reason = reason(&refusal).ok_or(refusal)?;
                    self.stream.refuse(reason).await;
                }
            },
            Some(RequestUnion::CancelRequest(request)) => {
                self.stream.cancel(request.watch_id).await
            }
            Some(RequestUnion::ProgressRequest(_)) => self.stream.progress().await,
            None => {}
        }
        Ok(())
    }
}

/// Why a watcher may not be: the whole text of the status that another call would have got. None where that is not known: the
/// client is to ask again.
fn reason(refusal: &Refusal) -> Option<&'static str> {
    Some(match refusal {
        Refusal::InvalidAuthToken => {
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
        }
        Refusal::OldAuthRevision => {
            "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old"
        }
        Refusal::UserNameEmpty => {
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"
        }
        Refusal::PermissionDenied => {
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
        }
        _ => return None,
    })
}

fn create(request: &WatchCreateRequest) -> Create<'_> {
    let filters = |filter: FilterType| request.filters.contains(&filter.into());
    Create {
        key: &request.key,
        range_end: &request.range_end,
        start_revision: request.start_revision,
        watch_id: request.watch_id,
        progress_notify: request.progress_notify,
        no_put: filters(FilterType::Noput),
        no_delete: filters(FilterType::Nodelete),
        prev_kv: request.prev_kv,
        fragment: request.fragment,
    }
}

fn canceled() -> GrpcStatus {
    GrpcStatus::new(Code::Cancelled, "etcdserver: watch canceled")
}

/// Ticks at the interval and up to a tenth of it more, so that streams opened together do not all tell
/// progress together.
fn progress_ticks(interval: Duration) -> Interval {
    let share = RandomState::new().hash_one(()) % 1024;
    let period = interval + interval.mul_f64(share as f64 / 10_240.0);
    let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

impl watch::Headers for Arc<Headers> {
    fn encode(&self, revision: i64, out: &mut Vec<u8>) {
        self.at(revision)
            .encode(out)
            .expect("a vector takes all that is written");
    }
}
