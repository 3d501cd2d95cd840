//! An open stream of watches, as the task of `line.rs` has it: which watch has which id on it, what was asked on it and is not
//! answered yet, and when something came last.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, pending};
use std::pin::Pin;

use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
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
    /// Watches that left because their watcher is slow, by their ids: their cancellation was not answered yet.
    pub(super) leaving: HashMap<i64, u64>,
    pub(super) opened: Instant,
    /// When something came last.
    pub(super) heard: Instant,
    /// When a creation or a leave was answered last, or sent while none was on the way.
    pub(super) owing: Instant,
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
            leaving: HashMap::new(),
            opened: now,
            heard: now,
            owing: now,
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

    /// The server has yet to answer a creation, or a watch that left.
    pub(super) fn is_owed(&self) -> bool {
        !self.unanswered.is_empty() || !self.leaving.is_empty()
    }

    /// Creates a watch, which has the newest id.
    pub(super) fn create(&mut self, number: u64, request: WatchCreateRequest) {
        self.begin_owing();
        self.ids.insert(request.watch_id, number);
        self.unanswered.push_back(request.watch_id);
        self.send(RequestUnion::CreateRequest(request));
    }

    /// Cancels a watch that will come back, once the server has answered that.
    pub(super) fn leave(&mut self, watch_id: i64, number: u64) {
        self.begin_owing();
        self.leaving.insert(watch_id, number);
        self.cancel(watch_id);
    }

    /// The patience for an answer begins when there is none to wait for yet.
    fn begin_owing(&mut self) {
        if !self.is_owed() {
            self.owing = Instant::now();
        }
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
