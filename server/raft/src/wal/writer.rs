//! The log's thread: takes what is queued, writes it as one batch, syncs, and only then tells callers.
//!
//! A failed write or sync is never tried again: the kernel may have dropped the pages and call the next
//! sync a success. The log is shut instead.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use bytes::Bytes;
use keystead_seeded::{Bug, planted};

use super::batch::{Builder, Header, VERSION};
use super::entry::EntryId;
use super::error::WalError;
use super::index::Place;
use super::queue::Operation;
use super::replay::Chain;
use super::segment::{Pool, Segment};
use super::{Recovered, Shared, State};
use crate::blocking::sync;

pub(super) struct Writer {
    pool: Arc<Pool>,
    /// The segment being written; none before the first batch of a log.
    active: Option<Arc<Segment>>,
    /// Where the next batch starts in it.
    offset: u64,
    /// The newest batch, but for the generation, which is this process's own.
    chain: Chain,
    /// Vote, purge mark and committed id as the batches so far leave them.
    vote: Option<Bytes>,
    purged: Option<EntryId>,
    committed: Option<EntryId>,
    builder: Builder,
}

/// What goes into one batch.
struct Taken {
    operations: Vec<Operation>,
    bytes: usize,
    committed: Option<EntryId>,
    release: Spent,
}

/// Whether segments may be used again once the batch is durable.
enum Spent {
    /// Operations wait that the index reflects already: what it says is not durable with this batch.
    No,
    /// Segments below the one with the oldest entry; below the one being written when that is `None`.
    Below(Option<u64>),
}

impl Writer {
    pub(super) fn continuing(
        active: Option<Arc<Segment>>,
        offset: u64,
        chain: Option<Chain>,
        recovered: &Recovered,
        log: u64,
        pool: Arc<Pool>,
    ) -> Writer {
        let chain = match chain {
            Some(chain) => Chain {
                generation: chain.generation + 1,
                ..chain
            },
            None => Chain {
                log,
                generation: 1,
                sequence: 0,
                crc: 0,
            },
        };
        let Recovered {
            vote,
            committed,
            purged,
            ..
        } = recovered.clone();
        Writer {
            pool,
            active,
            offset,
            chain,
            vote,
            purged,
            committed,
            builder: Builder::default(),
        }
    }

    /// The thread's body: ends when the log is closed or has failed.
    pub(super) async fn run(mut self, shared: &Shared) {
        let _ending = Ending {
            shared,
            pool: self.pool.clone(),
        };
        while let Some(taken) = self.take(shared).await {
            self.build(&taken);
            if let Err(failure) = self.write(shared, &taken).await {
                shared.fail(&failure, taken.operations);
                return;
            }
            for operation in taken.operations {
                operation.finish(|| Ok(()));
            }
        }
    }

    /// Waits for operations; `None` when the log is closed and nothing is left to be written.
    async fn take(&self, shared: &Shared) -> Option<Taken> {
        let idle = |state: &mut State| state.queue.is_empty() && !state.closing;
        let mut state = shared.queued.wait_while(&shared.state, idle).await;
        let committed = state.committed;
        if state.queue.is_empty() && (committed == self.committed || self.active.is_none()) {
            return None;
        }
        let (mut operations, mut bytes) = (Vec::new(), 0);
        while let Some(next) = state.queue.front().map(Operation::size_bytes) {
            if bytes > 0 && bytes + next > shared.options.batch_bytes_max {
                break;
            }
            bytes += next;
            operations.extend(state.queue.pop_front());
        }
        let drained = state.queue.is_empty() && state.index.purged().is_some();
        let release = if drained {
            Spent::Below(state.index.oldest_segment())
        } else {
            Spent::No
        };
        Some(Taken {
            operations,
            bytes,
            committed,
            release,
        })
    }

    fn build(&mut self, taken: &Taken) {
        self.builder.clear();
        for operation in &taken.operations {
            match operation {
                Operation::Append {
                    entries,
                    first_serial,
                    ..
                } => self.builder.append(entries, *first_serial),
                Operation::Truncate { last_kept } => self.builder.truncate(*last_kept),
                Operation::Purge { upto } => self.builder.purge(*upto),
                Operation::Vote { vote, .. } => self.builder.vote(vote),
                Operation::Barrier { .. } => {}
            }
        }
    }

    /// Makes the batch durable, and the index and the segments follow it.
    async fn write(&mut self, shared: &Shared, taken: &Taken) -> Result<(), WalError> {
        // A barrier alone has nothing to wait for: all before it is durable, for batches are written in turn.
        if !self.builder.is_empty() || taken.committed != self.committed {
            let batch_len = self.write_batch(shared, taken).await?;
            let counting = &shared.counting;
            counting.bytes.fetch_add(batch_len, Relaxed);
            counting.batches.fetch_add(1, Relaxed);
            counting.fsyncs.fetch_add(1, Relaxed);
            self.note_written(shared, taken);
            self.publish(shared, taken);
            self.offset += batch_len;
        }
        shared.state.lock().queue_bytes -= taken.bytes;
        Ok(())
    }

    async fn write_batch(&mut self, shared: &Shared, taken: &Taken) -> Result<u64, WalError> {
        let segment = self.segment_with_room().await?;
        let header = Header {
            records_crc: 0,
            records_len: 0,
            payloads_len: 0,
            log: self.chain.log,
            generation: self.chain.generation,
            segment: segment.number,
            sequence: self.chain.sequence + 1,
            previous: self.chain.crc,
            version: VERSION,
            opens_segment: false,
            committed: taken.committed,
        };
        let (header, crc) = self.builder.seal(header);
        let written = segment
            .file
            .write_all_at(&mut self.builder.slices(&header), self.offset);
        written.map_err(failed("write", shared, &segment))?;
        if !planted(Bug::SkipFsync) {
            let synced = sync(&*segment.file).await;
            synced.map_err(failed("sync", shared, &segment))?;
        }
        self.chain.sequence += 1;
        self.chain.crc = crc;
        Ok(self.builder.batch_len())
    }

    /// The segment for the batch: the active one, or the next, which opens with what holds before it.
    async fn segment_with_room(&mut self) -> Result<Arc<Segment>, WalError> {
        if let Some(active) = self
            .active
            .as_ref()
            .filter(|it| self.builder.batch_len() <= it.len - self.offset)
        {
            return Ok(active.clone());
        }
        let vote = self.vote.as_deref();
        let vote = vote.filter(|_| !planted(Bug::ForgetVote));
        self.builder.open_segment(vote, self.purged);
        let next = Arc::new(self.pool.take(self.builder.batch_len()).await?);
        self.offset = 0;
        self.active = Some(next.clone());
        Ok(next)
    }

    fn note_written(&mut self, shared: &Shared, taken: &Taken) {
        self.committed = taken.committed;
        for operation in &taken.operations {
            match operation {
                Operation::Vote { vote, .. } => self.vote = Some(vote.clone()),
                Operation::Purge { upto } => {
                    shared.counting.purges.fetch_add(1, Relaxed);
                    if self.purged.is_none_or(|purged| purged.index < upto.index) {
                        self.purged = Some(*upto);
                    }
                }
                _ => {}
            }
        }
    }

    /// Tells readers where the entries lie and how far the log is durable, and frees spent segments.
    fn publish(&self, shared: &Shared, taken: &Taken) {
        let Some(active) = &self.active else { return };
        let segment = active.number;
        let payloads_at = self.offset + self.builder.payloads_offset();
        let mut state = shared.state.lock();
        for placed in self.builder.placed() {
            let place = Place {
                segment,
                offset: payloads_at + placed.offset,
                len: placed.len,
                crc: placed.crc,
            };
            state.index.locate(placed.index, placed.serial, place);
            state.synced_serial = placed.serial;
        }
        state.index.evict();
        if self.offset == 0 {
            state.segments.insert(segment, active.clone());
        }
        let last = state
            .index
            .last_queued_by(state.synced_serial)
            .or(self.purged.map(|purged| purged.index));
        // Only truncation lowers it.
        shared
            .synced
            .fetch_max(last.map_or(0, |last| last + 1), Release);
        if let Spent::Below(oldest) = taken.release {
            let live = state.segments.split_off(&oldest.unwrap_or(segment));
            let spent = std::mem::replace(&mut state.segments, live);
            self.pool.give_back(spent.into_values());
        }
    }
}

fn failed(
    operation: &'static str,
    shared: &Shared,
    segment: &Segment,
) -> impl FnOnce(io::Error) -> WalError {
    let file = shared.files.path(&segment.name());
    move |source| WalError::Failed {
        operation,
        file,
        source: Arc::new(source),
    }
}

impl Shared {
    /// Shuts the log: these operations and all that are queued fail, and every later call is refused.
    fn fail(&self, failure: &WalError, operations: Vec<Operation>) {
        let queued = {
            let mut state = self.state.lock();
            state.failure = Some(failure.clone());
            std::mem::take(&mut state.queue)
        };
        for operation in operations.into_iter().chain(queued) {
            operation.finish(|| Err(failure.clone().into()));
        }
    }
}

/// However the thread ends, nobody waits for it in vain.
struct Ending<'a> {
    shared: &'a Shared,
    pool: Arc<Pool>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.pool.close();
        if std::thread::panicking() {
            let source = Arc::new(io::Error::other("the log's thread panicked"));
            let failure = WalError::Failed {
                operation: "write",
                file: PathBuf::new(),
                source,
            };
            self.shared.fail(&failure, Vec::new());
        }
    }
}
