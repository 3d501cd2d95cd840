//! The write-ahead log: the one thing on the durable path. It stores opaque entries, votes, truncations
//! and purge marks, all of them records in one queue, and never rewinds: what was acknowledged is never
//! written over, and a file is used again only when all in it is purged.
//!
//! The openraft side of this crate calls it; it knows nothing of openraft, of tokio or of what a payload
//! means. Calls queue and return at once; one thread writes all that queued while the last sync was
//! running with one write and one sync, then calls the `done` of each. FORMAT.md draws the bytes.

mod batch;
mod counters;
mod disk;
mod entry;
mod error;
mod files;
mod index;
mod options;
mod queue;
mod read;
mod record;
mod recovery;
mod replay;
mod segment;
mod window;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

pub use counters::Counters;
pub use disk::Disk;
pub use entry::{Entry, EntryId};
pub use error::{OpenError, WalError};
pub use files::{File, Files};
pub use options::Options;

use counters::Counting;
use index::LogIndex;
use queue::{Operation, check_order, entry_bytes, parts};
use segment::{Pool, Segment};
use writer::Writer;

use crate::blocking::{Bell, Loop, start};

/// Called once when an operation is durable, or when the log failed before it was. It runs on the log's
/// thread, before the next batch is written: it must not block, panic or call [`Wal::close`].
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What a log held when it was opened. All of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The vote saved last.
    pub vote: Option<Bytes>,
    /// The newest committed id that was noted and whose entry is in the log.
    pub committed: Option<EntryId>,
    /// The purge mark: the entry before the first that is held.
    pub purged: Option<EntryId>,
    /// The last entry, or the purge mark when none follows it.
    pub last: Option<EntryId>,
}

/// An open log. Every method may be called from any thread, and none but [`Wal::read`] and
/// [`Wal::close`] waits for the disk.
pub struct Wal {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    loops: Mutex<Vec<Loop>>,
}

struct Shared {
    files: Arc<dyn Files>,
    options: Options,
    state: Mutex<State>,
    /// Wakes the writer.
    queued: Bell,
    /// Highest durable index plus one; 0 when there is none. Written by the writer under the lock, and
    /// lowered by truncation.
    synced: AtomicU64,
    counting: Arc<Counting>,
}

struct State {
    queue: VecDeque<Operation>,
    queue_bytes: usize,
    index: LogIndex,
    /// Serial of the entry queued last.
    serial: u64,
    /// Serial of the newest entry that is durable.
    synced_serial: u64,
    committed: Option<EntryId>,
    /// Segments that readers may need.
    segments: BTreeMap<u64, Arc<Segment>>,
    failure: Option<WalError>,
    closing: bool,
}

impl Wal {
    /// Opens the log in `files`, making it when the directory is empty, and starts its two threads.
    ///
    /// # Errors
    /// See [`OpenError`]; no thread runs then.
    pub fn open(files: Arc<dyn Files>, options: Options) -> Result<(Wal, Recovered), OpenError> {
        let found = recovery::recover(&*files, options.recent_bytes_max)?;
        let recovered = Recovered {
            vote: found.vote.clone(),
            committed: found.committed,
            purged: found.index.purged(),
            last: found.index.last(),
        };
        let counting = Arc::new(Counting::default());
        let pool = Arc::new(Pool::holding(
            files.clone(),
            options.segment_bytes,
            options.ready_segments_max,
            counting.clone(),
            found.ready,
            found.next_number,
        ));
        let (active, at) = found.active.unzip();
        let active = active.map(Arc::new);
        let mut segments = found.full;
        segments.extend(active.iter().map(|active| (active.number, active.clone())));
        let state = State {
            queue: VecDeque::new(),
            queue_bytes: 0,
            index: found.index,
            serial: 0,
            synced_serial: 0,
            committed: found.committed,
            segments,
            failure: None,
            closing: false,
        };
        let synced = AtomicU64::new(recovered.last.map_or(0, |last| last.index + 1));
        let writer = Writer::continuing(
            active,
            at.unwrap_or(0),
            found.chain,
            &recovered,
            options.log_id,
            pool.clone(),
        );
        let (state, queued) = (Mutex::new(state), Bell::default());
        let shared = Arc::new(Shared {
            files,
            options,
            state,
            queued,
            synced,
            counting,
        });
        let writing = shared.clone();
        let no_thread = |source| OpenError::Io {
            operation: "start a thread for",
            file: shared.files.path(""),
            source,
        };
        let preparing = pool.clone();
        let preparer = start("wal-segments", move || async move { preparing.run().await });
        let preparer = preparer.map_err(no_thread)?;
        let writer = start("wal", move || async move { writer.run(&writing).await });
        let writer = writer.map_err(no_thread).inspect_err(|_| pool.close())?;
        Ok((
            Wal {
                shared,
                pool,
                loops: Mutex::new(vec![writer, preparer]),
            },
            recovered,
        ))
    }

    /// Appends entries that follow the last one; while there is none, they may start anywhere. They can
    /// be read when this returns, and are durable when `done` is called.
    ///
    /// # Errors
    /// Any [`WalError`]; nothing was queued, and `done` is not called.
    pub fn append(&self, entries: Vec<Entry>, done: Done) -> Result<(), WalError> {
        let mut state = self.shared.accepting()?;
        check_order(&entries, state.index.next())?;
        let size_bytes: usize = entries.iter().map(entry_bytes).sum();
        if state.queue_bytes > 0
            && state.queue_bytes + size_bytes > self.shared.options.queue_bytes_max
        {
            return Err(WalError::QueueFull {
                queued_bytes: state.queue_bytes,
            });
        }
        let mut serial = state.serial;
        for entry in &entries {
            serial += 1;
            state.index.push(entry, serial);
        }
        let first_serial = std::mem::replace(&mut state.serial, serial) + 1;
        for (part, first_serial, done) in parts(
            entries,
            first_serial,
            self.shared.options.batch_bytes_max,
            done,
        ) {
            state.queue(Operation::Append {
                entries: part,
                first_serial,
                done,
            });
        }
        drop(state);
        self.shared.queued.ring();
        Ok(())
    }

    /// Saves the vote; it is durable when `done` is called.
    ///
    /// # Errors
    /// Any [`WalError`]; nothing was queued, and `done` is not called.
    pub fn save_vote(&self, vote: Bytes, done: Done) -> Result<(), WalError> {
        if vote.len() > record::VOTE_BYTES_MAX {
            return Err(WalError::TooLarge {
                what: "a vote",
                size_bytes: vote.len(),
            });
        }
        self.shared.submit(Operation::Vote { vote, done })
    }

    /// Drops the entries after `last_kept`, or all of them. Durable with whatever is queued next.
    ///
    /// # Errors
    /// Any [`WalError`]; nothing was changed.
    pub fn truncate_after(&self, last_kept: Option<u64>) -> Result<(), WalError> {
        let mut state = self.shared.accepting()?;
        state.index.truncate_after(last_kept);
        let kept = state.index.last().map_or(0, |last| last.index + 1);
        self.shared.synced.fetch_min(kept, Release);
        state.queue(Operation::Truncate { last_kept });
        drop(state);
        self.shared.queued.ring();
        Ok(())
    }

    /// Drops the entries up to and with `upto`. When that is beyond the last, all are dropped and the log
    /// goes on behind it. Segments with nothing else in them are used again once the mark is durable.
    ///
    /// # Errors
    /// Any [`WalError`]; nothing was changed.
    pub fn purge(&self, upto: EntryId) -> Result<(), WalError> {
        let mut state = self.shared.accepting()?;
        state.index.purge(upto);
        state.queue(Operation::Purge { upto });
        drop(state);
        self.shared.queued.ring();
        Ok(())
    }

    /// Notes how far the log is committed. It rides in the header of the next batch and causes no sync.
    pub fn note_committed(&self, id: EntryId) {
        self.shared.state.lock().committed = Some(id);
    }

    /// Calls `done` when all that was queued before is durable.
    ///
    /// # Errors
    /// Any [`WalError`]; `done` is not called.
    pub fn barrier(&self, done: Done) -> Result<(), WalError> {
        self.shared.submit(Operation::Barrier { done })
    }

    /// The entries of `range` that the log holds, in order, until their payloads pass `max_bytes`; at
    /// least one. Entries that were written long ago are read from disk, so this may block: see
    /// [`Wal::read_recent`].
    ///
    /// # Errors
    /// [`WalError::Damaged`] or [`WalError::Read`]; the log goes on.
    pub fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<Entry>, WalError> {
        read::read(&self.shared, range, max_bytes)
    }

    /// As [`Wal::read`], but `None` when an entry would have to be read from disk.
    pub fn read_recent(&self, range: Range<u64>, max_bytes: usize) -> Option<Vec<Entry>> {
        read::read_recent(&self.shared, range, max_bytes)
    }

    /// The id of the entry at `index`; also of the purge mark.
    pub fn id(&self, index: u64) -> Option<EntryId> {
        let state = self.shared.state.lock();
        state
            .index
            .id(index)
            .or(state.index.purged().filter(|purged| purged.index == index))
    }

    /// The last entry, or the purge mark when none follows it. It need not be durable yet.
    pub fn last(&self) -> Option<EntryId> {
        self.shared.state.lock().index.last()
    }

    /// The purge mark.
    pub fn purged(&self) -> Option<EntryId> {
        self.shared.state.lock().index.purged()
    }

    /// The index of the first entry within the newest `bytes` of the log; `None` when it has none, or when the last is
    /// not on disk yet.
    pub fn first_within(&self, bytes: u64) -> Option<u64> {
        let segment_bytes = self.shared.options.segment_bytes;
        let state = self.shared.state.lock();
        state.index.first_within(bytes, segment_bytes)
    }

    /// The highest index up to which the log is durable. Reads one atomic.
    pub fn synced_index(&self) -> Option<u64> {
        self.shared.synced.load(Acquire).checked_sub(1)
    }

    /// Bytes that wait for the disk.
    pub fn queued_bytes(&self) -> usize {
        self.shared.state.lock().queue_bytes
    }

    /// Whether there was no space for the next segment, or for its growth to the size of a batch. It is tried again until
    /// there is, and writes wait for it when they need it.
    pub fn wants_space(&self) -> bool {
        !self.wants_space_for().is_zero()
    }

    /// For how long, about, it has been so; zero when it is not. A try that lasts does not count.
    pub fn wants_space_for(&self) -> Duration {
        self.pool.wants_space_for()
    }

    /// Why the log failed, when it did.
    pub fn failure(&self) -> Option<WalError> {
        self.shared.state.lock().failure.clone()
    }

    /// What the log did since it was opened.
    pub fn counters(&self) -> Counters {
        self.shared.counting.read()
    }

    /// Writes what is queued, notes the committed id, and ends the log's threads. Later calls are refused.
    pub fn close(&self) {
        for ended in self.begin_close() {
            told(ended.join());
        }
    }

    /// The same, for who can wait in simulated time.
    pub(crate) async fn closed(&self) {
        for ended in self.begin_close() {
            told(ended.ended().await);
        }
    }

    fn begin_close(&self) -> Vec<Loop> {
        self.shared.state.lock().closing = true;
        self.shared.queued.ring();
        self.pool.give_up_waiting();
        std::mem::take(&mut *self.loops.lock())
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.close();
    }
}

fn told(well: bool) {
    if !well {
        tracing::error!("a thread of the log ended by a panic");
    }
}

impl Shared {
    fn accepting(&self) -> Result<parking_lot::MutexGuard<'_, State>, WalError> {
        let state = self.state.lock();
        match &state.failure {
            Some(failure) => Err(failure.clone()),
            None if state.closing => Err(WalError::Closed),
            None => Ok(state),
        }
    }

    fn submit(&self, operation: Operation) -> Result<(), WalError> {
        self.accepting()?.queue(operation);
        self.queued.ring();
        Ok(())
    }
}

impl State {
    fn queue(&mut self, operation: Operation) {
        self.queue_bytes += operation.size_bytes();
        self.queue.push_back(operation);
    }
}
