//! A watch stream in a script: what is sent is written down, and so is what comes, either message by message or as
//! the plain sequence of events where the grouping into messages is chance.

use std::time::Duration;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use keystead_proto::etcdserverpb::watch_client::WatchClient;
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use keystead_proto::mvccpb::Event;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::session::{Session, within};
use crate::unary::{header, with_token};

/// A stream that may carry several watchers.
pub struct WatchStream {
    requests: UnboundedSender<WatchRequest>,
    answers: Answers,
}

/// etcd sends the call's headers with its first message, so the stream is there only when something was asked.
enum Answers {
    Opening(JoinHandle<Result<Streaming<WatchResponse>, Status>>),
    Open(Box<Streaming<WatchResponse>>),
    Refused(Status),
}

impl Answers {
    async fn message(&mut self) -> Result<Option<WatchResponse>, Status> {
        if let Answers::Opening(task) = self {
            *self = match task.await.expect("opening a stream does not panic") {
                Ok(stream) => Answers::Open(Box::new(stream)),
                Err(status) => Answers::Refused(status),
            };
        }
        match self {
            Answers::Open(stream) => stream.message().await,
            Answers::Refused(status) => Err(status.clone()),
            Answers::Opening(_) => unreachable!("it was opened above"),
        }
    }
}

impl WatchStream {
    /// Opens a stream without watchers.
    pub fn open(channel: Channel) -> WatchStream {
        WatchStream::open_as(channel, None)
    }

    /// The same with a token.
    pub fn open_as(channel: Channel, token: Option<&str>) -> WatchStream {
        let (requests, outgoing) = unbounded();
        let outgoing = with_token(outgoing, token);
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let opening = tokio::spawn(async move {
            client
                .watch(outgoing)
                .await
                .map(tonic::Response::into_inner)
        });
        WatchStream {
            requests,
            answers: Answers::Opening(opening),
        }
    }

    /// Asks for a watcher.
    pub fn create(&mut self, session: &mut Session, request: WatchCreateRequest) {
        session.note(format!("watch {request:?}"));
        self.send(RequestUnion::CreateRequest(request));
    }

    /// Cancels a watcher.
    pub fn cancel(&mut self, session: &mut Session, watch_id: i64) {
        session.note(format!("cancel watch {watch_id}"));
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }

    /// Asks for the revision up to which everything was delivered.
    pub fn progress(&mut self, session: &mut Session) {
        session.note("ask for progress");
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    fn send(&mut self, request: RequestUnion) {
        // A stream that the server ended is seen by the next read.
        let _ = self.requests.unbounded_send(WatchRequest {
            request_union: Some(request),
        });
    }

    /// Writes down the next message whole.
    pub async fn next(&mut self, session: &mut Session) -> Option<WatchResponse> {
        match within("a watch message", self.answers.message()).await {
            Ok(Some(mut message)) => {
                header(&mut message.header);
                session.note(format!("    watch => {message:?}"));
                Some(message)
            }
            Ok(None) => {
                session.note("    watch => the stream ended");
                None
            }
            Err(status) => {
                session.refusal("    watch", &status);
                None
            }
        }
    }

    /// Collects messages until `count` events have come, and writes down the events alone; checks that no revision
    /// is split over two messages.
    pub async fn events(&mut self, session: &mut Session, count: usize) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        while events.len() < count {
            let message = match within("watch events", self.answers.message()).await {
                Ok(Some(message)) => message,
                other => {
                    session.note(format!(
                        "    watch => ended early: {:?}",
                        other.map_err(|status| status.code())
                    ));
                    break;
                }
            };
            if let (Some(last), Some(first)) = (events.last(), message.events.first()) {
                assert!(
                    revision(last) < revision(first),
                    "one revision came in two messages"
                );
            }
            if message.events.is_empty() {
                session.note(format!(
                    "    watch => created {} canceled {}",
                    message.created, message.canceled
                ));
            }
            events.extend(message.events);
        }
        for event in &events {
            session.note(format!("    event {event:?}"));
        }
        events
    }

    /// Collects messages until the event of `revision` has come (none when nothing was ever written).
    pub async fn events_until(&mut self, session: &mut Session, revision: i64) -> Vec<Event> {
        let mut all = Vec::new();
        while all
            .last()
            .is_some_and(|event| self::revision(event) < revision)
            || (all.is_empty() && revision > 1)
        {
            let before = all.len();
            all.extend(self.events(session, 1).await);
            if all.len() == before {
                break;
            }
        }
        all
    }

    /// Writes down whether anything came in `time`.
    pub async fn silence(&mut self, session: &mut Session, time: Duration) {
        match tokio::time::timeout(time, self.answers.message()).await {
            Err(_) => session.note("    watch => silence"),
            Ok(answer) => session.note(format!("    watch => not silent: {answer:?}")),
        }
    }

    /// Messages straight from the wire, for tests that judge them themselves.
    pub async fn message(&mut self) -> Result<Option<WatchResponse>, Status> {
        within("a watch message", self.answers.message()).await
    }
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
