//! Opens what a data directory holds and checks that its parts belong together. It changes nothing when they do not.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use keystead_mvcc::{self as mvcc, Store};
use keystead_state::{Reader, State};
use tokio::sync::oneshot;

use crate::ballast::Ballast;
use crate::blocking::{heard, simulated};
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use crate::force_new_cluster::{self, ForceError};
use crate::installing::Installing;
use crate::log_storage;
use crate::standing::{Position, position_after};
use crate::stored::{Note, Unreadable};
use crate::type_config::LogId;
use crate::wal::{self, EntryId, Files, Recovered, Wal};

/// Why a member did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory can not be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log was not opened; nothing in it was changed.
    #[error(transparent)]
    Log(#[from] wal::OpenError),
    /// The store was not opened.
    #[error(transparent)]
    Store(#[from] mvcc::OpenError),
    /// The state in the store can not be read.
    #[error(transparent)]
    State(#[from] keystead_state::OpenError),
    /// The store and the log are not of one piece. Starting would lose acknowledged writes.
    #[error(
        "the data directory is not whole: {0}; restore the member from a backup, or add it anew"
    )]
    Apart(String),
    /// Something that was stored can't be read by this release.
    #[error("the data directory holds {0}")]
    Unreadable(String),
    /// The member can't say what its history comes to.
    #[error("{member:x} failed to fetch hash ({error})")]
    Unhashable {
        /// The member.
        member: u64,
        /// Why not.
        error: mvcc::ReadError,
    },
    /// Another member stores something else.
    #[error(
        "{0:x} found data inconsistency with peers: remove the member, and add it anew with an empty data directory"
    )]
    Inconsistent(u64),
    /// No cluster of this member alone could be forced.
    #[error(transparent)]
    Force(#[from] ForceError),
    /// Consensus did not start.
    #[error("consensus did not start: {0}")]
    Core(String),
    /// The system has no thread to give.
    #[error("no thread could be started: {0}")]
    Thread(std::io::Error),
    /// The log needs a new segment, and there is no room for it, nor a ballast any more.
    #[error(
        "no space is left on the disk for the log: free some, and start again. What was acknowledged is there"
    )]
    NoSpace,
}

impl StartError {
    /// Whether there was no space on the disk.
    fn wants_space(&self) -> bool {
        let full = |error: &std::io::Error| {
            use std::io::ErrorKind::{QuotaExceeded, StorageFull};
            matches!(error.kind(), StorageFull | QuotaExceeded)
        };
        match self {
            Self::DataDir(DataDirError::Io { source, .. })
            | Self::Log(wal::OpenError::Io { source, .. }) => full(source),
            Self::Store(mvcc::OpenError::Storage { error, .. }) => {
                matches!(error, mvcc::StorageError::Full)
            }
            _ => false,
        }
    }
}

impl From<Unreadable> for StartError {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable.to_string())
    }
}

/// Where the log is, and how it is kept, where that is not as the configuration says.
pub(crate) type Log = Option<(Arc<dyn Files>, wal::Options)>;

/// A member's parts, opened and of one piece. Nothing of the log was applied yet.
pub(crate) struct Parts {
    pub(crate) data_dir: DataDir,
    pub(crate) wal: Arc<Wal>,
    pub(crate) recovered: Recovered,
    pub(crate) store: Store,
    pub(crate) flusher: mvcc::Flusher,
    /// What the store holds of the log.
    pub(crate) flushed: Position,
    pub(crate) state: State,
    pub(crate) reader: Reader,
    /// Of the store's last flush; none in a fresh store.
    pub(crate) note: Option<Note>,
    pub(crate) installing: Arc<Installing>,
}

/// Opens the parts of the member's data directory, making them when it is fresh. On a full disk the ballast goes.
pub(crate) async fn open(config: &Config, log: Log) -> Result<Parts, StartError> {
    match open_parts(config, log.clone()).await {
        Err(error) if error.wants_space() && ballast(config).release() => {
            tracing::warn!(%error, "no space is left: starting again without the ballast");
            open_parts(config, log).await
        }
        opened => opened,
    }
}

/// The ballast of the member's data directory.
pub(crate) fn ballast(config: &Config) -> Ballast {
    Ballast::of(&config.data_dir, config.ballast_bytes())
}

async fn open_parts(config: &Config, log: Log) -> Result<Parts, StartError> {
    let data_dir = DataDir::open(&config.data_dir, config.identity)?;
    let (files, log_options) = match log {
        Some(log) => log,
        None => log_in(config, &data_dir)?,
    };
    let store_options = mvcc::Options {
        ring_bytes: config.ring_bytes,
        compact_step_rows: config.compaction_batch,
        map_bytes: config.map_bytes,
        reserve_bytes: config.flush_reserve_bytes(),
        ..mvcc::Options::default()
    };
    let open_log = || Wal::open(files, log_options);
    let open_store = || Store::open(&data_dir.store(), &store_options);
    let (log, opened) = match simulated() {
        true => (open_log(), open_store()),
        false => both(open_log, open_store).map_err(StartError::Thread)?,
    };
    let ((wal, mut recovered), opened) = (log?, opened?);
    let note = opened.applied.map(Note::decode).transpose()?;
    let installing = Arc::new(Installing::of(&config.data_dir));
    if let (Some(announced), Some(last)) =
        (installing.announced(), note.as_ref().and_then(|it| it.last))
    {
        if announced == opened.position && log_storage::synced(&wal) < announced {
            recovered.committed = Some(begin_behind(&wal, &last).await?);
        }
        installing.forget();
    }
    are_of_one_piece(&wal, opened.position, note.as_ref()).map_err(StartError::Apart)?;
    if config.force_new_cluster {
        let member_id = config.identity.member_id;
        force_new_cluster::force(&wal, &mut recovered, note.as_ref(), member_id).await?;
    }
    let store = opened.store;
    let (state, reader) = State::open(store.clone(), opened.writer, config.limits)?;
    Ok(Parts {
        data_dir,
        wal: Arc::new(wal),
        recovered,
        store,
        flusher: opened.flusher,
        flushed: opened.position,
        state,
        reader,
        note,
        installing,
    })
}

/// Opens log and store at a time: both are read for about as long, on a core each.
fn both<L: Send, S>(
    open_log: impl FnOnce() -> L + Send,
    open_store: impl FnOnce() -> S,
) -> io::Result<(L, S)> {
    thread::scope(|scope| {
        let reading = thread::Builder::new()
            .name("log".to_owned())
            .spawn_scoped(scope, open_log)?;
        let opened = open_store();
        let log = reading
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((log, opened))
    })
}

/// Has the log begin behind the store, which was put there without it. Returns when that is on the disk.
async fn begin_behind(wal: &Wal, last: &LogId) -> Result<EntryId, StartError> {
    let id = log_storage::entry_id(last);
    let (done, reached) = oneshot::channel();
    let failed = |error: &dyn std::fmt::Display| StartError::Core(error.to_string());
    wal.purge(id).map_err(|error| failed(&error))?;
    let told = Box::new(move |result| drop(done.send(result)));
    wal.barrier(told).map_err(|error| failed(&error))?;
    match heard(reached).await {
        Ok(Ok(())) => Ok(id),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}

/// The log as the configuration says.
fn log_in(
    config: &Config,
    data_dir: &DataDir,
) -> Result<(Arc<dyn Files>, wal::Options), StartError> {
    let files = wal::Disk::open(&wal_dir(config, data_dir)?)
        .map_err(|source| data_dir.failed("open wal", source))?;
    let options = wal::Options {
        segment_bytes: config.wal_segment_bytes,
        ..wal::Options::default()
    };
    Ok((Arc::new(files), options))
}

/// Where the log lies; a directory of its own is made when it is not there, and its name durable.
fn wal_dir(config: &Config, data_dir: &DataDir) -> Result<PathBuf, StartError> {
    let Some(own) = &config.wal_dir else {
        return Ok(data_dir.wal());
    };
    crate::data_dir::make(own)
        .map_err(|source| data_dir.failed("make the directory of the log for", source))?;
    Ok(own.clone())
}

/// The store is never ahead of the log, the log reaches back to the store, and where they meet they tell of one entry.
fn are_of_one_piece(wal: &Wal, flushed: Position, note: Option<&Note>) -> Result<(), String> {
    let end = log_storage::synced(wal);
    if flushed > end {
        return Err(format!(
            "the store holds {flushed} log entries and the log ends after {end}"
        ));
    }
    let begin = wal
        .purged()
        .map_or(0, |purged| position_after(purged.index));
    if flushed < begin {
        return Err(format!(
            "the store holds {flushed} log entries and the log begins after {begin}"
        ));
    }
    let last = note.and_then(|note| note.last);
    match last.map(|last| (last, wal.id(last.index).map(log_storage::log_id))) {
        Some((in_store, in_log)) if in_log != Some(in_store) => Err(format!(
            "entry {} is of term {} in the store, and not in the log",
            in_store.index, in_store.leader_id.term
        )),
        _ => Ok(()),
    }
}
