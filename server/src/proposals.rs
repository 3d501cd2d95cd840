//! One shard's writes on their way through consensus.
//!
//! ```text
//! connections ─► outbox ──(one vector when all ready connections had their turn)──► Consensus
//! connections ◄─ slots ◄──(one wake for all that one entry answered)── ReplyBox ◄── core thread
//! ```
//!
//! Nothing is allocated or woken across threads for a single request. Used by services on the shard's own thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use keystead_proto::internal::Record;
use keystead_raft::ReplySink;
use keystead_state::{Outcome, Reply as Answer};
use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;

use crate::error::GrpcStatus;
use crate::header::Headers;
use crate::member::Member;
use crate::net::Reply;
use crate::net::grpc::framed;

/// How often the deadlines that clients set are looked at. A client keeps its own clock; this only frees what is ours.
const DEADLINES_INTERVAL: Duration = Duration::from_millis(250);

/// The writes of one shard.
pub struct Proposals {
    member: Arc<Member>,
    outbox: RefCell<Vec<(u64, Record)>>,
    /// The outbox is no longer empty.
    filled: Notify,
    slots: RefCell<Slab<Slot>>,
    replies: Arc<ReplyBox>,
}

/// Who waits for one record. Its token is its place in the slab, and stays taken until consensus has answered.
struct Slot {
    /// None once the client has been told that its deadline passed.
    reply: Option<Reply>,
    deadline: Option<Instant>,
}

/// Outcomes on their way from the core thread to the shard.
#[derive(Default)]
struct ReplyBox {
    outcomes: Mutex<Vec<(u64, Outcome)>>,
    delivered: Notify,
}

impl ReplySink for ReplyBox {
    fn deliver(&self, replies: Vec<(u64, Outcome)>) {
        let mut outcomes = self.outcomes.lock();
        if outcomes.is_empty() {
            *outcomes = replies;
        } else {
            outcomes.extend(replies);
        }
        drop(outcomes);
        self.delivered.notify_one();
    }
}

impl Proposals {
    /// Starts the shard's two tasks, which live as long as its runtime.
    pub fn start(member: Arc<Member>) -> Rc<Self> {
        let proposals = Rc::new(Self {
            member,
            outbox: RefCell::default(),
            filled: Notify::new(),
            slots: RefCell::default(),
            replies: Arc::default(),
        });
        tokio::task::spawn_local(proposals.clone().hand_over());
        tokio::task::spawn_local(proposals.clone().dispatch());
        proposals
    }

    /// Proposes `record`; its outcome answers `reply`.
    pub fn submit(&self, record: Record, reply: Reply, timeout: Option<Duration>) {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let token = self.slots.borrow_mut().insert(Slot {
            reply: Some(reply),
            deadline,
        });
        let mut outbox = self.outbox.borrow_mut();
        outbox.push((token as u64, record));
        if outbox.len() == 1 {
            self.filled.notify_one();
        }
    }

    /// Hands the outbox to consensus. Woken by the first record, it runs after the connections that were ready then.
    async fn hand_over(self: Rc<Self>) {
        let sink: Arc<dyn ReplySink> = self.replies.clone();
        loop {
            self.filled.notified().await;
            let batch = self.outbox.take();
            self.member.consensus.propose(&sink, batch);
        }
    }

    async fn dispatch(self: Rc<Self>) {
        let mut deadlines = tokio::time::interval(DEADLINES_INTERVAL);
        deadlines.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.replies.delivered.notified() => self.answer_all(),
                now = deadlines.tick() => self.give_up(now.into_std()),
            }
        }
    }

    fn answer_all(&self) {
        let outcomes = std::mem::take(&mut *self.replies.outcomes.lock());
        for (token, outcome) in outcomes {
            let slot = self.slots.borrow_mut().try_remove(token as usize);
            if let Some(reply) = slot.and_then(|slot| slot.reply) {
                answer(&self.member.headers, reply, outcome);
            }
        }
    }

    fn give_up(&self, now: Instant) {
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            if slot.deadline.is_some_and(|deadline| deadline <= now)
                && let Some(reply) = slot.reply.take()
            {
                reply.refuse(&GrpcStatus::deadline_exceeded());
            }
        }
    }
}

fn answer(headers: &Headers, reply: Reply, outcome: Outcome) {
    match outcome {
        Ok(answer) => reply.answer(encode(headers, answer)),
        Err(refusal) => reply.refuse(&refusal.into()),
    }
}

/// The framed message of what the state answered, its header completed.
fn encode(headers: &Headers, answer: Answer) -> Bytes {
    macro_rules! complete {
        ($message:ident) => {{
            headers.complete(&mut $message.header);
            framed(&$message)
        }};
    }
    match answer {
        Answer::Put(mut message) => complete!(message),
        Answer::DeleteRange(mut message) => complete!(message),
        Answer::Txn(mut message) => complete!(message),
        Answer::Compaction(mut message) => complete!(message),
        Answer::LeaseGrant(mut message) => complete!(message),
        Answer::LeaseRevoke(mut message) => complete!(message),
        Answer::Alarm(mut message) => complete!(message),
        Answer::Authenticate(mut message) => complete!(message),
        // No client's request has this answer.
        Answer::Done { revision } => framed(&headers.at(revision)),
    }
}
