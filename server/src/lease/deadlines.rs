//! The deadline of every lease, and which of them have passed.
//!
//! A plain value: it is told the time. A renewal only writes the new deadline; the queue keeps an older,
//! earlier one, and finds the new one when its turn comes. So renewing costs one lookup, whatever the
//! number of leases.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use tokio::sync::oneshot;

/// Deadlines by lease.
///
/// Invariant: every lease that is not ending has exactly one entry of its number in the queue, at or
/// before its deadline. Entries of other numbers are of leases that are gone.
#[derive(Default)]
pub(super) struct Deadlines {
    leases: HashMap<i64, Lease>,
    queue: BinaryHeap<Reverse<Entry>>,
    last_number: u64,
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
    /// Renewals that came after the deadline; they are answered when it is gone.
    waiting: Vec<oneshot::Sender<()>>,
}

/// What a renewal found.
#[derive(Debug)]
pub(super) enum Renewed {
    /// It lives for its whole TTL again.
    Alive(Duration),
    /// Its deadline has passed; the receiver ends when the lease has, or when that was given up.
    Expired(oneshot::Receiver<()>),
    /// There is no such lease.
    Unknown,
}

impl Deadlines {
    /// A lease was granted: it lives from `now`.
    pub(super) fn insert(&mut self, id: i64, ttl: Duration, now: Duration) {
        self.last_number += 1;
        let number = self.last_number;
        let deadline = now.saturating_add(ttl);
        self.leases.insert(
            id,
            Lease {
                number,
                ttl,
                deadline,
                ending: false,
                waiting: Vec::new(),
            },
        );
        self.queue.push(Reverse((deadline, number, id)));
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
        lease.deadline = now.saturating_add(lease.ttl);
        Renewed::Alive(lease.ttl)
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

    /// Gives every lease its whole TTL, counted from `now`, and `grace` on top.
    pub(super) fn restart(&mut self, now: Duration, grace: Duration) {
        self.queue.clear();
        for (id, lease) in &mut self.leases {
            lease.deadline = now.saturating_add(lease.ttl).saturating_add(grace);
            lease.ending = false;
            lease.tell_all();
            self.queue
                .push(Reverse((lease.deadline, lease.number, *id)));
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
