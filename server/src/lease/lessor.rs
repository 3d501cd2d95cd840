//! The member's lessor: follows which leases exist, renews them while this member leads.
//!
//! Fed by the applier's changes, asked by the services, emptied by the reaper. Any thread may call; the
//! one lock is held for a lookup.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keystead_seeded::{Bug, planted};
use keystead_state::LeaseChange;
use parking_lot::Mutex;

use super::clock::Clock;
use super::deadlines::{Deadlines, Renewed};

/// Deadlines of the leases that exist, as this member would enforce them if it led.
pub struct Lessor {
    clock: Arc<dyn Clock>,
    /// What a new leader adds to every TTL: the time in which nobody could be asked for a renewal.
    grace: Duration,
    /// The term in which this member leads; 0 while it does not.
    leading: AtomicU64,
    deadlines: Mutex<Deadlines>,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lives for its whole TTL again.
    Alive {
        /// That TTL.
        ttl_secs: i64,
    },
    /// There is no such lease, or no longer.
    Gone,
    /// Only the leader renews, and this member is not it.
    NotLeading,
}

/// How long a lease lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Whole seconds that are left.
    pub remaining_secs: i64,
    /// The TTL that was granted.
    pub granted_secs: i64,
}

impl Lessor {
    /// A lessor that knows no lease and does not lead.
    pub fn new(clock: Arc<dyn Clock>, grace: Duration) -> Self {
        Lessor {
            clock,
            grace,
            leading: AtomicU64::new(0),
            deadlines: Mutex::default(),
        }
    }

    /// Takes on the leases that existed before the first entry was followed, each an id and its TTL in
    /// seconds. They begin their TTL now.
    pub fn adopt(&self, leases: impl IntoIterator<Item = (i64, i64)>) {
        let now = self.clock.now().saturating_add(self.grace);
        let mut deadlines = self.deadlines.lock();
        for (id, ttl_secs) in leases {
            if !deadlines.contains(id) {
                deadlines.insert(id, ttl(ttl_secs), now);
            }
        }
    }

    /// Takes these leases for all that there are: the state was replaced.
    pub fn replace(&self, leases: Vec<(i64, i64)>) {
        let now = self.clock.now().saturating_add(self.grace);
        let mut fresh = Deadlines::default();
        for (id, ttl_secs) in leases {
            fresh.insert(id, ttl(ttl_secs), now);
        }
        let mut deadlines = self.deadlines.lock();
        deadlines.release_waiting();
        *deadlines = fresh;
    }

    /// Follows an applied entry. Called before its proposers are told, so that a lease which a client knows
    /// to be granted or revoked is so here.
    pub fn applied(&self, changes: &[LeaseChange]) {
        if changes.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut deadlines = self.deadlines.lock();
        for change in changes {
            match *change {
                LeaseChange::Granted { id, ttl_secs } => deadlines.insert(id, ttl(ttl_secs), now),
                LeaseChange::Revoked { id } => deadlines.remove(id),
            }
        }
    }

    /// This member leads in a term from now on, or ceased to lead. A new leader knows nothing of earlier renewals, so every
    /// lease begins its TTL anew.
    pub fn leader_changed(&self, term: Option<u64>) {
        let mut deadlines = self.deadlines.lock();
        self.leading.store(term.unwrap_or(0), Ordering::Release);
        if term.is_some() && !planted(Bug::KeepOldDeadlines) {
            deadlines.restart(self.clock.now(), self.grace);
        } else {
            deadlines.release_waiting();
        }
    }

    /// Whether this member renews and revokes.
    pub fn is_leading(&self) -> bool {
        self.leading.load(Ordering::Acquire) != 0
    }

    /// Gives a lease its whole TTL again. A lease whose deadline has passed is not saved: the answer waits
    /// until it is revoked.
    pub async fn renew(&self, id: i64) -> Renewal {
        loop {
            let waiting = {
                let mut deadlines = self.deadlines.lock();
                if !self.is_leading() {
                    return Renewal::NotLeading;
                }
                match deadlines.renew(id, self.clock.now()) {
                    Renewed::Alive(ttl) => {
                        return Renewal::Alive {
                            ttl_secs: secs(ttl),
                        };
                    }
                    Renewed::Unknown => return Renewal::Gone,
                    Renewed::Expired(waiting) => waiting,
                }
            };
            // Either end of the wait means: look again.
            waiting.await.ok();
        }
    }

    /// How long a lease has left; none when there is no such lease.
    pub fn remaining(&self, id: i64) -> Option<Remaining> {
        let (remaining, granted) = self.deadlines.lock().remaining(id, self.clock.now())?;
        Some(Remaining {
            remaining_secs: secs(remaining),
            granted_secs: secs(granted),
        })
    }

    /// The leases, the next to expire first.
    pub fn by_expiry(&self) -> Vec<i64> {
        self.deadlines.lock().by_expiry()
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.deadlines.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes out up to `limit` leases to be revoked, and the term by whose deadlines they are over: no later leader may
    /// be made to revoke them. None while this member does not lead.
    pub(super) fn take_expired(&self, limit: usize) -> (u64, Vec<i64>) {
        let mut deadlines = self.deadlines.lock();
        let term = self.leading.load(Ordering::Acquire);
        if term == 0 && !planted(Bug::RevokeAsFollower) {
            return (term, Vec::new());
        }
        (term, deadlines.take_expired(self.clock.now(), limit))
    }

    /// A lease that was taken out is gone, whether the applier told so or never knew it.
    pub(super) fn forget(&self, id: i64) {
        self.deadlines.lock().remove_ending(id);
    }

    /// The revocation of a lease came to nothing: it is tried again.
    pub(super) fn put_back(&self, id: i64) {
        self.deadlines.lock().put_back(id, self.clock.now());
    }
}

fn ttl(secs: i64) -> Duration {
    Duration::from_secs(secs.max(0).unsigned_abs())
}

fn secs(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
