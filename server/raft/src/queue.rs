//! What waits to be proposed: a bounded queue that any thread may push into, and what is taken out of it at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keystead_proto::internal::{Origin, Record};
use keystead_seeded::{Bug, planted};
use keystead_state::Refusal;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::replies::Waiters;
use crate::sink::ReplySink;

/// One entry holds at most this many requests: apply of an entry is one step on the core thread.
const ENTRY_REQUESTS: usize = 512;
/// And at most about this many bytes, save that a single larger request gets an entry of its own.
pub(crate) const ENTRY_BYTES: usize = 1 << 20;
/// What may wait for an entry. At 50,000 requests a second this is a third of a second of work.
const WAITING_REQUESTS: usize = 16 << 10;
const WAITING_BYTES: usize = 32 << 20;

/// What waits to be proposed.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// Set from the taking of an entry until its bytes are on this member's disk, or until it was turned away.
    in_flight: AtomicBool,
    /// There is work, or room for the next entry.
    pub(crate) wake: Notify,
    pub(crate) deadline: Duration,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    requests: usize,
    bytes: usize,
    closed: bool,
}

pub(crate) struct Batch {
    since: Instant,
    sink: Arc<dyn ReplySink>,
    pub(crate) requests: VecDeque<(u64, Record)>,
    /// It may come into the log of the leader of this term, and of no other.
    term: Option<u64>,
    /// Where another member forwarded it.
    forwarded: Option<Forwarded>,
}

/// How another member knows the batch that it forwarded.
#[derive(Clone, Copy)]
pub(crate) struct Forwarded {
    pub(crate) sender: u64,
    pub(crate) number: u64,
}

/// What goes into one entry, or one message to the leader.
pub(crate) struct Gathered {
    /// How long the oldest of it has waited.
    pub(crate) since: Instant,
    pub(crate) records: Vec<Record>,
    pub(crate) origins: Vec<Origin>,
    pub(crate) waiters: Vec<Waiters>,
    /// The first records of those that are for this leader alone.
    pub(crate) bound: Vec<usize>,
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
        self.push_batch(Batch::new(sink.clone(), requests), room);
    }

    /// The same, for what only this member may propose, and only while it leads in `term`.
    pub(crate) fn push_bound(
        &self,
        sink: &Arc<dyn ReplySink>,
        requests: Vec<(u64, Record)>,
        term: u64,
        room: u64,
    ) {
        let batch = Batch {
            term: Some(term),
            ..Batch::new(sink.clone(), requests)
        };
        self.push_batch(batch, room);
    }

    /// Takes what another member forwards to the leader of `term`, or refuses it.
    pub(crate) fn push_forwarded(
        &self,
        sink: Arc<dyn ReplySink>,
        records: Vec<Record>,
        (term, forwarded): (u64, Forwarded),
        room: u64,
    ) {
        let requests = (0..).zip(records).collect();
        let batch = Batch {
            term: Some(term),
            forwarded: Some(forwarded),
            ..Batch::new(sink, requests)
        };
        self.push_batch(batch, room);
    }

    fn push_batch(&self, batch: Batch, room: u64) {
        let mut waiting = self.waiting.lock();
        if let Err(refusal) = waiting.admit(&batch, room) {
            drop(waiting);
            return batch.into_waiters().refuse(&refusal);
        }
        waiting.requests += batch.requests.len();
        waiting.bytes += batch.bytes();
        waiting.batches.push_back(batch);
        drop(waiting);
        if !self.in_flight.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// Puts back what was taken and went nowhere, before all that came later.
    pub(crate) fn put_back(&self, batches: Vec<Batch>) {
        let mut waiting = self.waiting.lock();
        for batch in batches.into_iter().rev() {
            waiting.requests += batch.requests.len();
            waiting.bytes += batch.bytes();
            waiting.batches.push_front(batch);
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Refuses what comes from now on; what waits already is still proposed.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.wake.notify_one();
    }

    /// Takes what fits into one entry, and holds the next back until this one's `Ticket` is gone.
    pub(crate) fn take(self: &Arc<Self>, term: u64) -> Option<(Gathered, Ticket)> {
        if self.in_flight.load(Ordering::SeqCst) {
            return None;
        }
        let meant = |bound: Option<u64>| bound.is_none_or(|bound| bound == term);
        let batches = self.take_batches(|it| meant(it) || planted(Bug::RevokeInAnyTerm))?;
        self.in_flight.store(true, Ordering::SeqCst);
        let mut gathered = Gathered::since(oldest(&batches));
        batches.into_iter().for_each(|batch| gathered.add(batch));
        Some((gathered, Ticket(Arc::new(InFlight(self.clone())))))
    }

    /// Takes what fits into one message to the leader. What was for this member as the leader is refused.
    pub(crate) fn take_forward(&self) -> Option<Vec<Batch>> {
        self.take_batches(|bound| bound.is_none())
    }

    /// Takes what fits into one entry and is `meant` to be there; what is not is refused.
    fn take_batches(&self, meant: impl Fn(Option<u64>) -> bool) -> Option<Vec<Batch>> {
        loop {
            let taken = {
                let mut waiting = self.waiting.lock();
                if waiting.requests == 0 {
                    return None;
                }
                waiting.next_entry()
            };
            let (taken, strays): (Vec<_>, Vec<_>) =
                taken.into_iter().partition(|batch| meant(batch.term));
            for stray in strays {
                stray.into_waiters().refuse(&Refusal::NoLeader);
            }
            if !taken.is_empty() {
                return Some(taken);
            }
        }
    }

    /// Whether the proposer has something to do.
    fn has_work(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.closed || waiting.requests > 0
    }

    /// Whether nothing comes any more and nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.closed && waiting.requests == 0
    }

    /// Takes what has waited for longer than its deadline, and tells since when.
    pub(crate) fn take_overdue(&self, now: Instant) -> Vec<(Instant, Waiters)> {
        self.waiting.lock().overdue(now, self.deadline)
    }
}

impl Waiting {
    fn admit(&self, batch: &Batch, room: u64) -> Result<(), Refusal> {
        if self.closed {
            return Err(Refusal::Stopped);
        }
        let fits = self.requests + batch.requests.len() <= WAITING_REQUESTS
            && self.bytes + batch.bytes() <= WAITING_BYTES
            && self.bytes as u64 <= room;
        if fits {
            Ok(())
        } else {
            Err(Refusal::TooManyRequests)
        }
    }

    fn next_entry(&mut self) -> Vec<Batch> {
        let mut taken: Vec<Batch> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        while let Some(batch) = self.batches.front_mut() {
            let whole = count + batch.requests.len() <= ENTRY_REQUESTS
                && bytes + batch.bytes() <= ENTRY_BYTES;
            // What another member forwarded has one number, and fits into an entry by itself.
            if !whole && batch.forwarded.is_some() && count > 0 {
                break;
            }
            if whole || batch.forwarded.is_some() {
                count += batch.requests.len();
                bytes += batch.bytes();
                taken.extend(self.batches.pop_front());
                continue;
            }
            let mut fit = 0;
            for (_, record) in &batch.requests {
                let full = count == ENTRY_REQUESTS || bytes + record.payload.len() > ENTRY_BYTES;
                if full && count > 0 {
                    break;
                }
                (fit, count) = (fit + 1, count + 1);
                bytes += record.payload.len();
            }
            if fit > 0 {
                taken.push(batch.cut(fit));
            }
            if batch.requests.is_empty() {
                self.batches.pop_front();
                continue;
            }
            break;
        }
        self.requests -= count;
        self.bytes -= bytes;
        taken
    }

    fn overdue(&mut self, now: Instant, deadline: Duration) -> Vec<(Instant, Waiters)> {
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
            self.bytes -= batch.bytes();
            overdue.push((batch.since, batch.into_waiters()));
        }
        overdue
    }
}

impl Batch {
    fn new(sink: Arc<dyn ReplySink>, requests: Vec<(u64, Record)>) -> Self {
        Self {
            since: Instant::now(),
            sink,
            requests: requests.into(),
            term: None,
            forwarded: None,
        }
    }

    /// What waits since `since`, for `waiters`.
    pub(crate) fn again(since: Instant, waiters: Waiters, records: Vec<Record>) -> Self {
        Self {
            since,
            sink: waiters.sink,
            requests: waiters.tokens.into_iter().zip(records).collect(),
            term: None,
            forwarded: None,
        }
    }

    fn bytes(&self) -> usize {
        let records = self.requests.iter();
        records.map(|(_, record)| record.payload.len()).sum()
    }

    /// Cuts the first `count` requests off.
    fn cut(&mut self, count: usize) -> Self {
        let rest = self.requests.split_off(count);
        Self {
            requests: std::mem::replace(&mut self.requests, rest),
            sink: self.sink.clone(),
            ..*self
        }
    }

    fn into_waiters(self) -> Waiters {
        Waiters {
            tokens: self.requests.iter().map(|(token, _)| *token).collect(),
            sink: self.sink,
        }
    }

    /// Who waits for it.
    pub(crate) fn waiters(&self) -> Waiters {
        Waiters {
            tokens: self.requests.iter().map(|(token, _)| *token).collect(),
            sink: self.sink.clone(),
        }
    }
}

/// Since when the oldest waits.
pub(crate) fn oldest(batches: &[Batch]) -> Instant {
    let times = batches.iter().map(|batch| batch.since);
    times.min().unwrap_or_else(Instant::now)
}

impl Gathered {
    fn since(since: Instant) -> Self {
        Self {
            since,
            records: Vec::new(),
            origins: Vec::new(),
            waiters: Vec::new(),
            bound: Vec::new(),
        }
    }

    fn add(&mut self, batch: Batch) {
        if batch.term.is_some() {
            self.bound.push(self.records.len());
        }
        if let Some(Forwarded { sender, number }) = batch.forwarded {
            self.origins.push(Origin {
                sender,
                number,
                first: self.records.len() as u32,
                count: batch.requests.len() as u32,
            });
        }
        let mut tokens = Vec::with_capacity(batch.requests.len());
        for (token, record) in batch.requests {
            tokens.push(token);
            self.records.push(record);
        }
        self.waiters.push(Waiters {
            sink: batch.sink,
            tokens,
        });
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
        // Whoever pushes after this look wakes the proposer.
        if self.0.has_work() {
            self.0.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replies::Replies;
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
        let (gathered, _) = queue.take(1)?;
        Some(
            gathered
                .records
                .iter()
                .map(|record| record.payload.len())
                .collect(),
        )
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
        let (_, ticket) = queue.take(1).unwrap();
        queue.push(&sink, vec![(1, record(2))], u64::MAX);
        let copy = ticket.clone();
        drop(ticket);
        assert_eq!(sizes(&queue), None);
        drop(copy);
        assert_eq!(sizes(&queue), Some(vec![2]));
    }

    #[test]
    fn what_the_leader_of_a_term_decided_is_proposed_in_that_term_or_refused() {
        for (term, refused) in [(3, false), (4, true)] {
            let queue = Queue::new(Duration::from_secs(1));
            let told = Arc::new(Told::default());
            let sink: Arc<dyn ReplySink> = told.clone();
            queue.push_bound(&sink, vec![(7, record(1))], 3, u64::MAX);
            assert_eq!(queue.take(term).is_none(), refused, "term {term}");
            let refusals = if refused {
                vec![(7, Err(Refusal::NoLeader))]
            } else {
                vec![]
            };
            assert_eq!(*told.0.lock(), refusals, "term {term}");
        }
    }

    #[test]
    fn what_waited_too_long_is_refused_and_what_was_dropped_is_told() {
        let queue = Queue::new(Duration::from_secs(1));
        let told = Arc::new(Told::default());
        let sink: Arc<dyn ReplySink> = told.clone();
        queue.push(&sink, vec![(7, record(1)), (8, record(1))], u64::MAX);
        assert!(queue.take_overdue(Instant::now()).is_empty());
        for (_, waiters) in queue.take_overdue(Instant::now() + Duration::from_secs(2)) {
            waiters.refuse(&Refusal::Timeout);
        }
        queue.push(&sink, vec![(9, record(1))], u64::MAX);
        let (gathered, _) = queue.take(1).unwrap();
        drop(Replies::to(gathered.waiters));
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
