//! What the store has done, counted for metrics and tests.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the store was opened. Monotone; read them with [`Store::counters`](crate::Store::counters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rows of the history that the start read, for want of a checkpoint of the index that has them.
    pub rows_read_at_start: u64,
    /// Flush transactions committed.
    pub flushes: u64,
    /// Rows flushed.
    pub rows_flushed: u64,
    /// Steps of physical compaction that deleted or looked at rows.
    pub compact_steps: u64,
    /// Rows that physical compaction removed.
    pub rows_removed: u64,
    /// Checkpoints of the index written.
    pub checkpoints: u64,
    /// Rows that left the ring.
    pub ring_trims: u64,
    /// Environments replaced by defragmentation.
    pub defragmentations: u64,
    /// How often a row was read that is not what was written, or is gone: the member's data must be replaced.
    pub damaged_reads: u64,
}

/// The counts while they are counted.
#[derive(Default)]
pub(crate) struct Tally {
    rows_read_at_start: u64,
    pub flushes: AtomicU64,
    pub rows_flushed: AtomicU64,
    pub compact_steps: AtomicU64,
    pub rows_removed: AtomicU64,
    pub checkpoints: AtomicU64,
    pub ring_trims: AtomicU64,
    pub defragmentations: AtomicU64,
    /// In the environments before this one, which counts its own.
    pub damaged_reads: AtomicU64,
}

impl Tally {
    /// The counts of a store whose start read so many rows.
    pub(crate) fn after_reading(rows: u64) -> Self {
        Self {
            rows_read_at_start: rows,
            ..Self::default()
        }
    }

    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            rows_read_at_start: self.rows_read_at_start,
            flushes: read(&self.flushes),
            rows_flushed: read(&self.rows_flushed),
            compact_steps: read(&self.compact_steps),
            rows_removed: read(&self.rows_removed),
            checkpoints: read(&self.checkpoints),
            ring_trims: read(&self.ring_trims),
            defragmentations: read(&self.defragmentations),
            damaged_reads: read(&self.damaged_reads),
        }
    }
}
