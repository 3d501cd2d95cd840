//! Gathers what is proposed into log entries: one entry carries what came in while the last one was on its way to disk.
//!
//! `Consensus::propose` puts requests into the bounded `Queue` from any thread; one task on the core thread takes them
//! out. When nothing is in flight it proposes at once, so a lone request waits for nobody. Where another member leads,
//! what gathered goes to it; where nobody does, it waits for one. Nothing is sent twice, save what surely came into
//! no log: what becomes of an entry after openraft has it is told by its `Replies`, as unknown if need be.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use keystead_proto::peer::{self, Reason, answer, ask};
use keystead_seeded::{Bug, planted};
use keystead_state::{Outcome, Refusal};
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::forwards::Forwards;
use crate::leadership::{Leader, Leading};
use crate::peers::{LineError, Peers};
use crate::queue::{Batch, Gathered, Queue, Ticket, oldest};
use crate::replies::Replies;
use crate::sink::ReplySink;
use crate::stored;
use crate::type_config::{Callback, Proposal, Raft, TypeConfig};

/// Messages to a leader that were not answered. Two: one is written there while the next gathers here.
const FORWARDS: usize = 2;
/// How long a leader is left alone that could not be reached, or does not know yet that it has a majority.
const REST: Duration = Duration::from_millis(20);
/// How exactly deadlines are kept.
const DEADLINE_STEP: Duration = Duration::from_millis(250);

/// The task that turns what waits into entries.
pub(crate) struct Proposer {
    queue: Arc<Queue>,
    raft: Raft,
    peers: Peers,
    forwards: Arc<Forwards>,
    leading: watch::Receiver<Leading>,
    /// Entries that openraft has and messages that were sent, oldest first.
    proposed: VecDeque<(Instant, Weak<Replies>)>,
    returned: mpsc::UnboundedReceiver<Returned>,
    returns: mpsc::UnboundedSender<Returned>,
    /// Messages that did not return.
    away: usize,
    leader: Leader,
    /// When the leader was elected, as this member heard it.
    elected: Option<Instant>,
    /// When a message to a leader was lost with its connection last, or none could be made.
    disconnected: Option<Instant>,
    /// Nothing is passed on before.
    rest_until: Option<Instant>,
}

/// What is heard of something that was passed on. There is no more of it than was passed on.
enum Returned {
    /// A message to the leader was answered, or will not be.
    Message {
        number: u64,
        batches: Vec<Batch>,
        answer: Result<answer::What, LineError>,
    },
    /// openraft turned an entry away before it was appended.
    Entry {
        since: Instant,
        replies: Arc<Replies>,
        stored: Bytes,
        bound: Vec<usize>,
    },
}

impl Proposer {
    pub(crate) fn new(
        queue: Arc<Queue>,
        raft: Raft,
        peers: Peers,
        forwards: Arc<Forwards>,
        leading: watch::Receiver<Leading>,
    ) -> Self {
        let (returns, returned) = mpsc::unbounded_channel();
        Self {
            queue,
            raft,
            peers,
            forwards,
            leading,
            proposed: VecDeque::new(),
            returned,
            returns,
            away: 0,
            leader: Leader::Nobody,
            elected: None,
            disconnected: None,
            rest_until: None,
        }
    }

    /// Runs until the queue is closed and everything in it was answered.
    pub(crate) async fn run(mut self) {
        let mut deadlines = tokio::time::interval(DEADLINE_STEP);
        deadlines.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let queue = self.queue.clone();
        let mut leading_gone = false;
        while !self.is_done() {
            let rest_until = self.rest_until;
            let rested = async {
                match rest_until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = queue.wake.notified() => {}
                changed = self.leading.changed(), if !leading_gone => {
                    leading_gone = changed.is_err();
                    self.take_leading();
                }
                Some(returned) = self.returned.recv() => self.take_returned(returned),
                () = rested => self.rest_until = None,
                _ = deadlines.tick() => self.expire(Instant::now()),
            }
            self.pass_on().await;
        }
    }

    fn take_leading(&mut self) {
        let now = *self.leading.borrow();
        self.forwards.term_applied(now.applied_term);
        if std::mem::replace(&mut self.leader, now.leader) != now.leader
            && now.leader != Leader::Nobody
        {
            self.elected = Some(Instant::now());
        }
    }

    /// Hands on what waits to whoever leads.
    async fn pass_on(&mut self) {
        let leader = self.leading.borrow().leader;
        match leader {
            Leader::Me { term } => {
                while self.rest_until.is_none()
                    && let Some((gathered, ticket)) = self.queue.take(term)
                {
                    self.propose(term, gathered, ticket).await;
                }
            }
            Leader::Other { id, term } => {
                while self.away < FORWARDS
                    && self.rest_until.is_none()
                    && let Some(batches) = self.queue.take_forward()
                {
                    self.forward(id, term, batches);
                }
            }
            Leader::Nobody => {}
        }
    }

    fn forward(&mut self, leader: u64, term: u64, batches: Vec<Batch>) {
        let replies = Replies::to(batches.iter().map(Batch::waiters).collect());
        self.proposed
            .push_back((oldest(&batches), Arc::downgrade(&replies)));
        let (number, over) = self.forwards.begin(term, replies);
        let records = batches.iter().flat_map(|batch| &batch.requests);
        let what = ask::What::Forward(peer::Forward {
            term,
            origin: self.forwards.sender(),
            number,
            records: records.map(|(_, record)| record.clone()).collect(),
        });
        let (lines, returns) = (self.peers.lines(leader), self.returns.clone());
        self.away += 1;
        tokio::spawn(async move {
            let answer = tokio::select! {
                biased;
                answer = lines.calls.call(what) => answer,
                // The leader need not say so: it was seen in the log.
                _ = over => Ok(answer::What::Taken(peer::Nothing {})),
            };
            // The member is stopping.
            drop(returns.send(Returned::Message {
                number,
                batches,
                answer,
            }));
        });
    }

    fn take_returned(&mut self, returned: Returned) {
        match returned {
            Returned::Message {
                number,
                batches,
                answer,
            } => self.take_message(number, batches, answer),
            Returned::Entry {
                since,
                replies,
                stored,
                bound,
            } => self.take_entry(since, &replies, stored, &bound),
        }
    }

    /// The entry is in no log. What any leader may take waits for one again; the rest goes back to where it came from.
    fn take_entry(&mut self, since: Instant, replies: &Replies, stored: Bytes, bound: &[usize]) {
        let Ok(entry) = stored::entry(stored) else {
            return replies.refuse(&Refusal::NoLeader);
        };
        let mut records = entry.records.into_iter();
        let (mut place, mut batches) = (0, Vec::new());
        for waiters in replies.take() {
            let count = waiters.tokens.len();
            let records = records.by_ref().take(count).collect();
            if bound.contains(&place) {
                waiters.refuse(&Refusal::NoLeader);
            } else {
                batches.push(Batch::again(since, waiters, records));
            }
            place += count;
        }
        self.queue.put_back(batches);
        self.rest_until = Some(Instant::now() + REST);
    }

    fn take_message(
        &mut self,
        number: u64,
        batches: Vec<Batch>,
        answer: Result<answer::What, LineError>,
    ) {
        self.away -= 1;
        if answer.is_err() {
            self.disconnected = Some(Instant::now());
        }
        let nowhere = match answer {
            Err(LineError::Lost(_)) if planted(Bug::ForwardLost) => None,
            // What became of it is seen in the log, if not by the leader's successor.
            Ok(answer::What::Taken(_)) | Err(LineError::Lost(_)) => return,
            Ok(answer::What::Refused(refused)) => match refused.reason() {
                Reason::NotLeader => None,
                Reason::TooMany => Some(Refusal::TooManyRequests),
                _ => return,
            },
            Ok(_) => return,
            Err(LineError::NotSent(_)) => None,
        };
        let Some(replies) = self.forwards.take_back(number) else {
            return;
        };
        if let Some(refusal) = nowhere {
            replies.refuse(&refusal);
        } else if !replies.are_delivered() {
            replies.take();
            self.queue.put_back(batches);
            self.rest_until = Some(Instant::now() + REST);
        }
    }

    fn is_done(&mut self) -> bool {
        self.forget_answered();
        self.queue.is_done() && self.away == 0 && self.proposed.is_empty()
    }

    async fn propose(&mut self, term: u64, gathered: Gathered, ticket: Ticket) {
        self.forget_answered();
        let Gathered {
            since,
            records,
            origins,
            waiters,
            bound,
        } = gathered;
        let replies = Replies::to(waiters);
        self.proposed.push_back((since, Arc::downgrade(&replies)));
        let stored = stored::command(records, origins);
        let proposal = Proposal {
            stored: stored.clone(),
            ticket: Some(ticket),
        };
        let returns = self.returns.clone();
        let callback = Callback::new(move |result: ClientWriteResult<TypeConfig>| match result {
            Ok(applied) => replies.deliver(applied.data),
            Err(ClientWriteError::ForwardToLeader(_)) => {
                // When there is no proposer any more, who waits hears of the end from the replies' own.
                drop(returns.send(Returned::Entry {
                    since,
                    replies,
                    stored,
                    bound,
                }));
            }
            // It may yet be committed by the next leader.
            Err(_) => replies.refuse(&Refusal::LeaderChanged),
        });
        let write = self.raft.write(proposal).with_leader(term);
        // An error means that the core has ended; it drops the callback, which tells those who wait.
        if let Err(ended) = write.responder(callback).await {
            tracing::debug!(%ended, "a proposal found no core");
        }
    }

    fn forget_answered(&mut self) {
        let answered = |replies: &Weak<Replies>| {
            replies
                .upgrade()
                .is_none_or(|replies| replies.are_delivered())
        };
        while self
            .proposed
            .front()
            .is_some_and(|(_, replies)| answered(replies))
        {
            self.proposed.pop_front();
        }
    }

    fn expire(&mut self, now: Instant) {
        self.forget_answered();
        self.forwards.forget_answered();
        let refusal = |since: Instant| match (self.elected, self.disconnected) {
            (Some(elected), _) if elected > since => Refusal::LeaderLost,
            (_, Some(disconnected)) if disconnected > since => Refusal::ConnectionLost,
            _ => Refusal::Timeout,
        };
        for (since, waiters) in self.queue.take_overdue(now) {
            waiters.refuse(&refusal(since));
        }
        for (since, replies) in &self.proposed {
            if now.duration_since(*since) <= self.queue.deadline {
                break;
            }
            if let Some(replies) = replies.upgrade() {
                replies.refuse(&refusal(*since));
            }
        }
    }
}

/// Where a batch that another member forwarded is answered: not with outcomes, which that member has from its own log, but
/// with whether it came into the log at all.
pub(crate) struct ForwardSink(Mutex<Option<oneshot::Sender<ForwardAnswer>>>);

/// What the leader says of a batch that was forwarded to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForwardAnswer {
    /// The log knows what became of it, if anybody does.
    Taken,
    /// It is in no log, since this member does not lead in that term.
    NotLeader,
    /// It is in no log, since too much waits here.
    TooMany,
}

impl ForwardSink {
    pub(crate) fn new() -> (Arc<Self>, oneshot::Receiver<ForwardAnswer>) {
        let (answer, answered) = oneshot::channel();
        (Arc::new(Self(Mutex::new(Some(answer)))), answered)
    }
}

impl ReplySink for ForwardSink {
    fn deliver(&self, replies: Vec<(u64, Outcome)>) {
        let Some(answer) = self.0.lock().take() else {
            return;
        };
        let said = match replies.first() {
            Some((_, Err(Refusal::NoLeader))) => ForwardAnswer::NotLeader,
            Some((_, Err(Refusal::TooManyRequests))) => ForwardAnswer::TooMany,
            _ => ForwardAnswer::Taken,
        };
        // The connection is gone.
        answer.send(said).ok();
    }
}
