//! The store's bounds. Every queue, batch and step has one, and tests make them tiny.

/// How large the store's queues, batches and steps may get.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address space of an environment; its file is sparse. Rounded up to 64 KiB.
    pub map_bytes: u64,
    /// How much of the map only deletes and compaction may use, once the flusher was told to
    /// [open it](crate::Flusher::open_reserve): LMDB fails deletes too when its map is full.
    pub reserve_bytes: u64,
    /// Recent rows kept in RAM once they are durable. What is not durable is kept beyond this bound.
    pub ring_bytes: usize,
    /// The rows and table changes of one flush transaction; an entry is never split. LMDB allocates each dirty page, and
    /// keeps what the largest transaction took.
    pub flush_txn_bytes: usize,
    /// The rows that one step of physical compaction removes, about; it looks at some times more.
    pub compact_step_rows: usize,
    /// Read transactions open at once: two for each thread that reads, and a margin.
    pub max_readers: u32,
    /// An export that holds physical compaction is ended when this many revisions wait for it.
    pub held_revisions: i64,
    /// With fewer rows than this behind a checkpoint the history is read faster than another is worth writing.
    pub checkpoint_min_rows: u64,
}

const GIB: u64 = 1 << 30;

impl Default for Options {
    fn default() -> Self {
        Self {
            map_bytes: 16 * GIB,
            reserve_bytes: 128 << 20,
            ring_bytes: 32 << 20,
            flush_txn_bytes: 4 << 20,
            compact_step_rows: 4096,
            max_readers: 512,
            held_revisions: 1_000_000,
            checkpoint_min_rows: 50_000,
        }
    }
}

impl Options {
    /// The map for a member with this quota, four times as large and at least 16 GiB; for 1 TiB without one.
    pub fn map_for_quota(quota_bytes: Option<u64>) -> u64 {
        let quota = quota_bytes.unwrap_or(1 << 40);
        quota.saturating_mul(4).clamp(16 * GIB, 16 << 40)
    }

    /// The map as LMDB takes it, in whole pages of any size.
    pub(crate) fn map_size(&self) -> usize {
        usize::try_from(self.map_bytes.next_multiple_of(64 << 10)).unwrap_or(usize::MAX & !0xffff)
    }
}
