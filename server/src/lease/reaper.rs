//! Ends the leases whose time is up: through the log, many at a time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::lessor::Lessor;

/// How often expired leases are looked for, as in etcd: a lease ends at most this much after its TTL,
/// and the time of a write.
const SCAN_INTERVAL: Duration = Duration::from_millis(500);

/// Revocations proposed together. They share one log entry and its sync; further ones follow at once.
const BATCH_LEASES: usize = 1024;

/// Proposes revocations.
pub trait Revoke {
    /// Proposes to revoke `ids`, if this member leads in `term` still, and waits for what became of it. Answers those
    /// that may exist still; the others are gone.
    fn revoke(&self, term: u64, ids: Vec<i64>) -> impl Future<Output = Vec<i64>>;
}

/// Revokes what expires, for ever. One task of the member runs this; while the member does not lead,
/// nothing expires.
pub async fn reap(lessor: Arc<Lessor>, revoke: impl Revoke) {
    let mut scans = tokio::time::interval(SCAN_INTERVAL);
    scans.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        scans.tick().await;
        reap_expired(&lessor, &revoke).await;
    }
}

/// One scan. What could not be revoked waits for the next one.
async fn reap_expired(lessor: &Lessor, revoke: &impl Revoke) {
    let mut left = Vec::new();
    loop {
        let (term, expired) = lessor.take_expired(BATCH_LEASES);
        if expired.is_empty() {
            break;
        }
        let remaining = revoke.revoke(term, expired.clone()).await;
        expired
            .into_iter()
            .filter(|id| !remaining.contains(id))
            .for_each(|id| lessor.forget(id));
        left.extend(remaining);
    }
    left.into_iter().for_each(|id| lessor.put_back(id));
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::task::{Context, Poll, Waker};

    use keystead_state::{LeaseChange, LeaseFacts};

    use super::super::clock::Hand;
    use super::super::lessor::{Remaining, Renewal};
    use super::*;

    const GRACE: Duration = Duration::from_secs(1);
    const TERM: u64 = 3;

    /// A log that applies revocations at once, or refuses them.
    struct Log {
        lessor: Arc<Lessor>,
        refusing: Cell<bool>,
        revoked: RefCell<Vec<i64>>,
        proposals: Cell<usize>,
    }

    impl Revoke for Log {
        async fn revoke(&self, term: u64, ids: Vec<i64>) -> Vec<i64> {
            assert_eq!(term, TERM);
            self.proposals.set(self.proposals.get() + 1);
            if self.refusing.get() {
                return ids;
            }
            for id in ids {
                self.revoked.borrow_mut().push(id);
                self.lessor.applied(&[LeaseChange::Revoked { id }]);
            }
            Vec::new()
        }
    }

    struct Leader {
        clock: Arc<Hand>,
        lessor: Arc<Lessor>,
        log: Log,
    }

    impl Leader {
        fn new() -> Self {
            let clock = Arc::new(Hand::default());
            let lessor = Arc::new(Lessor::new(clock.clone(), GRACE, None));
            lessor.leader_changed(Some(TERM));
            let log = Log {
                lessor: lessor.clone(),
                refusing: Cell::new(false),
                revoked: RefCell::default(),
                proposals: Cell::new(0),
            };
            Leader { clock, lessor, log }
        }

        fn grant(&self, id: i64, ttl_secs: i64) {
            self.lessor
                .applied(&[LeaseChange::Granted { id, ttl_secs }]);
        }

        fn sleep(&self, millis: u64) {
            self.clock.sleep(millis);
        }

        /// One scan; answers what it revoked.
        fn scan(&self) -> Vec<i64> {
            now(reap_expired(&self.lessor, &self.log)).expect("the log answers at once");
            self.log.revoked.take()
        }
    }

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_lease_ends_after_its_ttl_and_not_before() {
        let leader = Leader::new();
        leader.grant(7, 2);
        leader.sleep(1999);
        assert!(leader.scan().is_empty());
        assert_eq!(
            leader.lessor.remaining(7),
            Some(Remaining {
                remaining_secs: 0,
                granted_secs: 2
            })
        );
        leader.sleep(1);
        assert_eq!(leader.scan(), [7]);
        assert_eq!(leader.lessor.remaining(7), None);
        assert_eq!(now(leader.lessor.renew(7)), Some(Renewal::Gone));
    }

    #[test]
    fn a_renewal_gives_the_whole_ttl_again() {
        let leader = Leader::new();
        leader.grant(-7, 5);
        for _ in 0..10 {
            leader.sleep(4999);
            assert!(leader.scan().is_empty());
            assert_eq!(
                now(leader.lessor.renew(-7)),
                Some(Renewal::Alive { ttl_secs: 5 })
            );
        }
        leader.sleep(5000);
        assert_eq!(leader.scan(), [-7]);
    }

    #[test]
    fn a_renewal_after_the_deadline_waits_for_the_end_and_saves_nothing() {
        let leader = Leader::new();
        leader.grant(7, 2);
        leader.sleep(2000);
        let mut renewal = std::pin::pin!(leader.lessor.renew(7));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(renewal.as_mut().poll(&mut cx).is_pending());
        leader.log.refusing.set(true);
        assert!(leader.scan().is_empty());
        assert!(
            renewal.as_mut().poll(&mut cx).is_pending(),
            "a failed revocation is tried again"
        );
        leader.log.refusing.set(false);
        assert_eq!(leader.scan(), [7]);
        assert_eq!(renewal.as_mut().poll(&mut cx), Poll::Ready(Renewal::Gone));
    }

    #[test]
    fn a_renewal_while_the_revocation_is_on_its_way_waits_for_it() {
        let leader = Leader::new();
        leader.grant(7, 2);
        leader.sleep(2000);
        assert_eq!(leader.lessor.take_expired(10), (TERM, vec![7]));
        let mut renewal = std::pin::pin!(leader.lessor.renew(7));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(renewal.as_mut().poll(&mut cx).is_pending());
        assert!(
            leader.lessor.take_expired(10).1.is_empty(),
            "it is proposed once"
        );
        leader.lessor.applied(&[LeaseChange::Revoked { id: 7 }]);
        assert_eq!(renewal.as_mut().poll(&mut cx), Poll::Ready(Renewal::Gone));
    }

    #[test]
    fn a_new_leader_gives_every_lease_its_whole_ttl_and_the_old_one_revokes_nothing() {
        let leader = Leader::new();
        leader.grant(7, 3);
        leader.sleep(2900);
        leader.lessor.leader_changed(None);
        assert_eq!(now(leader.lessor.renew(7)), Some(Renewal::NotLeading));
        leader.sleep(10_000);
        assert!(leader.scan().is_empty());
        leader.lessor.leader_changed(Some(TERM));
        leader.sleep(3999);
        assert!(leader.scan().is_empty());
        leader.sleep(1);
        assert_eq!(leader.scan(), [7]);
    }

    #[test]
    fn who_waits_for_an_end_is_told_when_leadership_goes() {
        let leader = Leader::new();
        leader.grant(7, 2);
        leader.sleep(2000);
        let mut renewal = std::pin::pin!(leader.lessor.renew(7));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(renewal.as_mut().poll(&mut cx).is_pending());
        leader.lessor.leader_changed(None);
        assert_eq!(
            renewal.as_mut().poll(&mut cx),
            Poll::Ready(Renewal::NotLeading)
        );
    }

    #[test]
    fn a_lease_that_the_log_does_not_know_is_forgotten() {
        let leader = Leader::new();
        leader.grant(7, 2);
        leader.sleep(2000);
        let (_, expired) = leader.lessor.take_expired(10);
        leader.lessor.applied(&[
            LeaseChange::Revoked { id: 7 },
            LeaseChange::Granted { id: 7, ttl_secs: 2 },
        ]);
        expired.iter().for_each(|id| leader.lessor.forget(*id));
        assert_eq!(leader.lessor.by_expiry(), [7], "the id was granted again");
        leader.sleep(2000);
        leader
            .lessor
            .take_expired(10)
            .1
            .iter()
            .for_each(|id| leader.lessor.forget(*id));
        assert!(leader.lessor.is_empty());
    }

    #[test]
    fn ten_thousand_leases_end_in_a_few_proposals() {
        let leader = Leader::new();
        (0..10_000).for_each(|id| leader.grant(id, 2));
        leader.sleep(2000);
        assert_eq!(leader.scan().len(), 10_000);
        assert_eq!(
            leader.log.proposals.get(),
            10_000_usize.div_ceil(BATCH_LEASES)
        );
        assert!(leader.lessor.is_empty());
    }

    #[test]
    fn an_id_granted_again_keeps_the_newer_deadline() {
        let leader = Leader::new();
        for _ in 0..10_000 {
            leader.grant(7, 10);
            leader.lessor.applied(&[LeaseChange::Revoked { id: 7 }]);
        }
        leader.sleep(5000);
        leader.grant(7, 10);
        leader.sleep(9999);
        assert!(leader.scan().is_empty());
        leader.sleep(1);
        assert_eq!(leader.scan(), [7]);
    }

    #[test]
    fn leases_of_an_earlier_run_begin_anew() {
        let leader = Leader::new();
        leader.grant(7, 2);
        let facts = LeaseFacts::granted(2);
        leader.lessor.adopt(|| vec![(7, facts), (8, facts)]);
        leader.sleep(2000);
        assert_eq!(leader.scan(), [7]);
        leader.sleep(1000);
        assert_eq!(leader.scan(), [8]);
    }

    #[test]
    fn leases_are_listed_by_expiry() {
        let leader = Leader::new();
        leader.grant(1, 30);
        leader.grant(2, 10);
        leader.grant(3, 20);
        assert_eq!(leader.lessor.by_expiry(), [2, 3, 1]);
        leader.sleep(9000);
        assert_eq!(
            now(leader.lessor.renew(2)),
            Some(Renewal::Alive { ttl_secs: 10 })
        );
        assert_eq!(
            leader.lessor.by_expiry(),
            [2, 3, 1],
            "10 s more end with 19 s"
        );
        leader.sleep(9000);
        assert_eq!(
            now(leader.lessor.renew(2)),
            Some(Renewal::Alive { ttl_secs: 10 })
        );
        assert_eq!(leader.lessor.by_expiry(), [3, 2, 1]);
    }
}
