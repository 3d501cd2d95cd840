//! The face of the store for the applier: one entry of the log after the other, one record in it after the other.
//!
//! ```text
//! begin .. put/delete_range .. commit    one record, at most one new revision
//! set, compact                           small tables, compaction
//! seal                                   the entry ends: readers see it, the flusher may take it
//! ```
//!
//! Writes go into the index as they are made, under the lock for each operation; readers skip them by their revision
//! until `seal` publishes it. There is no rollback: a record is checked before it writes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::frame::Frame;
use crate::index::{Cursor, KeyRange};
use crate::shared::{KEYS_PER_LOCK, SealedEntry, Shared, TableChange};
use crate::store::read_through_frame;
use crate::{KeyValueRef, Meta, Page, Query, Read, ReadError, Revision, Row, Table};

/// Rows are encoded one behind the other into pieces of memory of this size: the ring lets them go in the same order, so
/// that a piece comes free as a whole. A payload longer than half of it gets memory of its own.
const PIECE_BYTES: usize = 32 << 10;

/// The one writer of a store.
pub struct Writer {
    shared: Arc<Shared>,
    /// What is left of the piece at hand.
    piece: BytesMut,
    /// The store's revision, the entry at hand included.
    revision: i64,
    published: i64,
    compacted: i64,
    /// The first compaction of the entry at hand.
    first_compaction: Option<i64>,
    rows: Vec<Row>,
    tables: Vec<TableChange>,
}

/// What an entry did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The first revision of the entry; above `last` when it made none.
    pub first: i64,
    /// The store's revision after the entry.
    pub last: i64,
    /// The entry's changes in order.
    pub rows: Arc<[Row]>,
    /// How many bytes their payloads have.
    pub payload_bytes: usize,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let state = shared.state.read();
        let (revision, compacted) = (state.published, state.compacted);
        drop(state);
        Self {
            shared,
            piece: BytesMut::new(),
            revision,
            published: revision,
            compacted,
            first_compaction: None,
            rows: Vec::new(),
            tables: Vec::new(),
        }
    }

    /// Goes on from what the store is now, after another was [installed](crate::Flusher::install) in its place.
    pub fn reload(&mut self) {
        *self = Self::new(self.shared.clone());
    }

    /// Begins a record. Its changes, if any, share the next revision.
    pub fn begin(&mut self) -> Txn<'_> {
        Txn {
            main: self.revision + 1,
            sub: 0,
            writer: self,
        }
    }

    /// How many keys a range holds (etcd's convention, as in [`Query`]), without a walk.
    pub fn count(&self, key: &[u8], end: &[u8]) -> u64 {
        let state = self.shared.state.read();
        let newest = state.index.newest();
        let count = state.index.count(KeyRange::new(key, end), newest);
        count.expect("the newest keys are counted in the tree's nodes")
    }

    /// Writes `key` of a small table, or removes it. Durable with the entry's rows.
    ///
    /// # Panics
    /// When `key` is longer than [`Table::MAX_KEY_BYTES`].
    pub fn set(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        assert!(
            key.len() <= Table::MAX_KEY_BYTES,
            "a table's key must be refused before it is proposed"
        );
        self.tables.push(TableChange::new(table, key, value));
    }

    /// Makes everything below `revision` unreadable: for this entry's records at once, for others when it is sealed.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] when that was compacted before, [`ReadError::Future`] above the store's revision.
    /// Nothing changed then.
    pub fn compact(&mut self, revision: i64) -> Result<(), ReadError> {
        if revision <= self.compacted {
            return Err(ReadError::Compacted);
        }
        if revision > self.revision {
            return Err(ReadError::Future);
        }
        self.compacted = revision;
        self.first_compaction.get_or_insert(revision);
        Ok(())
    }

    /// Ends the entry at `position` of the log: publishes its revisions and hands it to the flusher. `applied` comes
    /// back from [`Store::open`](crate::Store::open) when this was the last entry flushed.
    pub fn seal(&mut self, position: u64, applied: Bytes) -> Sealed {
        let rows: Arc<[Row]> = std::mem::take(&mut self.rows).into();
        let entry = Arc::new(SealedEntry {
            position,
            applied,
            revision: self.revision,
            compacted: self.compacted,
            first_compaction: self.first_compaction.take(),
            tables: std::mem::take(&mut self.tables),
            row_bytes: rows.iter().map(Row::cost).sum(),
        });
        let first = self.published + 1;
        self.published = self.revision;
        // Ahead of their publication no reader finds rows in the ring.
        let (ahead, last) = rows.split_at(rows.len().saturating_sub(KEYS_PER_LOCK));
        for some in ahead.chunks(KEYS_PER_LOCK) {
            self.shared.state.write().ring.append(some);
        }
        let mut state = self.shared.state.write();
        state.ring.append(last);
        state.published = self.revision;
        state.compacted = self.compacted;
        state.queued_bytes += entry.cost() as u64;
        state.queue.push_back(entry);
        state.index.trim(self.revision);
        drop(state);
        Sealed {
            first,
            last: self.revision,
            payload_bytes: rows.iter().map(|row| row.payload.len()).sum(),
            rows,
        }
    }

    fn push(
        &mut self,
        revision: Revision,
        previous: Option<&Meta>,
        tombstone: bool,
        kv: &KeyValueRef<'_>,
    ) {
        let payload = self.encode(kv);
        let previous = previous.map(|meta| meta.mod_revision);
        self.rows.push(Row {
            revision,
            previous,
            tombstone,
            payload,
        });
    }

    fn encode(&mut self, kv: &KeyValueRef<'_>) -> Bytes {
        let len = kv.encoded_len();
        if len > PIECE_BYTES / 2 {
            return kv.encode();
        }
        if self.piece.capacity() < len {
            self.piece = BytesMut::with_capacity(PIECE_BYTES);
        }
        kv.encode_into(&mut self.piece);
        self.piece.split().freeze()
    }
}

/// One record's reads and writes. It reads what it wrote; dropped, it has written what it wrote.
pub struct Txn<'w> {
    writer: &'w mut Writer,
    main: i64,
    sub: u32,
}

impl Txn<'_> {
    /// Writes `key` and gives the version it replaces.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: i64) -> Option<Meta> {
        let revision = self.next();
        let previous = self
            .writer
            .shared
            .state
            .write()
            .index
            .put(key, revision, lease);
        let kv = KeyValueRef {
            key,
            create_revision: previous
                .as_ref()
                .map_or(revision.main, |meta| meta.create_revision),
            mod_revision: revision.main,
            version: previous.as_ref().map_or(1, |meta| meta.version + 1),
            value,
            lease,
        };
        self.writer.push(revision, previous.as_ref(), false, &kv);
        previous
    }

    /// Deletes the keys of a range (etcd's convention, as in [`Query`]) in key order, after `each` has seen them.
    /// Says how many there were.
    pub fn delete_range(
        &mut self,
        key: &[u8],
        end: &[u8],
        each: &mut dyn FnMut(&[u8], &Meta),
    ) -> u64 {
        if end.is_empty() {
            return self.delete(key, each).into();
        }
        let range = KeyRange::new(key, end);
        let mut cursor = Cursor::new();
        let mut deleted = 0;
        while !cursor.is_done() {
            let mut keys = Vec::new();
            self.writer.shared.state.read().index.scan_newest(
                range,
                &mut cursor,
                KEYS_PER_LOCK,
                |key, _| {
                    keys.push(key.to_vec());
                    true
                },
            );
            deleted += keys
                .iter()
                .map(|key| u64::from(self.delete(key, each)))
                .sum::<u64>();
        }
        deleted
    }

    fn delete(&mut self, key: &[u8], each: &mut dyn FnMut(&[u8], &Meta)) -> bool {
        let revision = Revision::new(self.main, self.sub);
        let Some(previous) = self.writer.shared.state.write().index.delete(key, revision) else {
            return false;
        };
        self.sub += 1;
        each(key, &previous);
        let kv = KeyValueRef {
            key,
            ..Default::default()
        };
        self.writer.push(revision, Some(&previous), true, &kv);
        true
    }

    fn next(&mut self) -> Revision {
        let revision = Revision::new(self.main, self.sub);
        self.sub += 1;
        revision
    }

    /// Whether anything was written, so that the record takes a revision.
    pub fn changed(&self) -> bool {
        self.sub > 0
    }

    /// Ends the record and gives the store's revision after it.
    pub fn commit(self) -> i64 {
        self.latest()
    }

    fn latest(&self) -> i64 {
        if self.changed() {
            self.main
        } else {
            self.writer.revision
        }
    }

    fn frame(&self) -> Frame<'_> {
        Frame {
            shared: &self.writer.shared,
            latest: Some(self.latest()),
            unpublished: &self.writer.rows,
            compacted: self.writer.compacted,
        }
    }
}

impl Drop for Txn<'_> {
    fn drop(&mut self) {
        self.writer.revision = self.latest();
    }
}

read_through_frame!(Txn<'_>);
