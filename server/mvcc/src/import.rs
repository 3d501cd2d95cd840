//! Building a store from an export, aside from the one that is open, and putting it in its place.
//!
//! ```text
//! Flusher::begin_import .. Import::row, table .. Import::finish     any thread; the store serves meanwhile
//! Imported::store().hash_kv                                         is it what was sent?
//! Flusher::install, then Writer::reload                             the pointer is swapped; readers see the new store
//! ```
//! A crash before the pointer is swapped leaves the old store and a leftover directory that the next start removes.

use std::path::PathBuf;
use std::sync::Arc;

use crate::counters::Tally;
use crate::current;
use crate::durable::Durable;
use crate::env::{Environment, sync_dir};
use crate::flush::{FlushError, Flusher};
use crate::open::{assemble, build_index};
use crate::{Cut, Options, Revision, Row, StorageError, Store, TableEntry};

/// A store being built aside. Dropped before it is installed, it removes its files.
pub struct Import {
    env: Arc<Environment>,
    dir: PathBuf,
    options: Options,
    pending: Vec<Row>,
    pending_bytes: usize,
}

/// A store that was built aside and waits to be installed.
pub struct Imported {
    env: Arc<Environment>,
    durable: Durable,
    store: Store,
}

impl Flusher {
    /// Begins to build a store aside.
    ///
    /// # Errors
    /// [`FlushError::Full`] and [`FlushError::Storage`].
    pub fn begin_import(&mut self) -> Result<Import, FlushError> {
        let number = self.next_env();
        let (dir, options) = (self.shared.dir.clone(), self.shared.options.clone());
        let env = Arc::new(Environment::open(&dir, number, &options)?);
        env.retire();
        Ok(Import {
            env,
            dir,
            options,
            pending: Vec::new(),
            pending_bytes: 0,
        })
    }

    /// Puts an imported store in the place of this one: its rows, tables, revision. What was not flushed is dropped.
    /// The writer must be idle until it has [reloaded](crate::Writer::reload).
    ///
    /// # Errors
    /// [`FlushError::Full`] and [`FlushError::Storage`]; the old store is still in place if the pointer is.
    pub fn install(&mut self, imported: Imported) -> Result<(), FlushError> {
        let Imported {
            env,
            durable,
            store,
        } = imported;
        let fresh = Arc::try_unwrap(store.0).map_err(|_| FlushError::Storage(still_read()))?;
        self.hashing = None;
        self.discard_checkpoints()?;
        current::write(&self.shared.dir, env.number())?;
        env.keep();
        let fresh = fresh.state.into_inner();
        let mut state = self.shared.state.write();
        // Who sees the new store sees that what it held is of another.
        self.shared.holds.break_all();
        let old = std::mem::replace(&mut *state, fresh);
        drop(state);
        Tally::add(&self.shared.tally.damaged_reads, old.env.damage());
        old.env.retire();
        self.retired.push(old.env.clone());
        self.adopt(durable);
        self.checkpoints.add_rows(env.snapshot()?.rows()?);
        self.measure(&env)?;
        Ok(())
    }
}

fn still_read() -> StorageError {
    StorageError::Lmdb("an imported store is still being read".to_owned())
}

impl Import {
    /// Adds rows, which continue in revision order.
    ///
    /// # Errors
    /// [`FlushError::Full`] and [`FlushError::Storage`]; begin again.
    pub fn rows(&mut self, rows: impl IntoIterator<Item = Row>) -> Result<(), FlushError> {
        for row in rows {
            self.pending_bytes += row.cost();
            self.pending.push(row);
            if self.pending_bytes >= self.options.flush_txn_bytes {
                self.write(&[], &Durable::fresh())?;
            }
        }
        Ok(())
    }

    /// Ends the import: writes the tables and the facts of the cut, syncs all, and builds the index.
    ///
    /// # Errors
    /// Every kind of [`FlushError`]; begin again.
    pub fn finish(mut self, cut: &Cut, tables: &[TableEntry]) -> Result<Imported, FlushError> {
        let durable = Durable {
            revision: cut.revision,
            compacted: cut.compacted,
            physically_compacted: cut.physically_compacted,
            walk: Revision::new(cut.physically_compacted.max(0), 0),
            position: cut.position,
            applied: cut.applied.clone(),
        };
        self.write(tables, &durable)?;
        sync_dir(self.env.dir())?;
        let built = build_index(None, &self.env.snapshot()?, &durable)?;
        let opened = assemble(
            &self.dir,
            &self.options,
            self.env.clone(),
            built,
            durable.clone(),
        );
        Ok(Imported {
            env: self.env,
            durable,
            store: opened.store,
        })
    }

    fn write(&mut self, tables: &[TableEntry], durable: &Durable) -> Result<(), FlushError> {
        let mut change = self.env.change()?;
        for row in self.pending.drain(..) {
            change.append(&row)?;
        }
        for entry in tables {
            change.set(&entry.table.stored_key(&entry.key), Some(&entry.value))?;
        }
        change.commit(durable)?;
        self.pending_bytes = 0;
        Ok(())
    }
}

impl Imported {
    /// The store as it will be, for checking it. Drop what you read with before it is installed.
    pub fn store(&self) -> &Store {
        &self.store
    }
}
