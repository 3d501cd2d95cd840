//! What the store's three faces share, and the one lock around it.
//!
//! Readers hold the lock shared for at most a few hundred keys; the writer holds it for one operation, the flusher for
//! a few hundred rows. It is never held across a commit of LMDB. A reader that must go to LMDB opens its transaction
//! before it lets go of the lock: the rows it found in the index are then in the ring or in that transaction.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::compaction_hash::KeptHashes;
use crate::counters::Tally;
use crate::env::Environment;
use crate::hold::Holds;
use crate::index::Index;
use crate::ring::Ring;
use crate::{Options, Table};

/// Keys or rows that are looked at before the lock is released.
pub(crate) const KEYS_PER_LOCK: usize = 256;

/// What one entry costs in the queue beside its rows and table changes.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// The store behind its faces.
pub(crate) struct Shared {
    pub state: RwLock<State>,
    pub dir: PathBuf,
    pub options: Options,
    pub tally: Tally,
    pub holds: Arc<Holds>,
    pub kept_hashes: KeptHashes,
    /// Below this revision, what compaction names is gone.
    pub physically_compacted: AtomicI64,
    /// The data file and its used pages, as of the last flush.
    pub total_bytes: AtomicU64,
    pub in_use_bytes: AtomicU64,
}

/// What the lock guards.
pub(crate) struct State {
    pub index: Index,
    pub ring: Ring,
    /// Sealed entries that are not durable yet, in order of position.
    pub queue: VecDeque<Arc<SealedEntry>>,
    pub queued_bytes: u64,
    pub env: Arc<Environment>,
    /// The newest revision that readers see; the index may hold newer ones of an entry being applied.
    pub published: i64,
    /// The newest revision that a crash leaves.
    pub durable: i64,
    /// Nothing below can be read.
    pub compacted: i64,
}

/// One applied entry of the log, waiting for its flush.
pub(crate) struct SealedEntry {
    pub position: u64,
    pub applied: Bytes,
    /// The store's revision and compaction revision after the entry.
    pub revision: i64,
    pub compacted: i64,
    /// The first of the entry's compactions.
    pub first_compaction: Option<i64>,
    pub tables: Vec<TableChange>,
    pub row_bytes: usize,
}

/// A write to a small table; no value removes the key.
#[derive(Clone)]
pub(crate) struct TableChange {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl SealedEntry {
    /// What the entry costs in RAM until it is flushed.
    pub(crate) fn cost(&self) -> usize {
        let tables: usize = self.tables.iter().map(TableChange::cost).sum();
        self.row_bytes + tables + self.applied.len() + ENTRY_OVERHEAD_BYTES
    }
}

impl TableChange {
    pub(crate) fn new(table: Table, key: &[u8], value: Option<&[u8]>) -> Self {
        Self {
            key: table.stored_key(key).into(),
            value: value.map(Bytes::copy_from_slice),
        }
    }

    fn cost(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + size_of::<Self>()
    }
}
