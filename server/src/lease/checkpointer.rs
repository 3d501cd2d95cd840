//! Has the log know how much time leases have left, so that a new leader does not give all of them their whole time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use keystead_proto::etcdserverpb::LeaseCheckpoint;
use tokio::time::MissedTickBehavior;

use super::lessor::Lessor;

/// How often leases are looked for whose checkpoint is due, as in etcd.
const SCAN_INTERVAL: Duration = Duration::from_millis(500);

/// Leases whose checkpoints share a record, as in etcd: some 20 KB.
const BATCH_LEASES: usize = 1000;

/// Batches of one scan. A new leader finds all leases due at once: a million of them takes a minute then, and leaves the log
/// to others for most of it.
const BATCHES_PER_SCAN: usize = 8;

/// Proposes checkpoints.
pub trait Checkpoint {
    /// Has what these leases have left kept in the log, if this member leads in `term` still, and says whether it surely is.
    /// The order of calls is that of the log.
    fn checkpoint(
        &self,
        term: u64,
        checkpoints: Vec<LeaseCheckpoint>,
    ) -> impl Future<Output = bool>;
}

/// Makes checkpoints and takes them back, for ever. One task of the member runs this; while the member does not lead,
/// nothing is due. Being one task it proposes nothing before the last proposal is through: a checkpoint never comes after
/// the one that takes it back.
pub async fn checkpoint(lessor: Arc<Lessor>, log: impl Checkpoint) {
    let mut scans = tokio::time::interval(SCAN_INTERVAL);
    scans.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = scans.tick() => {
                take_back(&lessor, &log).await;
                make(&lessor, &log).await;
            }
            () = lessor.is_wanted_back() => take_back(&lessor, &log).await,
        }
    }
}

/// One scan. What is lost on the way is made good by the next checkpoint of the lease.
async fn make(lessor: &Lessor, log: &impl Checkpoint) {
    for _ in 0..BATCHES_PER_SCAN {
        let (term, due) = lessor.take_due(BATCH_LEASES);
        if due.is_empty() || !log.checkpoint(term, due).await {
            break;
        }
    }
}

/// Takes back what renewals wait for. What could not be waits for the next scan.
async fn take_back(lessor: &Lessor, log: &impl Checkpoint) {
    let (term, wanted) = lessor.wanted_back();
    for wanted in wanted.chunks(BATCH_LEASES) {
        if !log.checkpoint(term, wanted.to_vec()).await {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::task::{Context, Poll, Waker};

    use keystead_state::{LeaseChange, LeaseFacts};

    use super::super::clock::Hand;
    use super::super::lessor::Renewal;
    use super::*;

    const GRACE: Duration = Duration::from_secs(1);
    const INTERVAL: Duration = Duration::from_secs(300);
    const TERM: u64 = 3;

    /// What becomes of proposals.
    #[derive(Clone, Copy, PartialEq)]
    enum Fate {
        Applied,
        Refused,
        /// In the log, and applied when [`Member::apply`] is called.
        UnderWay,
    }

    struct Log {
        lessor: Arc<Lessor>,
        fate: Cell<Fate>,
        proposed: RefCell<Vec<Vec<LeaseCheckpoint>>>,
    }

    impl Checkpoint for Log {
        async fn checkpoint(&self, term: u64, checkpoints: Vec<LeaseCheckpoint>) -> bool {
            assert_eq!(term, TERM);
            self.proposed.borrow_mut().push(checkpoints.clone());
            match self.fate.get() {
                Fate::Applied => apply(&self.lessor, &checkpoints),
                Fate::Refused => return false,
                Fate::UnderWay => std::future::pending().await,
            }
            true
        }
    }

    fn apply(lessor: &Lessor, checkpoints: &[LeaseCheckpoint]) {
        let changes = checkpoints.iter().map(|it| LeaseChange::Checkpointed {
            id: it.id,
            left_secs: (it.remaining_ttl > 0).then_some(it.remaining_ttl),
        });
        lessor.applied(&changes.collect::<Vec<_>>());
    }

    struct Member {
        clock: Arc<Hand>,
        lessor: Arc<Lessor>,
        log: Log,
    }

    impl Member {
        /// Leads from now on.
        fn new(checkpoint_interval: Option<Duration>) -> Self {
            let clock = Arc::new(Hand::default());
            let lessor = Lessor::new(clock.clone(), GRACE, checkpoint_interval);
            let lessor = Arc::new(lessor);
            lessor.leader_changed(Some(TERM));
            let log = Log {
                lessor: lessor.clone(),
                fate: Cell::new(Fate::Applied),
                proposed: RefCell::default(),
            };
            Member { clock, lessor, log }
        }

        fn grant(&self, id: i64, ttl_secs: i64) {
            self.lessor
                .applied(&[LeaseChange::Granted { id, ttl_secs }]);
        }

        fn sleep_secs(&self, secs: u64) {
            self.clock.sleep(secs * 1000);
        }

        /// One look at what is due; answers the leases and seconds that were proposed.
        fn scan(&self) -> Vec<(i64, i64)> {
            now(take_back(&self.lessor, &self.log));
            now(make(&self.lessor, &self.log));
            let proposed = self.log.proposed.take().into_iter().flatten();
            proposed.map(|it| (it.id, it.remaining_ttl)).collect()
        }

        fn lead_anew(&self) {
            self.lessor.leader_changed(None);
            self.lessor.leader_changed(Some(TERM));
        }

        fn left_secs(&self, id: i64) -> i64 {
            self.lessor.remaining(id).expect("it exists").remaining_secs
        }
    }

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_long_lease_has_a_checkpoint_in_every_interval_and_a_short_one_none() {
        let member = Member::new(Some(INTERVAL));
        member.grant(1, 1000);
        member.grant(2, 300);
        member.sleep_secs(299);
        assert_eq!(member.scan(), []);
        member.sleep_secs(1);
        assert_eq!(member.scan(), [(1, 700)]);
        assert_eq!(member.scan(), []);
        member.sleep_secs(300);
        assert_eq!(member.scan(), [(1, 400)]);
        member.clock.sleep(300_500);
        assert_eq!(member.scan(), [(1, 100)], "what is left is rounded up");
        member.sleep_secs(99);
        assert_eq!(member.scan(), [], "it ends before the next would be due");
    }

    #[test]
    fn a_new_leader_goes_on_from_the_checkpoint_and_without_one_from_the_whole_ttl() {
        for (interval, left) in [(Some(INTERVAL), 701), (None, 1001)] {
            let member = Member::new(interval);
            member.grant(1, 1000);
            member.sleep_secs(300);
            member.scan();
            member.sleep_secs(200);
            assert_eq!(member.left_secs(1), 500, "no checkpoint moves a deadline");
            member.lead_anew();
            assert_eq!(member.left_secs(1), left);
        }
    }

    #[test]
    fn a_renewal_is_told_once_the_checkpoint_was_taken_back() {
        let member = Member::new(Some(INTERVAL));
        member.grant(1, 1000);
        member.sleep_secs(300);
        assert_eq!(member.scan(), [(1, 700)]);
        let mut renewal = std::pin::pin!(member.lessor.renew(1));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(renewal.as_mut().poll(&mut cx).is_pending());
        assert_eq!(
            now(member.lessor.is_wanted_back()),
            Some(()),
            "it is not kept waiting for a scan"
        );
        member.log.fate.set(Fate::Refused);
        assert_eq!(member.scan(), [(1, 0)]);
        assert!(renewal.as_mut().poll(&mut cx).is_pending());
        member.log.fate.set(Fate::Applied);
        assert_eq!(member.scan(), [(1, 0)], "it is tried again");
        let alive = Renewal::Alive { ttl_secs: 1000 };
        assert_eq!(renewal.as_mut().poll(&mut cx), Poll::Ready(alive));
        assert_eq!(now(member.lessor.renew(1)), Some(alive), "once is enough");
        member.lead_anew();
        assert_eq!(member.left_secs(1), 1001);
    }

    #[test]
    fn a_renewal_waits_for_a_checkpoint_that_is_on_its_way() {
        let member = Member::new(Some(INTERVAL));
        member.grant(1, 1000);
        member.sleep_secs(300);
        member.log.fate.set(Fate::UnderWay);
        assert_eq!(member.scan(), [(1, 700)]);
        let mut renewal = std::pin::pin!(member.lessor.renew(1));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(renewal.as_mut().poll(&mut cx).is_pending());
        apply(
            &member.lessor,
            &[LeaseCheckpoint {
                id: 1,
                remaining_ttl: 700,
            }],
        );
        assert!(renewal.as_mut().poll(&mut cx).is_pending());
        member.log.fate.set(Fate::Applied);
        assert_eq!(member.scan(), [(1, 0)]);
        let alive = Renewal::Alive { ttl_secs: 1000 };
        assert_eq!(renewal.as_mut().poll(&mut cx), Poll::Ready(alive));
    }

    #[test]
    fn a_lease_that_is_renewed_has_its_checkpoints_all_the_same() {
        let member = Member::new(Some(INTERVAL));
        member.grant(1, 600);
        member.sleep_secs(300);
        // Renewed in this moment, it has nothing to keep.
        assert!(now(member.lessor.renew(1)).is_some());
        assert_eq!(member.scan(), []);
        member.sleep_secs(300);
        assert_eq!(member.scan(), [(1, 300)]);
        assert!(now(member.lessor.renew(1)).is_none(), "it waits");
        assert_eq!(member.scan(), [(1, 0)]);
        assert!(now(member.lessor.renew(1)).is_some());
        member.sleep_secs(300);
        assert_eq!(member.scan(), [(1, 300)]);
    }

    #[test]
    fn who_does_not_lead_makes_none_and_gives_up_renewals_that_wait() {
        let member = Member::new(Some(INTERVAL));
        member.grant(1, 1000);
        member.sleep_secs(300);
        assert_eq!(member.scan(), [(1, 700)]);
        let mut renewal = std::pin::pin!(member.lessor.renew(1));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(renewal.as_mut().poll(&mut cx).is_pending());
        member.lessor.leader_changed(None);
        let told = renewal.as_mut().poll(&mut cx);
        assert_eq!(told, Poll::Ready(Renewal::NotLeading));
        member.sleep_secs(300);
        assert_eq!(member.scan(), []);
    }

    #[test]
    fn a_leader_without_checkpoints_takes_back_those_of_another() {
        let member = Member::new(None);
        let facts = LeaseFacts {
            ttl_secs: 1000,
            left_secs: Some(10),
        };
        member.lessor.adopt(|| vec![(1, facts)]);
        member.lead_anew();
        assert_eq!(member.left_secs(1), 11);
        assert!(now(member.lessor.renew(1)).is_none());
        assert_eq!(member.scan(), [(1, 0)]);
        assert!(now(member.lessor.renew(1)).is_some());
        assert_eq!(member.left_secs(1), 1000);
    }

    #[test]
    fn a_lease_that_is_gone_leaves_nothing_due() {
        let member = Member::new(Some(INTERVAL));
        member.grant(1, 1000);
        member.lessor.applied(&[LeaseChange::Revoked { id: 1 }]);
        member.sleep_secs(100);
        member.grant(1, 1000);
        member.sleep_secs(299);
        assert_eq!(member.scan(), []);
        member.sleep_secs(1);
        assert_eq!(member.scan(), [(1, 700)]);
    }

    #[test]
    fn many_leases_share_records_and_a_scan_has_a_bound() {
        let member = Member::new(Some(INTERVAL));
        (0..10_500).for_each(|id| member.grant(id, 1000));
        member.sleep_secs(300);
        for records in [BATCHES_PER_SCAN, 3, 0] {
            now(make(&member.lessor, &member.log)).expect("the log answers at once");
            let proposed = member.log.proposed.take();
            assert_eq!(proposed.len(), records);
            assert!(proposed.iter().all(|it| it.len() <= BATCH_LEASES));
        }
        (0..10_500).for_each(|id| assert!(now(member.lessor.renew(id)).is_none()));
        now(take_back(&member.lessor, &member.log)).expect("the log answers at once");
        assert_eq!(member.log.proposed.take().len(), 11);
    }
}
