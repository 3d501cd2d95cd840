//! The clock of leases. Nothing else of the member reads this one.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Tells the time since some fixed moment.
pub trait Clock: Send + Sync {
    /// The time now. It never goes back.
    fn now(&self) -> Duration;
}

/// `CLOCK_BOOTTIME`: not set by anybody, and it counts the time that the machine was suspended. A
/// leader that slept through a deadline knows it when it wakes.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
    }
}

/// A clock that goes when it is told to.
#[cfg(test)]
#[derive(Default)]
pub(super) struct Hand(parking_lot::Mutex<Duration>);

#[cfg(test)]
impl Hand {
    /// Lets time pass.
    pub(super) fn sleep(&self, millis: u64) {
        *self.0.lock() += Duration::from_millis(millis);
    }
}

#[cfg(test)]
impl Clock for Hand {
    fn now(&self) -> Duration {
        *self.0.lock()
    }
}
