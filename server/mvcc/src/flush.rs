//! The face of the store for the thread that makes it durable, and the flush itself.
//!
//! A flush takes a prefix of the sealed entries, appends their rows and writes their tables in one synced transaction
//! that carries the applied blob of the last of them, publishes the durable revision, and only then lets the ring
//! forget. A crash between any two steps leaves the transaction before or after.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use keystead_seeded::{Bug, planted};

use crate::checkpoint::Checkpoints;
use crate::compaction_hash::CompactionHash;
use crate::counters::Tally;
use crate::current::EnvNumber;
use crate::durable::Durable;
use crate::env::{Change, Environment};
use crate::shared::{KEYS_PER_LOCK, SealedEntry, Shared};
use crate::{DamagedRow, ReadError, Revision, Row, StorageError};

/// The one flusher of a store. Its methods block on the disk.
pub struct Flusher {
    pub(crate) shared: Arc<Shared>,
    pub(crate) durable: Durable,
    /// The hash to be taken before the compaction at hand removes a row.
    pub(crate) hashing: Option<CompactionHash>,
    pub(crate) checkpoints: Checkpoints,
    /// Environments that readers may still use; removed here once they do not.
    pub(crate) retired: Vec<Arc<Environment>>,
    pub(crate) last_env: EnvNumber,
    /// Flushes may use what is kept of the map.
    pub(crate) reserve_is_open: bool,
}

/// What a flush made durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// The position of the last durable entry.
    pub position: u64,
    /// Rows written now.
    pub rows: u64,
    /// What these rows and the table changes took in RAM.
    pub bytes: u64,
    /// What the last durable entry was sealed with; none before the first.
    pub applied: Option<Bytes>,
}

/// Why the flusher did not do what was asked. What was durable before stays so.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// No space is left. Nothing changed; free space and try again.
    #[error("no space is left for the store")]
    Full,
    /// Physical compaction could not be held for the whole of a defragmentation. Try again.
    #[error("compaction overtook the copy of the store")]
    Overtaken,
    /// A row on disk is not what was written.
    #[error(transparent)]
    Corrupt(#[from] DamagedRow),
    /// Writing or syncing failed: what is on the disk is known only after a restart, so the process must end.
    #[error(transparent)]
    Storage(StorageError),
}

impl From<StorageError> for FlushError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Full => Self::Full,
            other => Self::Storage(other),
        }
    }
}

impl From<ReadError> for FlushError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Corrupt(damaged) => Self::Corrupt(damaged),
            ReadError::Storage(error) => error.into(),
            // The flusher reads at revisions of its own choice.
            ReadError::Compacted | ReadError::Future => {
                Self::Storage(StorageError::Lmdb(error.to_string()))
            }
        }
    }
}

impl Flusher {
    /// Makes all sealed entries up to position `bound` durable, in as many transactions as their size asks for.
    ///
    /// `bound` is what the log has on its disk: a store ahead of its log could not be replayed.
    ///
    /// # Errors
    /// Every kind of [`FlushError`]; the entries of the transactions before the error are durable.
    pub fn flush(&mut self, bound: u64) -> Result<Flushed, FlushError> {
        let mut flushed = Flushed::default();
        loop {
            let batch = self.gather(bound);
            let Some(last) = batch.last().cloned() else {
                break;
            };
            let rows = self.twice(|flusher| flusher.write(&batch, &last))?;
            self.checkpoints.add_rows(rows);
            flushed.rows += rows;
            flushed.bytes += batch.iter().map(|entry| entry.cost() as u64).sum::<u64>();
            self.publish(batch.len());
            self.trim_ring();
        }
        self.place_checkpoint()?;
        self.remove_retired();
        flushed.position = self.durable.position;
        flushed.applied = self.durable.applied.clone();
        Ok(flushed)
    }

    /// Lets flushes use what is kept of the map for deletes and compaction. Says whether that is news. A flush that leaves
    /// twice as much free keeps it again.
    pub fn open_reserve(&mut self) -> bool {
        !std::mem::replace(&mut self.reserve_is_open, true)
    }

    /// Whether flushes may use the reserve.
    pub fn reserve_is_open(&self) -> bool {
        self.reserve_is_open
    }

    /// What is free in the map, the reserve included.
    pub fn free_in_map(&self) -> u64 {
        let in_use = self.shared.in_use_bytes.load(Ordering::Relaxed);
        self.shared.options.map_bytes.saturating_sub(in_use)
    }

    /// The pages that are free in the data file: with these it need not grow.
    pub fn free_in_file(&self) -> u64 {
        let in_use = self.shared.in_use_bytes.load(Ordering::Relaxed);
        let total = self.shared.total_bytes.load(Ordering::Relaxed);
        total.saturating_sub(in_use)
    }

    /// Whether rows of `bytes` leave the reserve untouched, or may take it.
    fn fits_map(&self, bytes: u64) -> bool {
        self.reserve_is_open || self.free_in_map() >= self.shared.options.reserve_bytes + bytes
    }

    /// The physical compaction's revision: every row that a compaction at it names is gone. -1 before the first.
    pub fn physically_compacted(&self) -> i64 {
        self.durable.physically_compacted
    }

    /// The next entries to flush: at least one, more as long as they fit in one transaction.
    fn gather(&self, bound: u64) -> Vec<Arc<SealedEntry>> {
        let state = self.shared.state.read();
        let mut bytes = 0;
        let fits = |entry: &&Arc<SealedEntry>| {
            let first = bytes == 0;
            bytes += entry.cost();
            entry.position <= bound && (first || bytes <= self.shared.options.flush_txn_bytes)
        };
        state.queue.iter().take_while(fits).cloned().collect()
    }

    /// Tries a transaction again whose writing failed. LMDB says the same of a broken disk and of a full one, and another
    /// writer may have made room since; a failed transaction left nothing, and the next writes all its pages anew.
    pub(crate) fn twice<T>(
        &mut self,
        transaction: impl Fn(&mut Self) -> Result<T, FlushError>,
    ) -> Result<T, FlushError> {
        match transaction(self) {
            Err(FlushError::Storage(StorageError::Io(_))) => transaction(self),
            done => done,
        }
    }

    fn write(&mut self, batch: &[Arc<SealedEntry>], last: &SealedEntry) -> Result<u64, FlushError> {
        if !self.fits_map(batch.iter().map(|entry| entry.cost() as u64).sum()) {
            return Err(FlushError::Full);
        }
        let env = self.env();
        let durable = Durable {
            revision: last.revision,
            compacted: last.compacted,
            position: last.position,
            applied: Some(last.applied.clone()),
            ..self.durable
        };
        if planted(Bug::AppliedIdApart) {
            env.change()?.commit(&durable)?;
        }
        let mut change = env.change()?;
        let rows = self.append_rows(&mut change, last.revision)?;
        for table in batch.iter().flat_map(|entry| &entry.tables) {
            change.set(&table.key, table.value.as_deref())?;
        }
        change.commit(&durable)?;
        self.begin_hash(batch);
        self.adopt(durable);
        self.measure(&env)?;
        self.reserve_is_open &= self.free_in_map() < 2 * self.shared.options.reserve_bytes;
        Tally::add(&self.shared.tally.flushes, 1);
        Tally::add(&self.shared.tally.rows_flushed, rows);
        Ok(rows)
    }

    /// Appends the rows above the durable revision, up to `upto`. They stay in the ring until they are durable, so the
    /// lock is let go between pieces.
    fn append_rows(&self, change: &mut Change<'_>, upto: i64) -> Result<u64, FlushError> {
        let mut next = Revision::new(self.durable.revision + 1, 0);
        let mut written = 0;
        loop {
            let state = self.shared.state.read();
            let rows: Vec<Row> = state.ring.from(next).take(KEYS_PER_LOCK).cloned().collect();
            drop(state);
            for row in rows.iter().take_while(|row| row.revision.main <= upto) {
                change.append(row)?;
                next = row.revision.next();
                written += 1;
            }
            if rows.last().is_none_or(|row| row.revision.main > upto) {
                return Ok(written);
            }
        }
    }

    /// Says what is durable now, before anything is dropped.
    fn publish(&self, entries: usize) {
        let mut state = self.shared.state.write();
        state.durable = self.durable.revision;
        let done: Vec<_> = state.queue.drain(..entries).collect();
        state.queued_bytes -= done.iter().map(|entry| entry.cost() as u64).sum::<u64>();
        drop(state);
        drop(done);
    }

    fn trim_ring(&self) {
        loop {
            let dropped = self
                .shared
                .state
                .write()
                .ring
                .trim(self.durable.revision, KEYS_PER_LOCK);
            if dropped.is_empty() {
                return;
            }
            Tally::add(&self.shared.tally.ring_trims, dropped.len() as u64);
        }
    }

    /// Removes the environments that nobody reads any more. A large one may take several calls.
    pub(crate) fn remove_retired(&mut self) {
        let is_kept = |env: &Arc<Environment>| Arc::strong_count(env) > 1 || !env.give_space_back();
        self.retired.retain(is_kept);
    }

    /// Goes on from facts that were committed.
    pub(crate) fn adopt(&mut self, durable: Durable) {
        self.shared
            .physically_compacted
            .store(durable.physically_compacted, Ordering::Release);
        self.durable = durable;
    }

    /// The number of an environment that was never used.
    pub(crate) fn next_env(&mut self) -> EnvNumber {
        self.last_env = self.last_env.next();
        self.last_env
    }

    pub(crate) fn env(&self) -> Arc<Environment> {
        self.shared.state.read().env.clone()
    }

    pub(crate) fn measure(&self, env: &Arc<Environment>) -> Result<(), StorageError> {
        let (total, in_use) = env.sizes()?;
        self.shared.total_bytes.store(total, Ordering::Relaxed);
        self.shared.in_use_bytes.store(in_use, Ordering::Relaxed);
        Ok(())
    }
}
