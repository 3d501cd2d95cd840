//! Opening a store: finding its environment, reading its facts, building its index.
//!
//! The index comes from the checkpoint and the rows after it, or from the whole history. Nothing is repaired: what is
//! damaged is refused with what to do about it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::checkpoint::{self, Checkpoints};
use crate::compaction_hash::KeptHashes;
use crate::counters::Tally;
use crate::current::{self, EnvNumber, Pointer};
use crate::durable::{Durable, DurableError, FORMAT};
use crate::env::{Environment, Snapshot, StorageError, sync_dir};
use crate::flush::Flusher;
use crate::hold::Holds;
use crate::index::Index;
use crate::ring::Ring;
use crate::shared::{Shared, State};
use crate::{DamagedRow, KeyValueRef, Meta, Options, ReadError, Revision, Store, Writer};

/// An open store, taken apart for those who work with it.
pub struct Opened {
    /// For readers.
    pub store: Store,
    /// For the applier.
    pub writer: Writer,
    /// For the thread that makes rows durable.
    pub flusher: Flusher,
    /// What the last flushed entry was sealed with; none in a new store.
    pub applied: Option<Bytes>,
    /// The position of the last flushed entry, 0 in a new store: the log goes on after it.
    pub position: u64,
}

/// Why a store was not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory holds something else, or a store without its pointer.
    #[error(
        "{0} is not a Keystead store: it has no file CURRENT. Give an empty directory, or restore the file: \
         it holds the name of the env- directory that is the store's"
    )]
    NotAStore(PathBuf),
    /// The pointer names nothing.
    #[error(
        "{0} does not name a directory that exists. Restore the member's data from a snapshot or its peers"
    )]
    BrokenPointer(PathBuf),
    /// A newer version of Keystead wrote the store.
    #[error(
        "the store in {dir} has format {found}, this version reads up to {FORMAT}: start a newer version"
    )]
    NewerFormat {
        /// The store.
        dir: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The facts about the store are damaged.
    #[error(
        "the record of what is durable in {0} is damaged. Restore the member's data from a snapshot or its peers"
    )]
    CorruptMeta(PathBuf),
    /// A row of the history is damaged.
    #[error(
        "the store in {dir} is damaged: {damage}. Restore the member's data from a snapshot or its peers"
    )]
    CorruptRow {
        /// The store.
        dir: PathBuf,
        /// Which row.
        damage: DamagedRow,
    },
    /// The files can't be opened or read.
    #[error("the store in {dir} can't be opened: {error}")]
    Storage {
        /// The store.
        dir: PathBuf,
        /// Why.
        error: StorageError,
    },
}

impl Store {
    /// Opens the store in `dir`, or makes an empty one there: revision 1, nothing compacted.
    ///
    /// One process may have it open, once; the caller holds a lock that says so.
    ///
    /// # Errors
    /// Every kind of [`OpenError`]. Nothing was changed.
    pub fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
        let failed = |error: StorageError| OpenError::Storage {
            dir: dir.to_owned(),
            error,
        };
        fs::create_dir_all(dir).map_err(|error| failed(error.into()))?;
        let number = match current::read(dir).map_err(failed)? {
            Pointer::At(number) => number,
            Pointer::Absent => create(dir, options).map_err(failed)?,
            Pointer::Lost => return Err(OpenError::NotAStore(dir.to_owned())),
            Pointer::Broken => return Err(OpenError::BrokenPointer(dir.join("CURRENT"))),
        };
        current::remove_leftovers(dir, number).map_err(failed)?;
        let env = Arc::new(Environment::open(dir, number, options).map_err(failed)?);
        let snapshot = env.snapshot().map_err(failed)?;
        let durable = durable_facts(dir, &snapshot)?;
        let built = build_index(Some(dir), &snapshot, &durable).map_err(|error| match error {
            ReadError::Corrupt(damage) => OpenError::CorruptRow {
                dir: dir.to_owned(),
                damage,
            },
            ReadError::Storage(error) => failed(error),
            ReadError::Compacted | ReadError::Future => OpenError::CorruptMeta(dir.to_owned()),
        })?;
        drop(snapshot);
        let opened = assemble(dir, options, env, built, durable);
        opened
            .flusher
            .measure(&opened.flusher.env())
            .map_err(failed)?;
        Ok(opened)
    }
}

/// Makes the first environment and points to it. The pointer is written aside before and gets its name after, so that a
/// start which was cut short is told from a store that lost its pointer.
fn create(dir: &Path, options: &Options) -> Result<EnvNumber, StorageError> {
    current::write_aside(dir, EnvNumber::FIRST)?;
    let first = dir.join(EnvNumber::FIRST.name());
    if first.is_dir() {
        fs::remove_dir_all(&first)?;
    }
    drop(Environment::open(dir, EnvNumber::FIRST, options)?);
    sync_dir(dir)?;
    current::place(dir)?;
    Ok(EnvNumber::FIRST)
}

fn durable_facts(dir: &Path, snapshot: &Snapshot) -> Result<Durable, OpenError> {
    let failed = |error: StorageError| OpenError::Storage {
        dir: dir.to_owned(),
        error,
    };
    match snapshot.durable() {
        Ok(Some(durable)) => Ok(durable),
        Ok(None) if snapshot.rows().map_err(failed)? == 0 => Ok(Durable::fresh()),
        Ok(None) | Err(DurableError::Damaged) => Err(OpenError::CorruptMeta(dir.to_owned())),
        Err(DurableError::Newer(found)) => Err(OpenError::NewerFormat {
            dir: dir.to_owned(),
            found,
        }),
        Err(DurableError::Storage(error)) => Err(failed(error)),
    }
}

/// The index, and what it was built from.
pub(crate) struct Built {
    index: Index,
    /// The cut of the checkpoint; 0 for none.
    cut: i64,
    /// Rows of the history.
    rows: u64,
}

/// Builds the index from the checkpoint in `dir`, if there is one, and the rows behind it.
pub(crate) fn build_index(
    dir: Option<&Path>,
    snapshot: &Snapshot,
    durable: &Durable,
) -> Result<Built, ReadError> {
    let (mut index, cut) = dir
        .and_then(|dir| checkpoint::read(dir, durable))
        .unwrap_or_else(|| (Index::new(), 0));
    let (mut last, mut rows) = (None, 0);
    snapshot.walk(
        Revision::new(cut + 1, 0),
        durable.revision,
        |revision, header, payload| {
            let kv = KeyValueRef::decode(payload).map_err(|_| DamagedRow { revision })?;
            let meta = Meta {
                create_revision: kv.create_revision,
                mod_revision: revision,
                version: kv.version,
                lease: kv.lease,
            };
            index.restore(kv.key, revision, (!header.tombstone).then_some(&meta));
            last = Some(revision.main);
            rows += 1;
            Ok(true)
        },
    )?;
    // Compaction leaves a row of the newest revision, always: a history that ends before it has lost rows.
    let newest = last.unwrap_or(cut).max(Durable::fresh().revision);
    let lacks_rows = cut == 0 && rows != snapshot.rows()?;
    if newest < durable.revision || lacks_rows {
        return Err(DamagedRow {
            revision: Revision::new(durable.revision, 0),
        }
        .into());
    }
    Ok(Built { index, cut, rows })
}

/// The faces of a store over `env`, whose facts and index were read.
pub(crate) fn assemble(
    dir: &Path,
    options: &Options,
    env: Arc<Environment>,
    built: Built,
    durable: Durable,
) -> Opened {
    let Built { index, cut, rows } = built;
    let last_env = env.number();
    let state = State {
        index,
        ring: Ring::new(durable.revision + 1, options.ring_bytes),
        queue: Default::default(),
        queued_bytes: 0,
        env,
        published: durable.revision,
        durable: durable.revision,
        compacted: durable.compacted,
    };
    let shared = Arc::new(Shared {
        state: RwLock::new(state),
        dir: dir.to_owned(),
        options: options.clone(),
        tally: Tally::after_reading(rows),
        holds: Arc::new(Holds::default()),
        kept_hashes: KeptHashes::default(),
        physically_compacted: durable.physically_compacted.into(),
        total_bytes: 0.into(),
        in_use_bytes: 0.into(),
    });
    let (applied, position) = (durable.applied.clone(), durable.position);
    let checkpoints = Checkpoints::with(cut, rows);
    Opened {
        store: Store(shared.clone()),
        writer: Writer::new(shared.clone()),
        flusher: Flusher {
            shared,
            durable,
            hashing: None,
            checkpoints,
            retired: Vec::new(),
            last_env,
            reserve_is_open: false,
        },
        applied,
        position,
    }
}
