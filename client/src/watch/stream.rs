//! An open stream of watches, as the task of `line.rs` has it: which watch has which id on it, what was asked on it and is not
//! answered yet, and when something came last.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, pending};
use std::pin::Pin;

use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{
    WatchCancelRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use tokio::time::Instant;

use crate::channel::{Receiver, Sender};
use crate::error::Result;
use crate::header::Header;

/// An open stream.
pub(super) struct Stream {
    requests: Sender<WatchRequest>,
    pub(super) answers: Receiver<WatchResponse>,
    /// Which watch has which id.
    pub(super) ids: HashMap<i64, u64>,
    pub(super) newest_id: i64,
    /// Ids whose creation was not answered yet, in order.
    pub(super) unanswered: VecDeque<i64>,
    pub(super) opened: Instant,
    /// When something came last.
    pub(super) heard: Instant,
    /// When a creation was answered last, or sent while none was on the way.
    pub(super) creating: Instant,
    /// When progress was asked for, while nothing has come since.
    pub(super) asked: Option<Instant>,
    /// The newest watch by the time that progress was asked for and not answered yet: the answer says nothing of later ones,
    /// which may have all of their history before them.
    pub(super) asked_for: Option<i64>,
    /// The store is being asked whether there was anything to tell.
    pub(super) check: Option<Check>,
}

/// A linearizable read, and when it was sent.
pub(super) struct Check {
    pub(super) sent: Instant,
    pub(super) read: Pin<Box<dyn Future<Output = Result<Header>> + Send>>,
}

impl Stream {
    pub(super) fn new(requests: Sender<WatchRequest>, answers: Receiver<WatchResponse>) -> Stream {
        let now = Instant::now();
        Stream {
            requests,
            answers,
            ids: HashMap::new(),
            newest_id: 0,
            unanswered: VecDeque::new(),
            opened: now,
            heard: now,
            creating: now,
            asked: None,
            asked_for: None,
            check: None,
        }
    }

    /// Sends one request; nobody waits for room.
    pub(super) fn send(&mut self, request: RequestUnion) {
        self.requests.send(&WatchRequest {
            request_union: Some(request),
        });
    }

    /// It has watches, and all of them have begun.
    pub(super) fn is_settled(&self) -> bool {
        !self.ids.is_empty() && self.unanswered.is_empty()
    }

    /// Asks for progress. The patience for an answer begins with the first question.
    pub(super) fn ask(&mut self) {
        self.asked.get_or_insert_with(Instant::now);
        self.asked_for.get_or_insert(self.newest_id);
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    pub(super) fn cancel(&mut self, watch_id: i64) {
        self.ids.remove(&watch_id);
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }
}

/// What the read that is under way says; never, where there is none.
pub(super) async fn checked(check: &mut Option<Check>) -> Result<Header> {
    match check {
        Some(check) => check.read.as_mut().await,
        None => pending().await,
    }
}
