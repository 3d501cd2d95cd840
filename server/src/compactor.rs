//! Compaction without being asked, as etcd's `--auto-compaction-mode` and `-retention` say. Runs on every member and
//! compacts on the one that leads. When to compact what is decided by values without a clock of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keystead_mvcc::Read;
use keystead_proto::etcdserverpb::CompactionRequest;
use keystead_proto::internal::RecordKind;
use keystead_state::Refusal;
use prost::Message;

use crate::config::AutoCompaction;
use crate::member::Member;

const HOUR: Duration = Duration::from_secs(60 * 60);
/// How often the revision mode looks.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The periodic mode notes the revision ten times between two compactions.
const NOTES: u32 = 10;

/// Compacts now and then, for as long as it is polled.
pub async fn run(member: Arc<Member>) {
    let Some(mut schedule) = Schedule::new(member.config.auto_compaction, Instant::now()) else {
        return;
    };
    loop {
        schedule.note(member.reader.store().current());
        tokio::time::sleep(schedule.interval()).await;
        if !member.consensus.status().is_leader {
            continue;
        }
        if let Some(revision) = schedule.due(Instant::now(), member.reader.store().current())
            && compact(&member, revision).await
        {
            schedule.compacted(revision, Instant::now());
        }
    }
}

/// Whether history below `revision` is gone now.
async fn compact(member: &Member, revision: i64) -> bool {
    let request = CompactionRequest {
        revision,
        physical: false,
    };
    match member
        .propose(RecordKind::Compaction, request.encode_to_vec().into())
        .await
    {
        Ok(_) => tracing::info!(revision, "compacted by schedule"),
        Err(Refusal::Compacted) => {}
        Err(refusal) => {
            tracing::warn!(revision, %refusal, "a scheduled compaction was refused");
            return false;
        }
    }
    true
}

/// When to compact, and what.
enum Schedule {
    Periodic(Periodic),
    Revision { keep: i64, last: i64 },
}

/// Keeps a window of time: the revisions noted within it, oldest first.
struct Periodic {
    noted: VecDeque<i64>,
    /// How many notes span the window.
    span: usize,
    /// The time that must have passed since the last compaction: at first the whole window.
    wait: Duration,
    interval: Duration,
    last: i64,
    last_at: Instant,
}

impl Schedule {
    fn new(mode: AutoCompaction, now: Instant) -> Option<Self> {
        match mode {
            AutoCompaction::Off => None,
            AutoCompaction::Periodic(window) => Some(Self::Periodic(Periodic::new(window, now))),
            AutoCompaction::Revision(keep) => Some(Self::Revision { keep, last: 0 }),
        }
    }

    fn interval(&self) -> Duration {
        match self {
            Self::Periodic(periodic) => periodic.interval / NOTES,
            Self::Revision { .. } => REVISION_INTERVAL,
        }
    }

    fn note(&mut self, revision: i64) {
        if let Self::Periodic(periodic) = self {
            periodic.noted.push_back(revision);
            if periodic.noted.len() > periodic.span {
                periodic.noted.pop_front();
            }
        }
    }

    fn due(&mut self, now: Instant, current: i64) -> Option<i64> {
        match self {
            Self::Periodic(periodic) => periodic.due(now),
            Self::Revision { keep, last } => {
                let revision = current - *keep;
                (revision > 0 && revision != *last).then_some(revision)
            }
        }
    }

    fn compacted(&mut self, revision: i64, now: Instant) {
        match self {
            Self::Periodic(periodic) => {
                periodic.last = revision;
                periodic.last_at = now;
            }
            Self::Revision { last, .. } => *last = revision,
        }
    }
}

impl Periodic {
    fn new(window: Duration, now: Instant) -> Self {
        // A window of no time would never sleep.
        let window = window.max(Duration::from_secs(1));
        let interval = window.min(HOUR);
        let span = window.as_nanos() / (interval / NOTES).as_nanos() + 1;
        let span = usize::try_from(span).unwrap_or(usize::MAX);
        Self {
            noted: VecDeque::new(),
            span,
            wait: window,
            interval,
            last: 0,
            last_at: now,
        }
    }

    fn due(&mut self, now: Instant) -> Option<i64> {
        let oldest = *self.noted.front()?;
        if now.duration_since(self.last_at) < self.wait || oldest == self.last {
            return None;
        }
        self.wait = self.interval;
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a schedule for `ticks` of its interval while the store gains a revision a tick, and tells when it
    /// compacted what.
    fn run_for(mode: AutoCompaction, ticks: i64) -> Vec<(i64, i64)> {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(mode, now).expect("a mode that compacts");
        let mut compactions = Vec::new();
        for tick in 1..=ticks {
            schedule.note(tick);
            now += schedule.interval();
            if let Some(revision) = schedule.due(now, tick + 1) {
                schedule.compacted(revision, now);
                compactions.push((tick, revision));
            }
        }
        compactions
    }

    #[test]
    fn a_short_window_is_kept_and_moved_on_once_a_window() {
        let window = AutoCompaction::Periodic(Duration::from_secs(600));
        assert_eq!(run_for(window, 35), [(10, 1), (20, 10), (30, 20)]);
    }

    #[test]
    fn a_long_window_is_first_filled_and_then_moved_on_every_hour() {
        let window = AutoCompaction::Periodic(Duration::from_secs(3 * 60 * 60));
        assert_eq!(run_for(window, 50), [(30, 1), (40, 10), (50, 20)]);
    }

    #[test]
    fn a_count_of_revisions_is_kept() {
        assert_eq!(run_for(AutoCompaction::Revision(3), 4), [(3, 1), (4, 2)]);
    }

    #[test]
    fn nothing_is_compacted_unless_asked() {
        assert!(Schedule::new(AutoCompaction::Off, Instant::now()).is_none());
    }
}
