//! The flusher's thread: makes what was applied durable in the store, a prefix at a time, beside everything else.
//!
//! A flush never passes what the log has on disk, since openraft applies what is not yet synced: the bound is the
//! lesser of applied and synced. After flushes come steps of physical compaction, now and then a checkpoint of the
//! index, and the news how far the log may be purged. Whoever waits for it (a snapshot, a physical compaction, a
//! shutdown) is told; apply never waits.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keystead_mvcc::{self as mvcc, CompactStep, Copied, FlushError, Import, Imported};
use keystead_seeded::{Bug, planted};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::blocking::{self, Loop, Receiver, Sender, channel, simulated, sleep};
use crate::bootstrap;
use crate::config::Config;
use crate::core::halt;
use crate::priority::give_way;
use crate::space::{Alarm, Space};
use crate::standing::{Position, Standing, position_after};
use crate::stored::Note;

/// The least time between two flushes, so that a burst does not cut them small.
const FLUSH_SPACING: Duration = Duration::from_millis(200);
/// How long a failed flush waits before it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long the copy of a defragmentation keeps a simulated host busy.
const SIMULATED_COPY: Duration = Duration::from_millis(300);

/// How far the log is on disk; see [`crate::log_storage::synced`].
pub(crate) type Synced = Arc<dyn Fn() -> Position + Send + Sync>;

/// How far the log is needed: what is before the position may be purged.
pub(crate) type Purgeable = watch::Receiver<Position>;

enum Command {
    /// A flush is due by its size.
    Due,
    Flush(oneshot::Sender<io::Result<Note>>),
    Compact,
    Defragment(oneshot::Sender<io::Result<()>>),
    /// The copy that a defragmentation needs was made, on a thread of its own.
    Copied(Result<Copied, FlushError>, oneshot::Sender<io::Result<()>>),
    BeginImport(oneshot::Sender<io::Result<Import>>),
    Install(Box<Imported>, Note, oneshot::Sender<io::Result<()>>),
    Stop {
        cleanly: bool,
    },
}

/// Talks to the thread, which ends when told to.
#[derive(Clone)]
pub(crate) struct Handle {
    commands: Sender<Command>,
    shared: Arc<Shared>,
    physically_compacted: watch::Receiver<i64>,
}

struct Shared {
    last_flush: Mutex<Option<Note>>,
    /// A `Due` is on its way.
    due: AtomicBool,
    flush_bytes: u64,
}

impl Handle {
    /// Takes note of what waits after an entry was applied.
    pub(crate) fn applied(&self, unflushed_bytes: u64) {
        if unflushed_bytes >= self.shared.flush_bytes
            && !self.shared.due.swap(true, Ordering::AcqRel)
        {
            self.send(Command::Due);
        }
    }

    /// There is something to compact.
    pub(crate) fn compact(&self) {
        self.send(Command::Compact);
    }

    /// Flushes what may be flushed now, and says what the store then holds.
    pub(crate) async fn flush(&self) -> io::Result<Note> {
        self.ask(Command::Flush).await
    }

    /// Gives unused space of the store back to the file system, while it serves.
    pub(crate) async fn defragment(&self) -> io::Result<()> {
        self.ask(Command::Defragment).await
    }

    /// Begins to build a store aside.
    pub(crate) async fn begin_import(&self) -> io::Result<Import> {
        self.ask(Command::BeginImport).await
    }

    /// Puts a store that was built aside, of which `note` tells, in the place of the one in use. What was applied and
    /// not flushed is dropped.
    pub(crate) async fn install(&self, imported: Imported, note: Note) -> io::Result<()> {
        self.ask(|answer| Command::Install(Box::new(imported), note, answer))
            .await
    }

    /// What the store holds after a crash.
    pub(crate) fn last_flush(&self) -> Option<Note> {
        self.shared.last_flush.lock().clone()
    }

    /// Follows how far superseded revisions are gone from the store.
    pub(crate) fn physically_compacted(&self) -> watch::Receiver<i64> {
        self.physically_compacted.clone()
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Command,
    ) -> io::Result<T> {
        let (answer, answered) = oneshot::channel();
        self.send(command(answer));
        answered.await.unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the flusher has ended",
            ))
        })
    }

    fn send(&self, command: Command) {
        // The thread has ended: who waits for an answer hears so from the channel of the answer.
        self.commands.send(command);
    }
}

/// The thread and what it hands out. Dropped, it ends the thread as it stands.
pub(crate) struct Flushing {
    pub(crate) handle: Handle,
    pub(crate) purgeable: Purgeable,
    ends: Option<Loop>,
}

impl Flushing {
    /// Ends the thread: cleanly after a last flush and a checkpoint, or as it stands.
    pub(crate) async fn end(mut self, cleanly: bool) {
        if let Some(ends) = self.stop(cleanly) {
            told_end(ends.ended().await);
        }
    }

    fn stop(&mut self, cleanly: bool) -> Option<Loop> {
        let ends = self.ends.take()?;
        self.handle.send(Command::Stop { cleanly });
        Some(ends)
    }
}

impl Drop for Flushing {
    fn drop(&mut self) {
        if let Some(ends) = self.stop(false) {
            told_end(ends.join());
        }
    }
}

fn told_end(well: bool) {
    if !well {
        tracing::error!("the flusher ended by a panic");
    }
}

/// What the thread needs from its surroundings.
pub(crate) struct Surroundings {
    pub(crate) standing: Arc<Standing>,
    pub(crate) store: mvcc::Store,
    pub(crate) synced: Synced,
    /// Bytes appended to the log so far.
    pub(crate) log_bytes: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// How much of the log is to be purged, if the store has it, because it was long when it was opened.
    pub(crate) long_before: Position,
    /// Whether the log could not make its next segment for want of space.
    pub(crate) log_wants_space: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The member's alarm.
    pub(crate) no_space: Alarm,
}

/// Starts the thread. `flushed` and `note` tell of the last flush before.
///
/// # Errors
/// The system has no thread to give.
pub(crate) fn start(
    flusher: mvcc::Flusher,
    flushed: Position,
    note: Option<Note>,
    config: &Config,
    surroundings: Surroundings,
) -> io::Result<Flushing> {
    let (commands, inbox) = channel();
    let shared = Arc::new(Shared {
        last_flush: Mutex::new(note),
        due: AtomicBool::new(false),
        flush_bytes: config.flush_bytes,
    });
    let (physically_compacted_sender, physically_compacted) =
        watch::channel(flusher.physically_compacted());
    let (purgeable_sender, purgeable) = watch::channel(0);
    let now = Instant::now();
    let task = Task {
        commands: commands.clone(),
        inbox,
        shared: shared.clone(),
        retention: Retention {
            keep_bytes: config.wal_retained_bytes,
            marks: VecDeque::new(),
            // Else a member that is restarted often would never purge.
            purgeable: (surroundings.long_before.min(flushed), 0),
            told: (0, 0),
            step_bytes: config.wal_segment_bytes,
        },
        space: Space::new(
            bootstrap::ballast(config),
            config.flush_reserve_bytes(),
            surroundings.no_space.clone(),
        ),
        interval: config.flush_interval,
        checkpoint_interval: config.checkpoint_interval,
        compaction_pause: config.compaction_pause,
        surroundings,
        flushed,
        last_try: now,
        checkpointed: now,
        // A compaction may have been cut short by the last stop.
        next_step: Some(now),
        physically_compacted: physically_compacted_sender,
        purgeable: purgeable_sender,
        flusher,
    };
    let ends = blocking::start("flusher", move || task.run())?;
    Ok(Flushing {
        handle: Handle {
            commands,
            shared,
            physically_compacted,
        },
        purgeable,
        ends: Some(ends),
    })
}

struct Task {
    flusher: mvcc::Flusher,
    commands: Sender<Command>,
    inbox: Receiver<Command>,
    shared: Arc<Shared>,
    surroundings: Surroundings,
    interval: Duration,
    checkpoint_interval: Duration,
    compaction_pause: Duration,
    retention: Retention,
    space: Space,
    flushed: Position,
    last_try: Instant,
    checkpointed: Instant,
    /// When the next step of physical compaction is due, if there may be one.
    next_step: Option<Instant>,
    physically_compacted: watch::Sender<i64>,
    purgeable: watch::Sender<Position>,
}

impl Task {
    async fn run(mut self) {
        loop {
            match self.inbox.receive(self.wait()).await {
                Some(Command::Due) => {
                    let spacing = FLUSH_SPACING.min(self.interval);
                    sleep(spacing.saturating_sub(self.last_try.elapsed())).await;
                    self.shared.due.store(false, Ordering::Release);
                    self.flush_and_report().await;
                    // Under load the next one is here already.
                    self.tend().await;
                }
                Some(Command::Flush(answer)) => {
                    let flushed = self.flush();
                    let note = |()| self.shared.last_flush.lock().clone().unwrap_or_default();
                    // Who no longer waits needs no answer.
                    answer.send(flushed.map(note)).ok();
                }
                // What is to be compacted is known to the store once the compaction itself is flushed.
                Some(Command::Compact) => self.flush_and_report().await,
                Some(Command::Defragment(answer)) => self.begin_defragment(answer),
                Some(Command::Copied(copied, answer)) => {
                    let done = copied.and_then(|copied| self.flusher.finish_defragment(copied));
                    // As above, and so it is for all answers.
                    answer.send(told(done.map(|_| ()))).ok();
                }
                Some(Command::BeginImport(answer)) => {
                    answer.send(told(self.flusher.begin_import())).ok();
                }
                Some(Command::Install(imported, note, answer)) => {
                    answer.send(self.install(*imported, note)).ok();
                }
                Some(Command::Stop { cleanly: true }) => return self.finish(),
                Some(Command::Stop { cleanly: false }) => return,
                None => self.tend().await,
            }
        }
    }

    /// How long nothing needs to be done. While there is something to compact, only commands go before it.
    fn wait(&self) -> Duration {
        let next_flush = self.last_try + self.interval;
        let next = self
            .next_step
            .map_or(next_flush, |step| step.min(next_flush));
        next.saturating_duration_since(Instant::now())
    }

    async fn tend(&mut self) {
        if self.last_try.elapsed() >= self.interval {
            self.flush_and_report().await;
        }
        if self.next_step.is_some_and(|step| step <= Instant::now()) {
            self.compact_step().await;
        }
        if self.checkpointed.elapsed() >= self.checkpoint_interval || self.start_would_be_slow() {
            self.checkpoint();
        }
    }

    async fn flush_and_report(&mut self) {
        if let Err(error) = self.flush() {
            tracing::debug!(%error, "a flush failed; it is tried again");
            sleep(RETRY).await;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.last_try = Instant::now();
        let flushed = self.flush_what_is_synced();
        // Also when there was nothing to do: the applier may have stored an older figure over ours.
        self.surroundings
            .standing
            .set_unflushed_bytes(self.surroundings.store.sizes().unflushed_bytes);
        flushed
    }

    fn flush_what_is_synced(&mut self) -> io::Result<()> {
        let applied = self.surroundings.standing.applied();
        let bound = if planted(Bug::FlushUnsynced) {
            applied
        } else {
            applied.min((self.surroundings.synced)())
        };
        if (self.surroundings.log_wants_space)() {
            self.space.ran_out(&mut self.flusher);
        }
        if bound <= self.flushed {
            self.space.tend(&self.flusher);
            return Ok(());
        }
        let mut flushed = self.flusher.flush(bound);
        while matches!(flushed, Err(FlushError::Full)) && self.space.ran_out(&mut self.flusher) {
            flushed = self.flusher.flush(bound);
        }
        let flushed = told(flushed)?;
        if !(self.surroundings.log_wants_space)() {
            self.space.went_through(&self.flusher);
        }
        self.flushed = flushed.position;
        // A compaction may have been among it.
        self.next_step.get_or_insert_with(Instant::now);
        if let Some(applied) = flushed.applied {
            *self.shared.last_flush.lock() = Some(Note::decode(applied).map_err(io::Error::other)?);
        }
        let log_bytes = (self.surroundings.log_bytes)();
        let purgeable = if self.space.is_scarce() {
            self.retention.all(self.flushed, log_bytes)
        } else {
            self.retention.purgeable(self.flushed, log_bytes)
        };
        self.purgeable
            .send_if_modified(|known| std::mem::replace(known, purgeable) != purgeable);
        Ok(())
    }

    async fn compact_step(&mut self) {
        match self.flusher.compact_step() {
            Ok(CompactStep { done: true, .. }) => self.next_step = None,
            // Rows that are being read must stay for now, or a flush must go first.
            Ok(CompactStep { held: true, .. }) => {
                self.flush_and_report().await;
                self.next_step = Some(Instant::now() + FLUSH_SPACING);
            }
            Ok(_) => self.next_step = Some(Instant::now() + self.compaction_pause),
            Err(FlushError::Full) => {
                let again = self.space.ran_out(&mut self.flusher);
                let pause = if again { Duration::ZERO } else { RETRY };
                self.next_step = Some(Instant::now() + pause);
            }
            Err(error) => {
                must_end(&error);
                tracing::error!(%error, "a step of compaction failed; it is tried again");
                self.next_step = Some(Instant::now() + RETRY);
            }
        }
        let reached = self.flusher.physically_compacted();
        self.physically_compacted
            .send_if_modified(|known| std::mem::replace(known, reached) != reached);
    }

    /// Flushes go on while the copy is made.
    fn begin_defragment(&mut self, answer: oneshot::Sender<io::Result<()>>) {
        let copy = self.flusher.begin_defragment();
        let finish = self.commands.clone();
        let copying = move || async move {
            if simulated() {
                sleep(SIMULATED_COPY).await;
            } else {
                give_way();
            }
            // The flusher has ended: the copy removes its files, the answer tells who waits.
            finish.send(Command::Copied(copy.copy(), answer));
        };
        if let Err(error) = blocking::start("defragment", copying) {
            tracing::error!(%error, "no thread for a defragmentation");
        }
    }

    fn install(&mut self, imported: Imported, note: Note) -> io::Result<()> {
        told(self.flusher.install(imported))?;
        self.flushed = note.last.map_or(0, |last| position_after(last.index));
        *self.shared.last_flush.lock() = Some(note);
        Ok(())
    }

    fn start_would_be_slow(&self) -> bool {
        self.flusher.checkpoint_is_due().unwrap_or_else(|error| {
            tracing::debug!(%error, "the rows of the store can't be counted");
            false
        })
    }

    fn checkpoint(&mut self) {
        self.checkpointed = Instant::now();
        // A start without it takes longer and comes to the same state.
        if let Err(error) = self.flusher.checkpoint() {
            tracing::warn!(%error, "the index was not written down; a start will take longer");
        }
    }

    fn finish(mut self) {
        match self.flush() {
            Ok(()) => self.checkpoint(),
            Err(error) => tracing::warn!(%error, "the last flush failed; a start replays the log"),
        }
    }
}

/// After a failed write only a restart can tell what the disk holds.
fn must_end(error: &FlushError) {
    if let FlushError::Storage(error) = error {
        halt(&error.to_string());
    }
}

/// An error as openraft and peers take it. After a failed write the process ends.
pub(crate) fn told<T>(result: Result<T, FlushError>) -> io::Result<T> {
    result.inspect_err(must_end).map_err(|error| match error {
        FlushError::Full => io::Error::new(io::ErrorKind::StorageFull, error),
        other => io::Error::other(other),
    })
}

/// Chooses what to purge: everything that the store has, save the newest bytes of the log.
struct Retention {
    keep_bytes: u64,
    /// A position that the store has, and the bytes of the log when it was reached; oldest first.
    marks: VecDeque<(Position, u64)>,
    /// The last mark that is old enough.
    purgeable: (Position, u64),
    /// The last that was worth a purge.
    told: (Position, u64),
    /// A segment of the log: as many bytes are worth a purge.
    step_bytes: u64,
}

impl Retention {
    /// The least entries that a purge is worth: each is a record in the log, and a few messages in openraft.
    const STEP: Position = 256;

    /// How far to purge, in steps that are worth it.
    fn purgeable(&mut self, flushed: Position, log_bytes: u64) -> Position {
        self.marks.push_back((flushed, log_bytes));
        while let Some(&(position, at)) = self.marks.front()
            && log_bytes - at >= self.keep_bytes
        {
            self.purgeable = (position, at);
            self.marks.pop_front();
        }
        let (position, at) = self.purgeable;
        if position - self.told.0 >= Self::STEP || at - self.told.1 >= self.step_bytes {
            self.told = self.purgeable;
        }
        self.told.0
    }

    /// On a full disk nothing is kept that the store has.
    fn all(&mut self, flushed: Position, log_bytes: u64) -> Position {
        self.marks.clear();
        self.purgeable = (flushed, log_bytes);
        self.told = self.purgeable;
        flushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_bytes_of_the_log_are_kept_for_slow_followers() {
        let mut retention = Retention {
            keep_bytes: 100,
            marks: VecDeque::new(),
            purgeable: (3, 0),
            told: (3, 0),
            step_bytes: 1,
        };
        let steps = [
            (5, 40, 3),
            (9, 90, 3),
            (20, 139, 3),
            (21, 140, 5),
            (30, 400, 21),
            (31, 401, 21),
        ];
        for (flushed, log_bytes, expected) in steps {
            assert_eq!(
                retention.purgeable(flushed, log_bytes),
                expected,
                "at {flushed}"
            );
        }
    }

    #[test]
    fn a_purge_is_worth_many_entries_or_a_segment_and_on_a_full_disk_it_is_always() {
        let mut retention = Retention {
            keep_bytes: 0,
            marks: VecDeque::new(),
            purgeable: (0, 0),
            told: (0, 0),
            step_bytes: 1000,
        };
        let steps = [
            (255, 10, 0),
            (256, 20, 256),
            (300, 1019, 256),
            (301, 1020, 301),
        ];
        for (flushed, log_bytes, expected) in steps {
            assert_eq!(
                retention.purgeable(flushed, log_bytes),
                expected,
                "at {flushed}"
            );
        }
        assert_eq!(retention.all(302, 1021), 302);
        assert_eq!(retention.purgeable(303, 1022), 302);
    }
}
