//! What can be asked of the store: the questions, the answers and the refusals.
//!
//! [`Read`] is implemented by [`Store`](crate::Store) and [`View`](crate::View) for services, and by
//! [`Txn`](crate::Txn), which sees its own writes, for the state machine.

use crate::{DamagedRow, Meta, Row, StorageError};

/// Which keys at which revision, and how much of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    /// The first key.
    pub key: &'a [u8],
    /// etcd's `range_end`: empty for `key` alone, `"\0"` for all keys from `key` on, else the first key after the range.
    pub end: &'a [u8],
    /// The revision to read at; zero and below for the latest.
    pub revision: i64,
    /// The most rows to return; 0 for all.
    pub limit: usize,
    /// Return the count alone.
    pub count_only: bool,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The rows, in key order.
    pub rows: Vec<Row>,
    /// How many keys the range holds at that revision, whatever the limit.
    pub count: u64,
    /// Whether the limit cut rows off.
    pub more: bool,
    /// The revision that was read at.
    pub revision: i64,
    /// The store's revision when it was read.
    pub current: i64,
}

/// The hash of [`Store::hash_kv`](crate::Store::hash_kv).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C over etcd's bytes.
    pub hash: u32,
    /// The compaction revision the hash was taken at, -1 for none.
    pub compact_revision: i64,
    /// The revision up to which it was taken.
    pub hash_revision: i64,
}

/// How much the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The data file, free pages included, as of the last flush.
    pub total_bytes: u64,
    /// The pages of the data file that are in use, as of the last flush.
    pub in_use_bytes: u64,
    /// What is in use and what the next flush will add.
    pub logical_bytes: u64,
    /// Rows and table changes in RAM that are not flushed yet.
    pub unflushed_bytes: u64,
    /// Live keys.
    pub keys: u64,
}

/// Why a read was refused. No read changes anything.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The revision was compacted away; ask at a newer one.
    #[error("the revision has been compacted")]
    Compacted,
    /// The revision is above the store's.
    #[error("the revision is in the future")]
    Future,
    /// A row on disk is not what was written; the member's data must be replaced.
    #[error(transparent)]
    Corrupt(#[from] DamagedRow),
    /// LMDB or the file system failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Reads, at one revision or as of a transaction's own writes.
pub trait Read {
    /// The rows and the count of a range.
    ///
    /// # Errors
    /// Every kind of [`ReadError`].
    fn read(&self, query: &Query<'_>) -> Result<Page, ReadError>;

    /// The facts of a live key, without its value; none for a key that does not exist.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] when compaction has passed the revision read at, or [`ReadError::Corrupt`] and
    /// [`ReadError::Storage`] when the facts had to be read from disk. A [`Txn`](crate::Txn) never fails here.
    fn meta(&self, key: &[u8]) -> Result<Option<Meta>, ReadError>;

    /// Calls `each` for the live keys of a range in key order until it returns false.
    ///
    /// # Errors
    /// As [`meta`](Self::meta).
    fn metas_in(
        &self,
        key: &[u8],
        end: &[u8],
        each: &mut dyn FnMut(&[u8], &Meta) -> bool,
    ) -> Result<(), ReadError>;

    /// The latest revision that this reader sees.
    fn current(&self) -> i64;

    /// The revision below which nothing can be read, -1 before the first compaction.
    fn compacted(&self) -> i64;
}

/// The facts of the live version that a row wrote.
pub(crate) fn meta_of(row: &Row) -> Result<Meta, DamagedRow> {
    let damaged = DamagedRow {
        revision: row.revision,
    };
    let kv = crate::KeyValueRef::decode(&row.payload).map_err(|_| damaged)?;
    Ok(Meta {
        create_revision: kv.create_revision,
        mod_revision: row.revision,
        version: kv.version,
        lease: kv.lease,
    })
}
