//! What the hub reads of the store: revisions that a watcher missed, and previous versions.
//!
//! The hub takes any history, so that its tests run on a model; the member gives it the store.

use bytes::Bytes;
use keystead_mvcc::{Read, ReadError, Revision, Row, Store};

/// The store's history as the hub needs it.
pub trait History {
    /// The newest published revision.
    fn revision(&self) -> i64;

    /// The revision of the last compaction; below 1 when there was none.
    fn compacted(&self) -> i64;

    /// The rows of `from..=upto` in order: whole revisions, at least one of them, then as many as
    /// `max_bytes` allows.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] when a row of `from` or later may be gone.
    fn events(&self, from: i64, upto: i64, max_bytes: usize) -> Result<Vec<Row>, ReadError>;

    /// One row, if it is still kept.
    ///
    /// # Errors
    /// The storage's own.
    fn row(&self, revision: Revision) -> Result<Option<Row>, ReadError>;
}

impl History for Store {
    fn revision(&self) -> i64 {
        self.current()
    }

    fn compacted(&self) -> i64 {
        Read::compacted(self)
    }

    fn events(&self, from: i64, upto: i64, max_bytes: usize) -> Result<Vec<Row>, ReadError> {
        Store::events(self, from, upto, max_bytes)
    }

    fn row(&self, revision: Revision) -> Result<Option<Row>, ReadError> {
        Store::row(self, revision)
    }
}

/// The version of a key that `row` replaced, as a watcher with `prev_kv` is told it: the key's value
/// one revision earlier. None when `row` created the key, or when that revision is compacted.
pub(super) fn previous(history: &impl History, row: &Row) -> Option<Bytes> {
    let before = row.revision.main - 1;
    if before < history.compacted() {
        return None;
    }
    let mut revision = row.previous?;
    loop {
        let earlier = history.row(revision).ok()??;
        if revision.main <= before {
            return Some(earlier.payload);
        }
        revision = earlier.previous?;
    }
}
