//! Leases: time limits that keys are attached to. One file a verb; what keeps a lease alive is in `session/`.

pub(crate) mod grant;
pub(crate) mod keep_alive;
pub(crate) mod list;
pub(crate) mod revoke;
pub(crate) mod time_to_live;

use std::time::Duration;

/// A TTL as etcd has it, in whole seconds: never shorter than asked for, and at least one.
pub(crate) fn ttl_secs(ttl: Duration) -> i64 {
    let whole = ttl
        .as_secs()
        .saturating_add(u64::from(ttl.subsec_nanos() > 0));
    i64::try_from(whole.max(1)).unwrap_or(i64::MAX)
}

/// A TTL as a server tells it: 0 or less is none.
pub(crate) fn ttl(secs: i64) -> Duration {
    Duration::from_secs(secs.max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_rounded_up_to_whole_seconds() {
        for (millis, secs) in [
            (0, 1),
            (1, 1),
            (1000, 1),
            (1001, 2),
            (2500, 3),
            (60_000, 60),
        ] {
            assert_eq!(ttl_secs(Duration::from_millis(millis)), secs);
        }
        assert_eq!(ttl_secs(Duration::MAX), i64::MAX);
        assert_eq!(
            (ttl(7), ttl(0), ttl(-1)),
            (Duration::from_secs(7), Duration::ZERO, Duration::ZERO)
        );
    }
}
