//! The LMDB environment: one directory with the history, the small tables and the durable facts.
//!
//! The flusher writes it, readers open short transactions on it. Commits are synced by LMDB's default rules and never
//! by weaker ones: NOSYNC and WRITEMAP corrupt silently. Nothing here knows of the index or the ring.

use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;
use heed::{CommitOrAbort, EnvFlags, EnvOpenOptions, MdbError, PutFlags, RoTxn, RwTxn, WithoutTls};

use crate::current::EnvNumber;
use crate::durable::{Durable, DurableError};
use crate::rest;
use crate::row::{self, Header};
use crate::{DamagedRow, Options, ReadError, Revision, Row, Table};

type Database = heed::Database<'static, heed::types::Bytes, heed::types::Bytes>;

/// LMDB's name for it.
const DATA_FILE: &str = "data.mdb";
/// A file that is there for a moment, to learn whether there is room.
const PROBE: &str = "room";
/// LMDB's page on the machines we run on, and what a change of one entry may cost.
const PAGE_BYTES: u64 = 4096;
/// Branch pages and the list of free pages, which a commit writes beside its rows.
const SLACK_BYTES: u64 = 1 << 20;
/// LMDB's table of readers; a slot of it is a line of the processor's cache, behind a head with the locks.
const READERS: &str = "lock.mdb";
const READER_BYTES: u64 = 64;
const READERS_HEAD_BYTES: u64 = 1024;
const DURABLE_KEY: &[u8] = b"durable";

/// LMDB or the file system refused.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk, or the quota of its user, or the map is full. What was committed before stays.
    #[error("no space is left for the store")]
    Full,
    /// Reading or writing a file failed. After a failed sync only a restart tells what is on the disk.
    #[error("the store's files: {0}")]
    Io(io::Error),
    /// LMDB found its file or its use wrong.
    #[error("LMDB: {0}")]
    Lmdb(String),
    /// An entry of a small table is not what was written.
    #[error(
        "an entry of table {table} in {dir} is damaged. Restore the member's data from a snapshot or its peers"
    )]
    DamagedTable {
        /// The environment's directory.
        dir: PathBuf,
        /// The table's number.
        table: u8,
    },
}

impl From<heed::Error> for StorageError {
    fn from(error: heed::Error) -> Self {
        match error {
            heed::Error::Mdb(MdbError::MapFull) => Self::Full,
            heed::Error::Io(error) => error.into(),
            other => Self::Lmdb(other.to_string()),
        }
    }
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> Self {
        if is_full(&error) {
            Self::Full
        } else {
            Self::Io(error)
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// LMDB calls a write that the file system took only the first part of an I/O error: it is one, unless there is no room
/// for `bytes` and what they drag along. Nothing was committed: the pages are written anew by the next transaction.
fn is_short_write(error: &io::Error, dir: &Path, bytes: u64) -> bool {
    let eio = rustix::io::Errno::IO.raw_os_error();
    error.raw_os_error() == Some(eio) && !has_room(dir, 2 * bytes + SLACK_BYTES)
}

/// Whether the file system, and the quota of its user, let a file in `dir` take this many bytes.
fn has_room(dir: &Path, bytes: u64) -> bool {
    let path = dir.join(PROBE);
    let taken = fs::File::create(&path).and_then(|file| {
        let flags = rustix::fs::FallocateFlags::empty();
        Ok(rustix::fs::fallocate(&file, flags, 0, bytes)?)
    });
    // What can't be removed goes with the environment.
    let _ = fs::remove_file(&path);
    !taken.is_err_and(|error| is_full(&error))
}

/// Gives the table of readers its room on the disk. It is written through a mapping, where a full disk is no error but the
/// end of the process.
fn set_readers_aside(dir: &Path, max_readers: u32) -> Result<(), StorageError> {
    let table = fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join(READERS))?;
    let bytes = READER_BYTES * u64::from(max_readers) + READERS_HEAD_BYTES;
    match rustix::fs::fallocate(&table, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        // A file system that can't set room aside goes without.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// An open environment. Dropped by its last reader; a retired one then takes its directory with it.
pub(crate) struct Environment {
    env: heed::Env<WithoutTls>,
    history: Database,
    tables: Database,
    meta: Database,
    dir: PathBuf,
    number: EnvNumber,
    retired: AtomicBool,
    /// How often a row was read that is not what was written.
    damage: AtomicU64,
}

impl Environment {
    /// Opens environment `number` of the store in `store_dir`, making what is missing.
    pub(crate) fn open(
        store_dir: &Path,
        number: EnvNumber,
        options: &Options,
    ) -> Result<Self, StorageError> {
        let dir = store_dir.join(number.name());
        fs::create_dir_all(&dir)?;
        set_readers_aside(&dir, options.max_readers)?;
        let mut open = EnvOpenOptions::new().read_txn_without_tls();
        open.map_size(options.map_size())
            .max_readers(options.max_readers)
            .max_dbs(3);
        // SAFETY: NO_READ_AHEAD and NO_MEM_INIT weaken no guarantee of LMDB's. The file is opened by this process alone:
        // whoever opens the store holds the lock of the data directory around it, and heed refuses a second handle.
        let env = unsafe {
            open.flags(EnvFlags::NO_READ_AHEAD | EnvFlags::NO_MEM_INIT)
                .open(&dir)?
        };
        let txn = env.write_txn()?;
        let (history, tables, meta) = env
            .create_databases_and_commit(txn, |opener, txn| {
                let history = opener.create_database(txn, Some("history"))?;
                let tables = opener.create_database(txn, Some("tables"))?;
                let meta = opener.create_database(txn, Some("meta"))?;
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((history, tables, meta)))
            })?
            .commit()
            .expect("the closure always commits");
        // LMDB syncs what is in its file, and not that there is one.
        sync_dir(&dir)?;
        Ok(Self {
            env,
            history,
            tables,
            meta,
            dir,
            number,
            retired: AtomicBool::new(false),
            damage: AtomicU64::new(0),
        })
    }

    /// The value of a table's entry, its checksum verified.
    fn checked<'v>(&self, key: &[u8], stored: &'v [u8]) -> Result<&'v [u8], StorageError> {
        match stored.split_first_chunk() {
            Some((crc, value)) if u32::from_be_bytes(*crc) == table_checksum(key, value) => {
                Ok(value)
            }
            _ => Err(StorageError::DamagedTable {
                dir: self.dir.clone(),
                table: key.first().copied().unwrap_or(0),
            }),
        }
    }

    /// The directory the environment lives in.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Which of the store's environments this is.
    pub(crate) fn number(&self) -> EnvNumber {
        self.number
    }

    /// How often a row was read that is not what was written, or is not there.
    pub(crate) fn damage(&self) -> u64 {
        self.damage.load(Ordering::Relaxed)
    }

    /// From now on the directory is removed when the last user lets go.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// The directory stays: the store points to it.
    pub(crate) fn keep(&self) {
        self.retired.store(false, Ordering::Release);
    }

    /// Gives the space of a retired environment back that nobody else has, the most of it and up to a bound. Says whether
    /// the environment may be dropped now.
    pub(crate) fn give_space_back(&self) -> bool {
        let file = File::options().write(true).open(self.dir.join(DATA_FILE));
        // What can't be shortened goes at once.
        file.and_then(|file| rest::shorten(&file)).unwrap_or(true)
    }

    /// A consistent view of what is committed now.
    pub(crate) fn snapshot(self: &Arc<Self>) -> Result<Snapshot, StorageError> {
        let txn = self.env.clone().static_read_txn()?;
        Ok(Snapshot {
            txn,
            env: self.clone(),
        })
    }

    /// A transaction that changes the environment, of which there is one at a time.
    pub(crate) fn change(&self) -> Result<Change<'_>, StorageError> {
        Ok(Change {
            txn: self.env.write_txn()?,
            env: self,
            scratch: Vec::new(),
            touched_bytes: 0,
        })
    }

    /// The size of the data file, and of its pages that are in use.
    pub(crate) fn sizes(self: &Arc<Self>) -> Result<(u64, u64), StorageError> {
        let txn = self.env.read_txn()?;
        let mut pages = 0;
        let mut page_bytes = 0;
        for database in [self.history, self.tables, self.meta] {
            let stat = database.stat(&txn)?;
            pages += stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
            page_bytes = stat.page_size as u64;
        }
        let in_use = pages as u64 * page_bytes;
        Ok((self.env.real_disk_size()?, in_use))
    }

    /// Writes a copy without free pages to `dir`, on a read transaction of its own, and syncs it. LMDB writes as fast as
    /// it can, so what it writes goes through a pipe, at the other end of which it is written with rests.
    pub(crate) fn copy_to(&self, dir: &Path) -> Result<(), StorageError> {
        fs::create_dir_all(dir)?;
        let file = File::create(dir.join(DATA_FILE))?;
        let (mut pages, pipe) = io::pipe()?;
        let mut pipe = File::from(OwnedFd::from(pipe));
        thread::scope(|scope| {
            let copying = scope.spawn(move || {
                self.env
                    .copy_to_file(&mut pipe, heed::CompactionOption::Enabled)
            });
            let written = rest::copy(&mut pages, &file);
            // Without a reader the copy ends too.
            drop(pages);
            let copied = copying.join().expect("LMDB does not panic");
            // What ended the writing ended the copy.
            written.map_err(heed::Error::Io).and(copied)
        })?;
        file.sync_all()?;
        sync_dir(dir)
    }
}

/// LMDB's pages have no checksum, so an entry has one of its own.
fn table_checksum(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

impl Drop for Environment {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Acquire) {
            // What can't be removed now is a leftover that the next start removes.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StorageError> {
    Ok(File::open(dir)?.sync_all()?)
}

/// A read transaction; it keeps its environment open. Short-lived: LMDB reuses no page that it may still read.
pub(crate) struct Snapshot {
    txn: RoTxn<'static, WithoutTls>,
    env: Arc<Environment>,
}

impl Snapshot {
    /// The row of `revision`, its checksum verified.
    pub(crate) fn row(&self, revision: Revision) -> Result<Option<Row>, ReadError> {
        let key = row::revision_key(revision);
        let value = self
            .env
            .history
            .get(&self.txn, &key)
            .map_err(StorageError::from)?;
        let row = value.map(|value| Row::decode(revision, value)).transpose();
        row.map_err(|_| self.damaged(revision))
    }

    /// The row of `revision` is not what was written, or is missing: counts it.
    pub(crate) fn damaged(&self, revision: Revision) -> ReadError {
        self.env.damage.fetch_add(1, Ordering::Relaxed);
        DamagedRow { revision }.into()
    }

    /// Calls `each` for the rows from `from` up to main revision `upto`, in order, until it returns false.
    pub(crate) fn walk(
        &self,
        from: Revision,
        upto: i64,
        mut each: impl FnMut(Revision, Header, &[u8]) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        if from.main > upto {
            return Ok(());
        }
        let (first, last) = (
            row::revision_key(from),
            row::revision_key(Revision::new(upto, u32::MAX)),
        );
        let range = (Bound::Included(&first[..]), Bound::Included(&last[..]));
        let mut before = None;
        for found in self
            .env
            .history
            .range(&self.txn, &range)
            .map_err(StorageError::from)?
        {
            let (key, value) = found.map_err(StorageError::from)?;
            let key = key.try_into().map_err(|_| self.damaged(from))?;
            let revision = row::revision_of(key);
            // A damaged page may lead to a sound row of another place.
            if before.replace(revision).is_some_and(|it| it >= revision) {
                return Err(self.damaged(revision));
            }
            let (header, payload) =
                Header::decode(revision, value).map_err(|_| self.damaged(revision))?;
            if !each(revision, header, payload)? {
                break;
            }
        }
        Ok(())
    }

    /// The durable facts; none in an environment that was never written.
    pub(crate) fn durable(&self) -> Result<Option<Durable>, DurableError> {
        let bytes = self
            .env
            .meta
            .get(&self.txn, DURABLE_KEY)
            .map_err(StorageError::from)?;
        bytes.map(Durable::decode).transpose()
    }

    /// The entries of one small table, in key order.
    pub(crate) fn table(&self, table: Table) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        let prefix = [table.0];
        let mut entries = Vec::new();
        for found in self.env.tables.prefix_iter(&self.txn, &prefix)? {
            let (key, stored) = found?;
            let value = self.env.checked(key, stored)?;
            entries.push((
                Bytes::copy_from_slice(&key[1..]),
                Bytes::copy_from_slice(value),
            ));
        }
        Ok(entries)
    }

    /// Calls `each` for every entry of every table: its stored key, which begins with the table, and its value.
    pub(crate) fn walk_tables(
        &self,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        for found in self.env.tables.iter(&self.txn)? {
            let (key, stored) = found?;
            each(key, self.env.checked(key, stored)?)?;
        }
        Ok(())
    }

    /// How many rows the history holds.
    pub(crate) fn rows(&self) -> Result<u64, StorageError> {
        Ok(self.env.history.len(&self.txn)?)
    }
}

/// The write transaction. Dropped without a commit it changes nothing.
pub(crate) struct Change<'e> {
    txn: RwTxn<'e>,
    env: &'e Environment,
    scratch: Vec<u8>,
    /// About what the commit writes.
    touched_bytes: u64,
}

impl Change<'_> {
    /// Appends a row behind all that are there.
    pub(crate) fn append(&mut self, row: &Row) -> Result<(), StorageError> {
        row.encode(&mut self.scratch);
        let key = row::revision_key(row.revision);
        self.touched_bytes += (key.len() + self.scratch.len()) as u64;
        Ok(self
            .env
            .history
            .put_with_flags(&mut self.txn, PutFlags::APPEND, &key, &self.scratch)?)
    }

    /// Removes the row of `revision`. Says whether it was there.
    pub(crate) fn remove(&mut self, revision: Revision) -> Result<bool, StorageError> {
        self.touched_bytes += PAGE_BYTES;
        Ok(self
            .env
            .history
            .delete(&mut self.txn, &row::revision_key(revision))?)
    }

    /// Writes or removes an entry of a table, by its stored key.
    pub(crate) fn set(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StorageError> {
        self.touched_bytes += PAGE_BYTES + value.map_or(0, <[u8]>::len) as u64;
        match value {
            Some(value) => {
                let crc = table_checksum(key, value).to_be_bytes();
                self.scratch.clear();
                self.scratch.extend_from_slice(&crc);
                self.scratch.extend_from_slice(value);
                self.env.tables.put(&mut self.txn, key, &self.scratch)?;
            }
            None => drop(self.env.tables.delete(&mut self.txn, key)?),
        }
        Ok(())
    }

    /// Removes every entry of every table.
    pub(crate) fn clear_tables(&mut self) -> Result<(), StorageError> {
        Ok(self.env.tables.clear(&mut self.txn)?)
    }

    /// Writes the durable facts and commits; they and all changes are on the disk when this returns.
    pub(crate) fn commit(mut self, durable: &Durable) -> Result<(), StorageError> {
        self.env
            .meta
            .put(&mut self.txn, DURABLE_KEY, &durable.encode())?;
        let (dir, touched_bytes) = (&self.env.dir, self.touched_bytes);
        self.txn.commit().map_err(|error| match error.into() {
            StorageError::Io(error) if is_short_write(&error, dir, touched_bytes) => {
                StorageError::Full
            }
            other => other,
        })
    }
}
