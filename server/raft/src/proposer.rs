//! Gathers what is proposed into log entries: one entry carries what came in while the last one was on its way to disk.
//!
//! `Consensus::propose` puts requests into the bounded `Queue` from any thread; one task on the core thread takes them
//! out. When nothing is in flight it proposes at once, so a lone request waits for nobody. It never sends anything
//! twice: what becomes of an entry after openraft has it is told by its `Replies`, as unknown if need be.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use keystead_proto::internal::Record;
use keystead_state::Refusal;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::replies::{Replies, Waiters};
use crate::sink::ReplySink;
use crate::stored;
use crate::type_config::{Callback, Proposal, Raft, TypeConfig};

/// One entry holds at most this many requests: apply of an entry is one step on the core thread.
const ENTRY_REQUESTS: usize = 512;
/// And at most about this many bytes, save that a single larger request gets an entry of its own.
pub(crate) const ENTRY_BYTES: usize = 1 << 20;
/// What may wait for an entry. At 50,000 requests a second this is a third of a second of work.
const WAITING_REQUESTS: usize = 16 << 10;
const WAITING_BYTES: usize = 32 << 20;
/// How exactly deadlines are kept.
const DEADLINE_STEP: Duration = Duration::from_millis(250);

/// What waits to be proposed.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// Set from the taking of an entry until its bytes are on this member's disk, or until it was turned away.
    in_flight: AtomicBool,
    /// There is work, or room for the next entry.
    wake: Notify,
    deadline: Duration,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    requests: usize,
    bytes: usize,
    closed: bool,
}

struct Batch {
    since: Instant,
    sink: Arc<dyn ReplySink>,
    requests: VecDeque<(u64, Record)>,
}

impl Queue {
    pub(crate) fn new(deadline: Duration) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            in_flight: AtomicBool::new(false),
            wake: Notify::new(),
            deadline,
        })
    }

    /// Takes all of `requests`, or refuses all of them with a call to `sink`: when too much waits already, and when that is
    /// more than `room` bytes.
    pub(crate) fn push(&self, sink: &Arc<dyn ReplySink>, requests: Vec<(u64, Record)>, room: u64) {
        let bytes: usize = requests
            .iter()
            .map(|(_, record)| record.payload.len())
            .sum();
        if let Err((requests, refusal)) = self.try_push(sink, requests, bytes, room) {
            let tokens = requests.into_iter().map(|(token, _)| token).collect();
            Waiters {
                sink: sink.clone(),
                tokens,
            }
            .refuse(&refusal);
        } else if !self.in_flight.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    fn try_push(
        &self,
        sink: &Arc<dyn ReplySink>,
        requests: Vec<(u64, Record)>,
        bytes: usize,
        room: u64,
    ) -> Result<(), (Vec<(u64, Record)>, Refusal)> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err((requests, Refusal::Stopped));
        }
        if waiting.requests + requests.len() > WAITING_REQUESTS
            || waiting.bytes + bytes > WAITING_BYTES
            || waiting.bytes as u64 > room
        {
            return Err((requests, Refusal::TooManyRequests));
        }
        waiting.requests += requests.len();
        waiting.bytes += bytes;
        waiting.batches.push_back(Batch {
            since: Instant::now(),
            sink: sink.clone(),
            requests: requests.into(),
        });
        Ok(())
    }

    /// Refuses what comes from now on; what waits already is still proposed.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.wake.notify_one();
    }

    /// Takes what fits into one entry, and holds the next back until this one's `Ticket` is gone.
    fn take(self: &Arc<Self>) -> Option<(Vec<Record>, Arc<Replies>, Ticket)> {
        let mut waiting = self.waiting.lock();
        if waiting.requests == 0 || self.in_flight.load(Ordering::SeqCst) {
            return None;
        }
        let (records, waiters) = waiting.next_entry();
        self.in_flight.store(true, Ordering::SeqCst);
        Some((
            records,
            Replies::to(waiters),
            Ticket(Arc::new(InFlight(self.clone()))),
        ))
    }

    /// Takes what has waited for longer than its deadline.
    fn take_overdue(&self, now: Instant) -> Vec<Waiters> {
        self.waiting.lock().overdue(now, self.deadline)
    }
}

impl Waiting {
    fn next_entry(&mut self) -> (Vec<Record>, Vec<Waiters>) {
        let mut records = Vec::with_capacity(self.requests.min(ENTRY_REQUESTS));
        let mut waiters = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = self.batches.front_mut() {
            let mut tokens = Vec::with_capacity(batch.requests.len());
            while let Some((_, record)) = batch.requests.front() {
                let size = record.payload.len();
                let full = records.len() == ENTRY_REQUESTS || bytes + size > ENTRY_BYTES;
                if full && !records.is_empty() {
                    break;
                }
                let (token, record) = batch.requests.pop_front().expect("the front was just seen");
                bytes += size;
                tokens.push(token);
                records.push(record);
            }
            if !tokens.is_empty() {
                waiters.push(Waiters {
                    sink: batch.sink.clone(),
                    tokens,
                });
            }
            if !batch.requests.is_empty() {
                break;
            }
            self.batches.pop_front();
        }
        self.requests -= records.len();
        self.bytes -= bytes;
        (records, waiters)
    }

    fn overdue(&mut self, now: Instant, deadline: Duration) -> Vec<Waiters> {
        let mut overdue = Vec::new();
        while self
            .batches
            .front()
            .is_some_and(|batch| now.duration_since(batch.since) > deadline)
        {
            let Some(batch) = self.batches.pop_front() else {
                break;
            };
            self.requests -= batch.requests.len();
            self.bytes -= batch
                .requests
                .iter()
                .map(|(_, record)| record.payload.len())
                .sum::<usize>();
            let tokens = batch.requests.into_iter().map(|(token, _)| token).collect();
            overdue.push(Waiters {
                sink: batch.sink,
                tokens,
            });
        }
        overdue
    }
}

/// Travels with an entry to the log. When the last copy is dropped, the entry is on disk or was turned away, and the
/// next may be proposed.
#[derive(Clone)]
pub(crate) struct Ticket(#[expect(dead_code, reason = "held for its drop")] Arc<InFlight>);

struct InFlight(Arc<Queue>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.store(false, Ordering::SeqCst);
        self.0.wake.notify_one();
    }
}

/// The task that turns what waits into entries.
pub(crate) struct Proposer {
    queue: Arc<Queue>,
    raft: Raft,
    /// Entries that openraft has, oldest first.
    proposed: VecDeque<(Instant, Weak<Replies>)>,
}

impl Proposer {
    pub(crate) fn new(queue: Arc<Queue>, raft: Raft) -> Self {
        Self {
            queue,
            raft,
            proposed: VecDeque::new(),
        }
    }

    /// Runs until the queue is closed and everything in it was answered.
    pub(crate) async fn run(mut self) {
        let mut deadlines = tokio::time::interval(DEADLINE_STEP);
        deadlines.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let queue = self.queue.clone();
        while !self.is_done() {
            tokio::select! {
                () = queue.wake.notified() => {}
                _ = deadlines.tick() => self.expire(Instant::now()),
            }
            while let Some((records, replies, ticket)) = queue.take() {
                self.propose(records, replies, ticket).await;
            }
        }
    }

    fn is_done(&mut self) -> bool {
        self.forget_answered();
        let waiting = self.queue.waiting.lock();
        waiting.closed && waiting.requests == 0 && self.proposed.is_empty()
    }

    async fn propose(&mut self, records: Vec<Record>, replies: Arc<Replies>, ticket: Ticket) {
        self.forget_answered();
        self.proposed
            .push_back((Instant::now(), Arc::downgrade(&replies)));
        let proposal = Proposal {
            stored: stored::command(records),
            ticket: Some(ticket),
        };
        let callback = Callback::new(move |result| complete(&replies, result));
        // An error means that the core has ended; it drops the callback, which tells those who wait.
        if let Err(ended) = self.raft.client_write_ff(proposal, Some(callback)).await {
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
        for waiters in self.queue.take_overdue(now) {
            waiters.refuse(&Refusal::Timeout);
        }
        for (since, replies) in &self.proposed {
            if now.duration_since(*since) <= self.queue.deadline {
                break;
            }
            if let Some(replies) = replies.upgrade() {
                replies.refuse(&Refusal::Timeout);
            }
        }
    }
}

fn complete(replies: &Replies, result: ClientWriteResult<TypeConfig>) {
    match result {
        Ok(applied) => replies.deliver(applied.data),
        // Turned away before it was appended.
        Err(ClientWriteError::ForwardToLeader(_)) => replies.refuse(&Refusal::NoLeader),
        // It may yet be committed by the next leader.
        Err(_) => replies.refuse(&Refusal::LeaderChanged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keystead_state::Outcome;

    #[derive(Default)]
    struct Told(Mutex<Vec<(u64, Outcome)>>);

    impl ReplySink for Told {
        fn deliver(&self, replies: Vec<(u64, Outcome)>) {
            self.0.lock().extend(replies);
        }
    }

    fn record(size: usize) -> Record {
        Record {
            payload: vec![0; size].into(),
            ..Default::default()
        }
    }

    fn sizes(queue: &Arc<Queue>) -> Option<Vec<usize>> {
        let (records, _, _) = queue.take()?;
        Some(records.iter().map(|record| record.payload.len()).collect())
    }

    #[test]
    fn an_entry_is_bounded_by_requests_and_by_bytes_and_one_large_request_goes_alone() {
        let queue = Queue::new(Duration::from_secs(1));
        let sink: Arc<dyn ReplySink> = Arc::new(Told::default());
        let large = ENTRY_BYTES + 1;
        let push = |requests| queue.push(&sink, requests, u64::MAX);
        push((0..600).map(|token| (token, record(1))).collect());
        push(vec![
            (600, record(large)),
            (601, record(large)),
            (602, record(2)),
        ]);
        push(vec![(603, record(ENTRY_BYTES - 2)), (604, record(1))]);
        let expected = [
            vec![1; 512],
            vec![1; 88],
            vec![large],
            vec![large],
            vec![2, ENTRY_BYTES - 2],
            vec![1],
        ];
        for entry in expected {
            assert_eq!(sizes(&queue), Some(entry));
        }
        assert_eq!(sizes(&queue), None);
        let waiting = queue.waiting.lock();
        assert_eq!(
            (waiting.requests, waiting.bytes, waiting.batches.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn the_next_entry_waits_until_the_last_ticket_is_gone() {
        let queue = Queue::new(Duration::from_secs(1));
        let sink: Arc<dyn ReplySink> = Arc::new(Told::default());
        queue.push(&sink, vec![(0, record(1))], u64::MAX);
        let (_, _, ticket) = queue.take().unwrap();
        queue.push(&sink, vec![(1, record(2))], u64::MAX);
        let copy = ticket.clone();
        drop(ticket);
        assert_eq!(sizes(&queue), None);
        drop(copy);
        assert_eq!(sizes(&queue), Some(vec![2]));
    }

    #[test]
    fn what_waited_too_long_is_refused_and_what_was_dropped_is_told() {
        let queue = Queue::new(Duration::from_secs(1));
        let told = Arc::new(Told::default());
        let sink: Arc<dyn ReplySink> = told.clone();
        queue.push(&sink, vec![(7, record(1)), (8, record(1))], u64::MAX);
        assert!(queue.take_overdue(Instant::now()).is_empty());
        for waiters in queue.take_overdue(Instant::now() + Duration::from_secs(2)) {
            waiters.refuse(&Refusal::Timeout);
        }
        queue.push(&sink, vec![(9, record(1))], u64::MAX);
        drop(queue.take());
        queue.close();
        queue.push(&sink, vec![(10, record(1))], u64::MAX);
        let expected = [
            (7, Err(Refusal::Timeout)),
            (8, Err(Refusal::Timeout)),
            (9, Err(Refusal::Stopped)),
            (10, Err(Refusal::Stopped)),
        ];
        assert_eq!(*told.0.lock(), expected);
    }

    #[test]
    fn nothing_is_taken_while_more_waits_than_there_is_room_for() {
        let queue = Queue::new(Duration::from_secs(1));
        let told = Arc::new(Told::default());
        let sink: Arc<dyn ReplySink> = told.clone();
        queue.push(&sink, vec![(1, record(9))], 0);
        queue.push(&sink, vec![(2, record(1))], 8);
        queue.push(&sink, vec![(3, record(1))], 9);
        assert_eq!(*told.0.lock(), [(2, Err(Refusal::TooManyRequests))]);
        assert_eq!(sizes(&queue), Some(vec![9, 1]));
    }
}
