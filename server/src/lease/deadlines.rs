//! The deadline of every lease, which of them have passed, and which leases are to have a checkpoint.
//!
//! A plain value: it is told the time. A renewal only writes the new deadline; the queue keeps an older,
//! earlier one, and finds the new one when its turn comes. So renewing costs one lookup, whatever the
//! number of leases.
//!
//! A checkpoint has a new leader give a lease what was left of it, and not all of its time. So a renewal is worth
//! nothing until an earlier checkpoint was taken back, and waits for that.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::time::Duration;

use keystead_proto::etcdserverpb::LeaseCheckpoint;
use keystead_seeded::{Bug, planted};
use keystead_state::LeaseFacts;
use tokio::sync::oneshot;

/// Deadlines by lease.
///
/// Invariant: every lease that is not ending has exactly one entry of its number in the queue, at or
/// before its deadline. Entries of other numbers are of leases that are gone. Only leases that exist are in `due`, each
/// once and at the time that it has itself, and in `wanted_back`.
pub(super) struct Deadlines {
    leases: HashMap<i64, Lease>,
    queue: BinaryHeap<Reverse<Entry>>,
    last_number: u64,
    /// How long after one checkpoint of a lease the next one is due, while it has longer to live than that; none where
    /// there are to be no checkpoints.
    checkpoint_interval: Option<Duration>,
    /// Leases that are to have a checkpoint, and when.
    due: BTreeSet<(Duration, i64)>,
    /// Leases whose checkpoint is to be taken back: a renewal waits for it.
    wanted_back: BTreeSet<i64>,
}

/// When to look at a lease: the time, the lease's number and its id.
type Entry = (Duration, u64, i64);

/// Entries of leases that are gone are swept out when they outnumber the others by this many: a lease
/// of years that was revoked must not keep its entry for years.
const STALE_ENTRIES: usize = 1024;

struct Lease {
    /// Tells an id that was granted again from the lease that had it before.
    number: u64,
    ttl: Duration,
    deadline: Duration,
    /// A revocation was taken out to be proposed and has not come back.
    ending: bool,
    /// What it had left at its last checkpoint, which was not taken back.
    left: Option<Duration>,
    /// A checkpoint was proposed, and what became of it is not known.
    checkpoint_under_way: bool,
    /// Where it stands in `due`.
    due: Option<Duration>,
    /// Renewals that came after the deadline, or have a checkpoint in their way; they are answered when either is gone.
    waiting: Vec<oneshot::Sender<()>>,
}

/// What a renewal found.
#[derive(Debug)]
pub(super) enum Renewed {
    /// It lives for its whole TTL again.
    Alive(Duration),
    /// Its deadline has passed; the receiver ends when the lease has, or when that was given up.
    Expired(oneshot::Receiver<()>),
    /// A checkpoint is in the way; the receiver ends when it was taken back, or when that was given up.
    Checkpointed(oneshot::Receiver<()>),
    /// There is no such lease.
    Unknown,
}

impl Deadlines {
    /// No leases, each of which will have a checkpoint so often.
    pub(super) fn new(checkpoint_interval: Option<Duration>) -> Self {
        Self {
            leases: HashMap::new(),
            queue: BinaryHeap::new(),
            last_number: 0,
            checkpoint_interval,
            due: BTreeSet::new(),
            wanted_back: BTreeSet::new(),
        }
    }

    /// A lease exists, granted at `now` or earlier, and has all of its time from then on.
    pub(super) fn insert(&mut self, id: i64, facts: LeaseFacts, now: Duration) {
        self.remove(id);
        self.last_number += 1;
        let number = self.last_number;
        let ttl = length(facts.ttl_secs);
        let deadline = now.saturating_add(ttl);
        self.leases.insert(
            id,
            Lease {
                number,
                ttl,
                deadline,
                ending: false,
                left: facts.left_secs.map(length),
                checkpoint_under_way: false,
                due: None,
                waiting: Vec::new(),
            },
        );
        self.queue.push(Reverse((deadline, number, id)));
        self.schedule(id, ttl, now);
        if self.queue.len() > 2 * self.leases.len() + STALE_ENTRIES {
            let leases = &self.leases;
            self.queue.retain(|Reverse((_, number, id))| {
                leases.get(id).is_some_and(|lease| lease.number == *number)
            });
        }
    }

    pub(super) fn contains(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// A lease is gone: who waited for that is told.
    pub(super) fn remove(&mut self, id: i64) {
        if let Some(mut lease) = self.leases.remove(&id) {
            lease.tell_all();
            if let Some(at) = lease.due {
                self.due.remove(&(at, id));
            }
            self.wanted_back.remove(&id);
        }
    }

    /// A lease that was taken out is gone. One that was granted under its id since is another.
    pub(super) fn remove_ending(&mut self, id: i64) {
        if self.leases.get(&id).is_some_and(|lease| lease.ending) {
            self.remove(id);
        }
    }

    /// Gives a lease its whole TTL again, unless its time is up.
    pub(super) fn renew(&mut self, id: i64, now: Duration) -> Renewed {
        let Some(lease) = self.leases.get_mut(&id) else {
            return Renewed::Unknown;
        };
        if lease.ending || lease.deadline <= now {
            let (gone, wait) = oneshot::channel();
            lease.waiting.push(gone);
            return Renewed::Expired(wait);
        }
        if (lease.left.is_some() || lease.checkpoint_under_way) && !planted(Bug::LeaveCheckpoint) {
            let (taken_back, wait) = oneshot::channel();
            lease.waiting.push(taken_back);
            self.wanted_back.insert(id);
            return Renewed::Checkpointed(wait);
        }
        lease.deadline = now.saturating_add(lease.ttl);
        Renewed::Alive(lease.ttl)
    }

    /// Takes out up to `limit` checkpoints that are due. Until it is known what became of them they are in the way of
    /// renewals.
    pub(super) fn take_due(&mut self, now: Duration, limit: usize) -> Vec<LeaseCheckpoint> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(&(at, id)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            let Some(lease) = self.leases.get_mut(&id) else {
                continue;
            };
            lease.due = None;
            let left = lease.deadline.saturating_sub(now);
            if left.is_zero() {
                continue;
            }
            let remaining_ttl = secs_rounded_up(left);
            // A new leader would give it as much without.
            if remaining_ttl < secs_rounded_up(lease.ttl) {
                lease.checkpoint_under_way = true;
                taken.push(LeaseCheckpoint { id, remaining_ttl });
            }
            self.schedule(id, left, now);
        }
        taken
    }

    /// The checkpoints that take back what renewals wait for. They are wanted until they are applied.
    pub(super) fn wanted_back(&self) -> Vec<LeaseCheckpoint> {
        let ids = self.wanted_back.iter();
        ids.map(|&id| LeaseCheckpoint {
            id,
            remaining_ttl: 0,
        })
        .collect()
    }

    /// A lease had a checkpoint, or none any more.
    pub(super) fn checkpointed(&mut self, id: i64, left_secs: Option<i64>, now: Duration) {
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        lease.left = left_secs.map(length);
        lease.checkpoint_under_way = false;
        if lease.left.is_none() {
            let ttl = lease.ttl;
            lease.tell_all();
            self.wanted_back.remove(&id);
            self.schedule(id, ttl, now);
        }
    }

    /// A lease that has `left` to live has its next checkpoint after the interval, unless it has one before or will
    /// have ended.
    fn schedule(&mut self, id: i64, left: Duration, now: Duration) {
        if let Some(interval) = self.checkpoint_interval
            && left > interval
            && let Some(lease) = self.leases.get_mut(&id)
            && lease.due.is_none()
        {
            let at = now.saturating_add(interval);
            lease.due = Some(at);
            self.due.insert((at, id));
        }
    }

    /// What is left of a lease, and its TTL.
    pub(super) fn remaining(&self, id: i64, now: Duration) -> Option<(Duration, Duration)> {
        let lease = self.leases.get(&id)?;
        Some((lease.deadline.saturating_sub(now), lease.ttl))
    }

    /// Takes out up to `limit` leases whose time is up. They are ending from now on.
    pub(super) fn take_expired(&mut self, now: Duration, limit: usize) -> Vec<i64> {
        let mut expired = Vec::new();
        while expired.len() < limit
            && let Some(Reverse((at, number, id))) = self.queue.peek().copied()
            && at <= now
        {
            self.queue.pop();
            let Some(lease) = self
                .leases
                .get_mut(&id)
                .filter(|lease| lease.number == number)
            else {
                continue;
            };
            if lease.deadline <= now {
                lease.ending = true;
                expired.push(id);
            } else {
                self.queue.push(Reverse((lease.deadline, number, id)));
            }
        }
        expired
    }

    /// The revocation of a lease that was taken out came to nothing: it is due again at `retry`. Who
    /// waits for its end goes on waiting; a renewal can't save it.
    pub(super) fn put_back(&mut self, id: i64, retry: Duration) {
        if let Some(lease) = self.leases.get_mut(&id)
            && lease.ending
        {
            lease.ending = false;
            self.queue.push(Reverse((retry, lease.number, id)));
        }
    }

    /// Gives every lease its whole TTL, or what it had left at its last checkpoint, counted from `now`, and `grace` on
    /// top.
    pub(super) fn restart(&mut self, now: Duration, grace: Duration) {
        self.queue.clear();
        self.due.clear();
        self.wanted_back.clear();
        let mut lives = Vec::with_capacity(self.leases.len());
        for (id, lease) in &mut self.leases {
            let left = lease.left.unwrap_or(lease.ttl);
            lease.deadline = now.saturating_add(left).saturating_add(grace);
            lease.ending = false;
            lease.checkpoint_under_way = false;
            lease.due = None;
            lease.tell_all();
            self.queue
                .push(Reverse((lease.deadline, lease.number, *id)));
            lives.push((*id, left));
        }
        for (id, left) in lives {
            self.schedule(id, left, now);
        }
    }

    /// Tells all who wait for an end that this member won't bring it.
    pub(super) fn release_waiting(&mut self) {
        self.leases.values_mut().for_each(Lease::tell_all);
    }

    /// All leases, the one that expires first before the others.
    pub(super) fn by_expiry(&self) -> Vec<i64> {
        let mut leases: Vec<(Duration, i64)> = self
            .leases
            .iter()
            .map(|(id, lease)| (lease.deadline, *id))
            .collect();
        leases.sort_unstable();
        leases.into_iter().map(|(_, id)| id).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }
}

impl Lease {
    fn tell_all(&mut self) {
        for waiting in self.waiting.drain(..) {
            // Who went away needs no answer.
            waiting.send(()).ok();
        }
    }
}

fn length(secs: i64) -> Duration {
    Duration::from_secs(secs.max(0).unsigned_abs())
}

fn secs_rounded_up(length: Duration) -> i64 {
    let secs = length.as_secs() + u64::from(length.subsec_nanos() > 0);
    i64::try_from(secs).unwrap_or(i64::MAX)
}
