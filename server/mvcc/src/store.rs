//! The face of the store for readers: services, the watch hub, snapshots.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::frame::Frame;
use crate::shared::{KEYS_PER_LOCK, Shared};
use crate::{Counters, Meta, Page, Query, Read, ReadError, Revision, Row, Sizes, Table};

/// Reads the store at its published revision. Cheap to clone; any thread may read.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Shared>);

/// The store as it was at one revision, as long as compaction does not pass it.
#[derive(Clone)]
pub struct View {
    store: Store,
    revision: i64,
}

impl Store {
    /// The store as of its published revision, for several reads that must agree with each other.
    pub fn view(&self) -> View {
        View {
            store: self.clone(),
            revision: self.current(),
        }
    }

    /// The changes of the revisions `from..=upto` in order, whole revisions, as far as `max_bytes` goes and at least
    /// one revision if there is any. What is above the published revision is left out; when fewer than all come back,
    /// the bound has cut them: ask again from the revision after the last.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] when `from` is below the compaction revision, so that changes may be gone.
    pub fn events(&self, from: i64, upto: i64, max_bytes: usize) -> Result<Vec<Row>, ReadError> {
        let mut batch = Batch {
            rows: Vec::new(),
            bytes: 0,
            max_bytes,
            full: false,
        };
        let mut next = Revision::new(from, 0);
        while !batch.full {
            let state = self.0.state.read();
            if next.main < state.compacted {
                return Err(ReadError::Compacted);
            }
            let upto = upto.min(state.published);
            if next.main >= state.ring.first() {
                let recent = state.ring.from(next).take(KEYS_PER_LOCK);
                let mut recent = recent
                    .take_while(|row| row.revision.main <= upto)
                    .peekable();
                if recent.peek().is_none() {
                    break;
                }
                recent.for_each(|row| batch.push(row.revision, row.payload.len(), || row.clone()));
            } else {
                let border = state.ring.first();
                let snapshot = state.env.snapshot()?;
                drop(state);
                snapshot.walk(next, upto.min(border - 1), |revision, header, payload| {
                    batch.push(revision, payload.len(), || {
                        Row::new(revision, header, payload)
                    });
                    Ok(!batch.full)
                })?;
                if upto < border {
                    break;
                }
                // No revision lies on both sides: the ring holds whole ones. There may be none on this side.
                next = Revision::new(border, 0);
                continue;
            }
            next = batch.next();
        }
        Ok(batch.rows)
    }

    /// The row of one revision, if it was published and compaction has not removed it: a change's previous version.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] and [`ReadError::Storage`].
    pub fn row(&self, revision: Revision) -> Result<Option<Row>, ReadError> {
        let state = self.0.state.read();
        if revision.main > state.published {
            return Ok(None);
        }
        if revision.main >= state.ring.first() {
            return Ok(state.ring.get(revision).cloned());
        }
        let snapshot = state.env.snapshot()?;
        drop(state);
        snapshot.row(revision)
    }

    /// The entries of a small table as of the published revision, in key order. Meant for start-up: it reads them all.
    ///
    /// # Errors
    /// [`ReadError::Storage`].
    pub fn table(&self, table: Table) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        let state = self.0.state.read();
        let queued: Vec<_> = state
            .queue
            .iter()
            .filter(|entry| !entry.tables.is_empty())
            .cloned()
            .collect();
        let snapshot = state.env.snapshot()?;
        drop(state);
        let mut entries: std::collections::BTreeMap<_, _> =
            snapshot.table(table)?.into_iter().collect();
        let changes = queued.iter().flat_map(|entry| &entry.tables);
        for change in changes.filter(|change| change.key.first() == Some(&table.0)) {
            let key = change.key.slice(1..);
            match &change.value {
                Some(value) => drop(entries.insert(key, value.clone())),
                None => drop(entries.remove(&key)),
            }
        }
        Ok(entries.into_iter().collect())
    }

    /// How much the store holds.
    pub fn sizes(&self) -> Sizes {
        let state = self.0.state.read();
        let in_use_bytes = self.0.in_use_bytes.load(Ordering::Relaxed);
        Sizes {
            total_bytes: self.0.total_bytes.load(Ordering::Relaxed),
            in_use_bytes,
            logical_bytes: in_use_bytes + state.queued_bytes,
            unflushed_bytes: state.queued_bytes,
            keys: state.index.live_keys(),
        }
    }

    /// What the key index has allocated, for metrics: it looks at every node, tens of microseconds per million keys.
    pub fn index_bytes(&self) -> usize {
        self.0.state.read().index.heap_bytes()
    }

    /// What the store has done since it was opened.
    pub fn counters(&self) -> Counters {
        let before = self.0.tally.read();
        Counters {
            damaged_reads: before.damaged_reads + self.0.state.read().env.damage(),
            ..before
        }
    }

    /// The newest revision that a crash leaves.
    pub fn durable(&self) -> i64 {
        self.0.state.read().durable
    }

    fn frame(&self) -> Frame<'_> {
        Frame {
            shared: &self.0,
            latest: None,
            unpublished: &[],
            compacted: -1,
        }
    }
}

/// Whole revisions up to a bound of bytes.
struct Batch {
    rows: Vec<Row>,
    bytes: usize,
    max_bytes: usize,
    full: bool,
}

impl Batch {
    /// Adds a row, unless it or one before it begins a revision after the bound was reached.
    fn push(&mut self, revision: Revision, bytes: usize, row: impl FnOnce() -> Row) {
        let begins = self
            .rows
            .last()
            .is_some_and(|last| last.revision.main != revision.main);
        self.full |= begins && self.bytes >= self.max_bytes;
        if !self.full {
            self.bytes += bytes;
            self.rows.push(row());
        }
    }

    /// The place after the last row.
    fn next(&self) -> Revision {
        self.rows
            .last()
            .map_or(Revision::new(i64::MAX, 0), |last| last.revision.next())
    }
}

impl View {
    /// The revision in view.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    fn frame(&self) -> Frame<'_> {
        Frame {
            latest: Some(self.revision),
            ..self.store.frame()
        }
    }
}

macro_rules! read_through_frame {
    ($type:ty) => {
        impl Read for $type {
            fn read(&self, query: &Query<'_>) -> Result<Page, ReadError> {
                self.frame().read(query)
            }

            fn meta(&self, key: &[u8]) -> Result<Option<Meta>, ReadError> {
                self.frame().meta(key)
            }

            fn metas_in(
                &self,
                key: &[u8],
                end: &[u8],
                each: &mut dyn FnMut(&[u8], &Meta) -> bool,
            ) -> Result<(), ReadError> {
                self.frame().metas_in(key, end, each)
            }

            fn current(&self) -> i64 {
                self.frame().current()
            }

            fn compacted(&self) -> i64 {
                self.frame().compacted()
            }
        }
    };
}
pub(crate) use read_through_frame;

read_through_frame!(Store);
read_through_frame!(View);
