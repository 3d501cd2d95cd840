//! How long a lease is surely ours: what the renewals told, judged by the clock at the moment of the question. No I/O, no task; the
//! renewing task writes here, guards and sessions read.
//!
//! ```text
//!   sent         sent + ttl/2         sent + ttl - margin   sent + ttl
//!    ├── Active ──────┼────── Suspect ─────┼─── Lost ───────────┼──►  the server may end the lease
//! ```
//!
//! A renewal counts from when it was sent: the server renewed at some later moment, so it ends the lease later than we do.

use std::fmt;
use std::time::Duration;

use keystead_seeded::{Bug, planted};
use tokio::sync::watch;

use super::clock::Moment;
use crate::header::Header;
use crate::locks::Mutex;
use crate::telemetry::{SessionChange, Sink};

/// What a session is worth at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// Its lease was renewed of late.
    Active,
    /// A renewal is overdue. The lease is ours still, and may yet be renewed.
    Suspect,
    /// It is over, for ever.
    Lost(Loss),
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Loss {
    /// No renewal was answered in time.
    Expired,
    /// It was closed, or somebody revoked the lease or removed the key that stood for it.
    Revoked,
    /// The server does not know the lease: it is another cluster now, or was wiped, or restored from before.
    Forgotten,
    /// Renewals were refused for want of a right or a valid token until the time was up.
    AuthFailed,
    /// This process did not run while the time passed: it was stopped, starved, or its machine slept.
    Paused,
}

impl SessionState {
    /// Why it is over, if it is.
    pub fn loss(self) -> Option<Loss> {
        match self {
            SessionState::Lost(loss) => Some(loss),
            SessionState::Active | SessionState::Suspect => None,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Loss::Expired => "no renewal was answered in time",
            Loss::Revoked => "it was revoked",
            Loss::Forgotten => "the server no longer knows it",
            Loss::AuthFailed => "renewals were refused",
            Loss::Paused => "this process was paused for too long",
        })
    }
}

/// So much later than it planned may the renewing task look without counting as paused.
const PAUSE: Duration = Duration::from_millis(500);

/// One lease, kept by this process.
pub(crate) struct Tenure {
    lease: i64,
    facts: Mutex<Facts>,
    told: watch::Sender<SessionState>,
    sink: Sink,
}

struct Facts {
    /// When the newest renewal that was answered was sent.
    sent: Moment,
    ttl: Duration,
    /// When the renewing task is to look next.
    due: Moment,
    /// Which cluster granted it, and the highest term and revision that were seen in it.
    cluster_id: u64,
    raft_term: u64,
    revision: i64,
    /// The newest answer to a renewal was a refusal.
    refused: bool,
}

impl Facts {
    fn deadline(&self) -> Moment {
        self.sent.after(self.ttl - margin(self.ttl))
    }

    fn suspect_from(&self) -> Moment {
        self.sent.after(self.ttl / 2)
    }

    fn judge(&self, now: Moment) -> SessionState {
        if now < self.suspect_from() {
            SessionState::Active
        } else if now < self.deadline() {
            SessionState::Suspect
        } else if self.refused {
            SessionState::Lost(Loss::AuthFailed)
        } else if self.due.until(now) > PAUSE {
            SessionState::Lost(Loss::Paused)
        } else {
            SessionState::Lost(Loss::Expired)
        }
    }
}

/// What is kept back of a TTL: for clocks that do not run alike, and for the way from a check to what was checked for.
fn margin(ttl: Duration) -> Duration {
    (ttl / 10).min(Duration::from_secs(1))
}

impl Tenure {
    /// A lease whose grant was asked for at `sent`.
    pub(crate) fn new(
        lease: i64,
        ttl: Duration,
        sent: Moment,
        header: Header,
        sink: Sink,
    ) -> Tenure {
        let tenure = Tenure {
            lease,
            facts: Mutex::new(Facts {
                sent,
                ttl,
                due: sent.after(ttl),
                cluster_id: header.cluster_id,
                raft_term: header.raft_term,
                revision: header.revision,
                refused: false,
            }),
            told: watch::Sender::new(SessionState::Active),
            sink,
        };
        tenure.report(SessionState::Active);
        tenure
    }

    pub(crate) fn lease(&self) -> i64 {
        self.lease
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.facts.lock().ttl
    }

    /// What it is worth at this very moment.
    pub(crate) fn state(&self) -> SessionState {
        self.state_at(Moment::now())
    }

    /// What it is worth at `now`. A loss that was told once stays.
    pub(crate) fn state_at(&self, now: Moment) -> SessionState {
        self.settle(&self.facts.lock(), now)
    }

    /// How long it is surely ours from `now` on without another renewal.
    pub(crate) fn remaining_at(&self, now: Moment) -> Duration {
        let facts = self.facts.lock();
        match self.settle(&facts, now) {
            SessionState::Lost(_) => Duration::ZERO,
            SessionState::Active | SessionState::Suspect => now.until(facts.deadline()),
        }
    }

    /// Every state that follows, for who waits.
    pub(crate) fn watch(&self) -> watch::Receiver<SessionState> {
        self.told.subscribe()
    }

    /// Waits until it is lost.
    pub(crate) async fn lost(&self) -> Loss {
        let mut states = self.watch();
        loop {
            if let Some(loss) = states.borrow_and_update().loss() {
                return loss;
            }
            // The sender lives in `self`.
            let _ = states.changed().await;
        }
    }

    /// A renewal that was sent at `sent` gave it `ttl`. Too late when the loss was told.
    pub(crate) fn renewed(&self, sent: Moment, ttl: Duration, header: Header, now: Moment) {
        let mut facts = self.facts.lock();
        let sent = if planted(Bug::DeadlineFromReceipt) {
            now
        } else {
            sent
        };
        if sent >= facts.sent {
            facts.sent = sent;
            facts.ttl = ttl;
        }
        facts.refused = false;
        facts.raft_term = facts.raft_term.max(header.raft_term);
        facts.revision = facts.revision.max(header.revision);
        self.settle(&facts, now);
    }

    /// A key was attached to it at `revision`.
    pub(crate) fn used(&self, revision: i64) {
        let mut facts = self.facts.lock();
        facts.revision = facts.revision.max(revision);
    }

    /// The highest revision that was seen in its cluster.
    pub(crate) fn revision(&self) -> i64 {
        self.facts.lock().revision
    }

    /// The server says that there is no such lease. It was asked when `revision` was known.
    pub(crate) fn unknown(&self, header: Header, revision: i64, now: Moment) {
        let facts = self.facts.lock();
        if self.settle(&facts, now).loss().is_some() {
            return;
        }
        // A server that was wiped may be of the same cluster and term as before, but it is behind. So is a member that lags: who goes
        // over to one just when the lease is revoked is told the wrong reason.
        let elsewhere = header.cluster_id != facts.cluster_id
            || header.raft_term < facts.raft_term
            || header.revision < revision;
        let loss = if elsewhere {
            Loss::Forgotten
        } else {
            Loss::Revoked
        };
        self.tell(SessionState::Lost(loss));
    }

    /// A renewal was refused for want of a right.
    pub(crate) fn refused(&self) {
        self.facts.lock().refused = true;
    }

    /// It is given back.
    pub(crate) fn revoked(&self) {
        let _facts = self.facts.lock();
        self.tell(SessionState::Lost(Loss::Revoked));
    }

    /// The next moment after `now` at which its state may change by itself.
    pub(crate) fn next_change(&self, now: Moment) -> Moment {
        let facts = self.facts.lock();
        let suspect = facts.suspect_from();
        if now < suspect {
            suspect
        } else {
            facts.deadline()
        }
    }

    /// The renewing task looks next at `due`.
    pub(crate) fn due(&self, due: Moment) {
        self.facts.lock().due = due;
    }

    /// Judges and tells.
    fn settle(&self, facts: &Facts, now: Moment) -> SessionState {
        self.tell(facts.judge(now))
    }

    /// Tells a new state, unless the loss was told. The caller holds the facts, so states are told in order.
    fn tell(&self, state: SessionState) -> SessionState {
        let changed = self.told.send_if_modified(|told| {
            let changes = told.loss().is_none() && *told != state;
            if changes {
                *told = state;
            }
            changes
        });
        if changed {
            self.report(state);
        }
        *self.told.borrow()
    }

    fn report(&self, state: SessionState) {
        if let Some(sink) = &self.sink {
            sink.get().session(&SessionChange {
                lease: self.lease,
                state,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SessionState::{Active, Lost, Suspect};

    const CLUSTER: Header = Header {
        cluster_id: 1,
        member_id: 2,
        revision: 3,
        raft_term: 4,
    };

    fn at(millis: u64) -> Moment {
        Moment::default().after(Duration::from_millis(millis))
    }

    /// A lease of ten seconds, asked for at 0, whose task looks when it should.
    fn lease() -> Tenure {
        let tenure = Tenure::new(7, Duration::from_secs(10), at(0), CLUSTER, None);
        tenure.due(at(9_000));
        tenure
    }

    fn renew(tenure: &Tenure, sent: u64, answered: u64) {
        tenure.renewed(at(sent), Duration::from_secs(10), CLUSTER, at(answered));
    }

    #[test]
    fn it_is_active_then_suspect_then_lost_before_the_server_could_end_it() {
        let tenure = lease();
        for (millis, state) in [
            (0, Active),
            (4_999, Active),
            (5_000, Suspect),
            (8_999, Suspect),
            (9_000, Lost(Loss::Expired)),
        ] {
            assert_eq!(tenure.state_at(at(millis)), state, "at {millis} ms");
        }
        assert_eq!(tenure.remaining_at(at(9_000)), Duration::ZERO);
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_sent() {
        let tenure = lease();
        renew(&tenure, 3_000, 7_000);
        assert_eq!(tenure.state_at(at(7_999)), Active);
        assert_eq!(tenure.remaining_at(at(8_000)), Duration::from_secs(4));
        assert_eq!(tenure.state_at(at(8_000)), Suspect);
        tenure.due(at(12_000));
        assert_eq!(tenure.state_at(at(12_000)), Lost(Loss::Expired));
    }

    #[test]
    fn answers_out_of_order_never_shorten_it() {
        let tenure = lease();
        renew(&tenure, 6_000, 6_100);
        renew(&tenure, 3_000, 6_200);
        assert_eq!(tenure.remaining_at(at(6_200)), Duration::from_millis(8_800));
    }

    #[test]
    fn an_answer_after_the_loss_was_told_changes_nothing() {
        let tenure = lease();
        assert_eq!(tenure.state_at(at(9_000)), Lost(Loss::Expired));
        renew(&tenure, 8_000, 9_001);
        assert_eq!(tenure.state_at(at(9_002)), Lost(Loss::Expired));
        assert_eq!(tenure.remaining_at(at(9_002)), Duration::ZERO);
    }

    #[test]
    fn a_lease_that_the_server_denies_was_revoked_or_forgotten() {
        let restored = Header {
            raft_term: 1,
            ..CLUSTER
        };
        let another = Header {
            cluster_id: 9,
            ..CLUSTER
        };
        let wiped = Header {
            revision: 1,
            ..CLUSTER
        };
        let later = Header {
            revision: 8,
            ..CLUSTER
        };
        for (header, known, now, loss) in [
            (CLUSTER, 3, 1_000, Loss::Revoked),
            (later, 8, 1_000, Loss::Revoked),
            (restored, 3, 1_000, Loss::Forgotten),
            (another, 3, 1_000, Loss::Forgotten),
            (wiped, 3, 1_000, Loss::Forgotten),
            (CLUSTER, 8, 1_000, Loss::Forgotten),
            (CLUSTER, 3, 9_000, Loss::Expired),
        ] {
            let tenure = lease();
            tenure.unknown(header, known, at(now));
            assert_eq!(tenure.state_at(at(now)), Lost(loss));
        }
    }

    #[test]
    fn every_key_and_every_renewal_shows_how_far_the_cluster_is() {
        let tenure = lease();
        assert_eq!(tenure.revision(), 3);
        tenure.used(8);
        renew(&tenure, 3_000, 3_100);
        assert_eq!(tenure.revision(), 8);
        let header = Header {
            revision: 9,
            ..CLUSTER
        };
        tenure.renewed(at(4_000), Duration::from_secs(10), header, at(4_100));
        assert_eq!(tenure.revision(), 9);
    }

    #[test]
    fn time_that_passed_unseen_is_a_pause() {
        let tenure = lease();
        tenure.due(at(3_000));
        assert_eq!(tenure.state_at(at(8_000)), Suspect);
        assert_eq!(tenure.state_at(at(60_000)), Lost(Loss::Paused));
    }

    #[test]
    fn refusals_until_the_end_are_told_as_such_and_one_success_clears_them() {
        let tenure = lease();
        tenure.refused();
        assert_eq!(tenure.state_at(at(1_000)), Active);
        renew(&tenure, 2_000, 2_100);
        tenure.due(at(11_000));
        assert_eq!(tenure.state_at(at(11_000)), Lost(Loss::Expired));
        let tenure = lease();
        tenure.refused();
        assert_eq!(tenure.state_at(at(9_000)), Lost(Loss::AuthFailed));
    }

    #[test]
    fn what_was_given_back_is_lost_at_once() {
        let tenure = lease();
        tenure.revoked();
        assert_eq!(tenure.state_at(at(1)), Lost(Loss::Revoked));
    }
}
