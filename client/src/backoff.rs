//! How long to wait before the next attempt: exponential, bounded, with jitter so that clients do not come in step.

use std::time::Duration;

/// Grows from `first` to `most`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
}

/// Between attempts of one call, and between tries of one endpoint: a member that restarts is back within a second.
pub(crate) const ATTEMPTS: Backoff = Backoff {
    first: Duration::from_millis(25),
    most: Duration::from_secs(2),
};

/// Between rounds of an optimistic loop whose compare failed: somebody else has just won.
pub(crate) const CONTENTION: Backoff = Backoff {
    first: Duration::from_millis(1),
    most: Duration::from_millis(250),
};

impl Backoff {
    /// The wait after `failures` failures in a row (one at least): half of it certain, half chance.
    pub(crate) fn after(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let full = self.first.saturating_mul(1 << doublings).min(self.most);
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_its_bound() {
        for (failures, full) in [(1, 25), (2, 50), (3, 100), (8, 2000), (u32::MAX, 2000)] {
            let full = Duration::from_millis(full);
            let wait = ATTEMPTS.after(failures);
            assert!(wait >= full / 2 && wait <= full, "{failures}: {wait:?}");
        }
    }
}
