//! All that is durable, as one consistent cut: for a follower's snapshot and for `Maintenance.Snapshot`.
//!
//! The cut is the last flush. Small tables are copied when the export begins; rows, which never change, are read in
//! revision order in short transactions, while physical compaction is held so that none goes away in between.

use std::sync::Arc;

use bytes::Bytes;

use crate::durable::Durable;
use crate::hold::Hold;
use crate::shared::Shared;
use crate::{ReadError, Revision, Row, StorageError, Store, Table};

/// What an export is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The store's revision.
    pub revision: i64,
    /// Nothing below this revision can be read.
    pub compacted: i64,
    /// The rows that compaction at this revision names are not among the rows.
    pub physically_compacted: i64,
    /// The position of the last entry.
    pub position: u64,
    /// What that entry was sealed with.
    pub applied: Option<Bytes>,
}

/// One entry of a small table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// The table.
    pub table: Table,
    /// The key in it.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// A cut of the store being read. Dropping it lets compaction go on.
pub struct Export {
    shared: Arc<Shared>,
    hold: Hold,
    cut: Cut,
    tables: Vec<TableEntry>,
    next: Revision,
}

impl Store {
    /// Begins an export of what is durable now. Flush before to have all that was applied.
    ///
    /// # Errors
    /// [`ReadError::Storage`].
    pub fn export(&self) -> Result<Export, ReadError> {
        let hold = self.0.holds.hold();
        let snapshot = self.0.state.read().env.snapshot()?;
        let durable = snapshot
            .durable()
            .map_err(StorageError::from)?
            .unwrap_or_else(Durable::fresh);
        let mut tables = Vec::new();
        snapshot.walk_tables(|key, value| {
            if let Some((table, key)) = key.split_first() {
                let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
                tables.push(TableEntry {
                    table: Table(*table),
                    key,
                    value,
                });
            }
            Ok(())
        })?;
        let cut = Cut {
            revision: durable.revision,
            compacted: durable.compacted,
            physically_compacted: durable.physically_compacted,
            position: durable.position,
            applied: durable.applied,
        };
        Ok(Export {
            shared: self.0.clone(),
            hold,
            cut,
            tables,
            next: Revision::new(0, 0),
        })
    }
}

impl Export {
    /// What the export is of.
    pub fn cut(&self) -> &Cut {
        &self.cut
    }

    /// The small tables at the cut.
    pub fn tables(&self) -> &[TableEntry] {
        &self.tables
    }

    /// Goes on from `revision`, for a receiver that has what is before it.
    pub fn resume_at(&mut self, revision: Revision) {
        self.next = revision;
    }

    /// The next rows in revision order, at least one and as many as `max_bytes` of payload allow; none at the end.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] when so much waited for compaction that rows were no longer held: begin again.
    /// [`ReadError::Corrupt`] and [`ReadError::Storage`].
    pub fn rows(&mut self, max_bytes: usize) -> Result<Vec<Row>, ReadError> {
        let snapshot = self.shared.state.read().env.snapshot()?;
        if self.hold.is_broken() {
            return Err(ReadError::Compacted);
        }
        let (mut rows, mut bytes) = (Vec::new(), 0);
        snapshot.walk(self.next, self.cut.revision, |revision, header, payload| {
            rows.push(Row::new(revision, header, payload));
            bytes += payload.len();
            Ok(bytes < max_bytes)
        })?;
        if let Some(last) = rows.last() {
            self.next = last.revision.next();
        }
        Ok(rows)
    }
}
