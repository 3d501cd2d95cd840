//! The store's bounds. Every queue, batch and step has one, and tests make them tiny.

/// How large the store's queues, batches and steps may get.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most that the member lets the data file grow to; the map is four times as large, and sparse.
    pub quota_bytes: u64,
    /// Recent rows kept in RAM once they are durable. What is not durable is kept beyond this bound.
    pub ring_bytes: usize,
    /// The rows and table changes of one flush transaction; an entry is never split. LMDB allocates each dirty page.
    pub flush_txn_bytes: usize,
    /// The rows that one step of physical compaction removes, about; it looks at some times more.
    pub compact_step_rows: usize,
    /// Read transactions open at once: two for each thread that reads, and a margin.
    pub max_readers: u32,
    /// An export that holds physical compaction is ended when this many revisions wait for it.
    pub held_revisions: i64,
    /// With fewer rows than this the history is read faster than a checkpoint is worth writing.
    pub checkpoint_min_rows: u64,
}

const GIB: u64 = 1 << 30;

impl Default for Options {
    fn default() -> Self {
        Self {
            quota_bytes: 2 * GIB,
            ring_bytes: 32 << 20,
            flush_txn_bytes: 16 << 20,
            compact_step_rows: 4096,
            max_readers: 512,
            held_revisions: 1_000_000,
            checkpoint_min_rows: 50_000,
        }
    }
}

impl Options {
    /// The address space of an environment. LMDB fails deletes too once it is full, so the quota stays far below.
    pub(crate) fn map_bytes(&self) -> usize {
        let bytes = self.quota_bytes.saturating_mul(4).clamp(16 * GIB, 16 << 40);
        usize::try_from(bytes.next_multiple_of(GIB)).unwrap_or(usize::MAX & !0xffff)
    }
}
