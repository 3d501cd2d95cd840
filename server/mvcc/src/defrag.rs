//! Defragmentation: a copy of the environment without its free pages takes the environment's place.
//!
//! ```text
//! begin     holds physical compaction, so that no row goes while the copy is made
//! copy      on any thread; flushes continue into the old environment
//! finish    appends the rows since, writes the tables anew, swaps the pointer, then the handle under the lock
//! ```
//! Readers wait for the swap of one pointer. The old environment lives until its last reader goes.

use std::sync::Arc;

use crate::counters::Tally;
use crate::current::{self, EnvNumber};
use crate::durable::Durable;
use crate::env::{Environment, Snapshot};
use crate::flush::{FlushError, Flusher};
use crate::hold::Hold;
use crate::{ReadError, Revision, Row, StorageError};

/// A copy about to be made.
pub struct Defragment {
    source: Arc<Environment>,
    number: EnvNumber,
    options: crate::Options,
    dir: std::path::PathBuf,
    hold: Hold,
}

/// A copy that is to take the environment's place. Dropped instead, it removes its files.
pub struct Copied {
    env: Arc<Environment>,
    hold: Hold,
}

/// What defragmentation gained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defragmented {
    /// The data file before.
    pub before_bytes: u64,
    /// The data file now.
    pub after_bytes: u64,
}

impl Flusher {
    /// Copies, catches up and swaps, all on this thread: nothing is flushed meanwhile.
    ///
    /// # Errors
    /// As [`finish_defragment`](Self::finish_defragment).
    pub fn defragment(&mut self) -> Result<Defragmented, FlushError> {
        let copied = self.begin_defragment().copy()?;
        self.finish_defragment(copied)
    }

    /// Begins a defragmentation: [`copy`](Defragment::copy) the environment on another thread, flush on this one as
    /// always, and [`finish`](Self::finish_defragment).
    pub fn begin_defragment(&mut self) -> Defragment {
        Defragment {
            hold: self.shared.holds.hold(),
            source: self.env(),
            number: self.next_env(),
            options: self.shared.options.clone(),
            dir: self.shared.dir.clone(),
        }
    }

    /// Brings the copy up to date and puts it in the environment's place.
    ///
    /// # Errors
    /// [`FlushError::Overtaken`] when the copy could not be held up to here: try again. Otherwise every kind. The old
    /// environment is still in place.
    pub fn finish_defragment(&mut self, copied: Copied) -> Result<Defragmented, FlushError> {
        let Copied { env, hold } = copied;
        let old = self.env();
        let before_bytes = old.sizes()?.0;
        self.catch_up(&old, &env)?;
        if hold.is_broken() {
            return Err(FlushError::Overtaken);
        }
        current::write(&self.shared.dir, env.number())?;
        env.keep();
        self.shared.state.write().env = env.clone();
        Tally::add(&self.shared.tally.damaged_reads, old.damage());
        old.retire();
        self.retired.push(old);
        self.measure(&env)?;
        self.remove_retired();
        Tally::add(&self.shared.tally.defragmentations, 1);
        Ok(Defragmented {
            before_bytes,
            after_bytes: env.sizes()?.0,
        })
    }

    /// Writes to `new` what was flushed to `old` since it was copied.
    fn catch_up(&self, old: &Arc<Environment>, new: &Arc<Environment>) -> Result<(), FlushError> {
        let source = old.snapshot()?;
        let mut durable = new
            .snapshot()?
            .durable()
            .map_err(StorageError::from)?
            .unwrap_or_else(Durable::fresh);
        loop {
            let rows = rows_after(
                &source,
                durable.revision,
                self.shared.options.flush_txn_bytes,
            )?;
            let Some(last) = rows.last() else {
                break;
            };
            durable.revision = last.revision.main;
            let mut change = new.change()?;
            for row in &rows {
                change.append(row)?;
            }
            change.commit(&durable)?;
        }
        let mut change = new.change()?;
        change.clear_tables()?;
        source.walk_tables(|key, value| change.set(key, Some(value)))?;
        Ok(change.commit(&self.durable)?)
    }
}

/// Whole revisions above `revision`, about `max_bytes` of them.
fn rows_after(source: &Snapshot, revision: i64, max_bytes: usize) -> Result<Vec<Row>, ReadError> {
    let (mut rows, mut bytes) = (Vec::<Row>::new(), 0);
    source.walk(
        Revision::new(revision + 1, 0),
        i64::MAX,
        |revision, header, payload| {
            let begins = rows
                .last()
                .is_some_and(|last| last.revision.main != revision.main);
            if begins && bytes >= max_bytes {
                return Ok(false);
            }
            bytes += payload.len();
            rows.push(Row::new(revision, header, payload));
            Ok(true)
        },
    )?;
    Ok(rows)
}

impl Defragment {
    /// Makes the copy. May take long; any thread.
    ///
    /// # Errors
    /// [`FlushError::Full`] and [`FlushError::Storage`]. What was copied is removed.
    pub fn copy(self) -> Result<Copied, FlushError> {
        let dir = self.dir.join(self.number.name());
        if let Err(error) = self.source.copy_to(&dir) {
            let _ = std::fs::remove_dir_all(&dir);
            return Err(error.into());
        }
        let env = Arc::new(Environment::open(&self.dir, self.number, &self.options)?);
        env.retire();
        Ok(Copied {
            env,
            hold: self.hold,
        })
    }
}
