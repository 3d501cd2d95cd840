//! The member's lessor: follows which leases exist, renews them while this member leads.
//!
//! Fed by the applier's changes, asked by the services, emptied by the reaper; the checkpointer has the log know what it
//! knows. Any thread may call; the one lock is held for a lookup.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keystead_proto::etcdserverpb::LeaseCheckpoint;
use keystead_seeded::{Bug, planted};
use keystead_state::{LeaseChange, LeaseFacts};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::clock::Clock;
use super::deadlines::{Deadlines, Renewed};

/// Deadlines of the leases that exist, as this member would enforce them if it led.
pub struct Lessor {
    clock: Arc<dyn Clock>,
    /// What a new leader adds to every TTL: the time in which nobody could be asked for a renewal.
    grace: Duration,
    /// The term in which this member leads; 0 while it does not.
    leading: AtomicU64,
    checkpoint_interval: Option<Duration>,
    deadlines: Mutex<Deadlines>,
    /// Tells the checkpointer that renewals wait for it.
    wanted_back: Notify,
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
    /// A lessor that knows no lease and does not lead. While it leads, a lease has a checkpoint so often, where it has
    /// longer to live than that.
    pub fn new(
        clock: Arc<dyn Clock>,
        grace: Duration,
        checkpoint_interval: Option<Duration>,
    ) -> Self {
        Lessor {
            clock,
            grace,
            leading: AtomicU64::new(0),
            checkpoint_interval,
            deadlines: Mutex::new(Deadlines::new(checkpoint_interval)),
            wanted_back: Notify::new(),
        }
    }

    /// Takes on the leases that existed before the first entry was followed. They begin their TTL now. `read` is called
    /// while no change of an entry is followed, so that none is missed between it and the first that is.
    pub fn adopt(&self, read: impl FnOnce() -> Vec<(i64, LeaseFacts)>) {
        let now = self.clock.now().saturating_add(self.grace);
        let mut deadlines = self.deadlines.lock();
        for (id, facts) in read() {
            if !deadlines.contains(id) {
                deadlines.insert(id, facts, now);
            }
        }
    }

    /// Takes these leases for all that there are: the state was replaced.
    pub fn replace(&self, leases: Vec<(i64, LeaseFacts)>) {
        let now = self.clock.now().saturating_add(self.grace);
        let mut fresh = Deadlines::new(self.checkpoint_interval);
        for (id, facts) in leases {
            fresh.insert(id, facts, now);
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
                LeaseChange::Granted { id, ttl_secs } => {
                    deadlines.insert(id, LeaseFacts::granted(ttl_secs), now);
                }
                LeaseChange::Checkpointed { id, left_secs } => {
                    deadlines.checkpointed(id, left_secs, now);
                }
                LeaseChange::Revoked { id } => deadlines.remove(id),
            }
        }
    }

    /// This member leads in a term from now on, or ceased to lead. A new leader knows nothing of earlier renewals, so every
    /// lease begins its TTL anew, but for what a checkpoint says that has not been taken back.
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
    /// until it is revoked. Where the lease had a checkpoint since it was renewed last, the answer waits until that is
    /// taken back: a renewal that was told counts for the next leader, too.
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
                    Renewed::Checkpointed(waiting) => {
                        self.wanted_back.notify_one();
                        waiting
                    }
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

    /// Waits until a renewal waits for a checkpoint to be taken back.
    pub(super) async fn is_wanted_back(&self) {
        self.wanted_back.notified().await;
    }

    /// The checkpoints that take back what renewals wait for, and the term in which they do: none while this member does not
    /// lead.
    pub(super) fn wanted_back(&self) -> (u64, Vec<LeaseCheckpoint>) {
        let deadlines = self.deadlines.lock();
        match self.leading.load(Ordering::Acquire) {
            0 => (0, Vec::new()),
            term => (term, deadlines.wanted_back()),
        }
    }

    /// Takes out up to `limit` checkpoints that are due, and the term by whose deadlines they are: none while this member
    /// does not lead.
    pub(super) fn take_due(&self, limit: usize) -> (u64, Vec<LeaseCheckpoint>) {
        let mut deadlines = self.deadlines.lock();
        match self.leading.load(Ordering::Acquire) {
            0 => (0, Vec::new()),
            term => (term, deadlines.take_due(self.clock.now(), limit)),
        }
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

fn secs(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
