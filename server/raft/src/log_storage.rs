//! openraft's log and vote over the write-ahead log.
//!
//! Only translates: votes, entries, truncations and purge marks go into the log's one queue in the order in which
//! openraft gives them. An append returns when the entries can be read; openraft hears that they are durable from the
//! log's own thread. The committed id rides along and causes no sync of its own.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use keystead_seeded::{Bug, planted};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use crate::blocking::aside;
use crate::installing::Installing;
use crate::standing::{Position, Standing, position_after};
use crate::stored;
use crate::type_config::{Entry, LogId, Payload, TypeConfig, Vote};
use crate::wal::{self, EntryId, Recovered, Wal};

/// One message to a follower, and one step of apply, carries about this much: it bounds what is in memory for it.
const READ_BYTES: usize = 4 << 20;

/// The log as openraft writes it. There is one.
pub(crate) struct LogStorage {
    log: LogReader,
    committed: Option<LogId>,
    standing: Arc<Standing>,
    installing: Arc<Installing>,
}

/// The log as openraft's tasks read it.
#[derive(Clone)]
pub(crate) struct LogReader {
    wal: Arc<Wal>,
    vote: Arc<parking_lot::Mutex<Option<Vote>>>,
}

impl LogStorage {
    pub(crate) fn new(
        wal: Arc<Wal>,
        recovered: &Recovered,
        standing: Arc<Standing>,
        installing: Arc<Installing>,
    ) -> Result<Self, stored::Unreadable> {
        let vote = recovered.vote.clone().map(stored::parse_vote).transpose()?;
        let log = LogReader {
            wal,
            vote: Arc::new(parking_lot::Mutex::new(vote)),
        };
        Ok(Self {
            log,
            committed: recovered.committed.map(log_id),
            standing,
            installing,
        })
    }

    pub(crate) fn reader(&self) -> LogReader {
        self.log.clone()
    }
}

/// How far the log is on this member's disk.
pub(crate) fn synced(wal: &Wal) -> Position {
    wal.synced_index().map_or(0, position_after)
}

pub(crate) fn log_id(id: EntryId) -> LogId {
    LogId::new_term_index(id.term, id.index)
}

/// A term has one leader, so the log need not name it.
pub(crate) fn entry_id(id: &LogId) -> EntryId {
    EntryId {
        term: id.leader_id.term,
        leader: 0,
        index: id.index,
    }
}

fn parse(entry: wal::Entry) -> io::Result<Entry> {
    let payload = stored::parse_payload(entry.payload).map_err(io::Error::other)?;
    Ok(Entry {
        log_id: log_id(entry.id),
        payload,
    })
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<Entry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let mut range = bounds(&range);
        let mut entries = Vec::new();
        while !range.is_empty() {
            let part = self.read(range.clone()).await?;
            let Some(last) = part.last() else { break };
            range.start = last.log_id.index + 1;
            entries.extend(part);
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(*self.vote.lock())
    }
}

impl LogReader {
    #[cfg(feature = "simulation")]
    pub(crate) fn wal(&self) -> &Wal {
        &self.wal
    }

    /// The vote that is on the disk.
    #[cfg(feature = "simulation")]
    pub(crate) fn saved_vote(&self) -> Option<Vote> {
        *self.vote.lock()
    }

    /// The first entries of `range`, up to a bound in bytes. Those that are not in memory any more are read from the
    /// disk on another thread.
    async fn read(&self, range: Range<u64>) -> io::Result<Vec<Entry>> {
        let entries = match self.wal.read_recent(range.clone(), READ_BYTES) {
            Some(entries) => entries,
            None => {
                let wal = self.wal.clone();
                aside(move || wal.read(range, READ_BYTES)).await??
            }
        };
        entries.into_iter().map(parse).collect()
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&index) => index,
        Bound::Excluded(&index) => index + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&index) => index + 1,
        Bound::Excluded(&index) => index,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogStorage<TypeConfig> for LogStorage {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        Ok(LogState {
            last_purged_log_id: self.log.wal.purged().map(log_id),
            last_log_id: self.log.wal.last().map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, saved) = tokio::sync::oneshot::channel();
        // Nobody waits any more when the core has ended.
        self.log.wal.save_vote(
            stored::vote(vote),
            Box::new(move |result| drop(done.send(result))),
        )?;
        if !planted(Bug::SkipVoteSync) {
            saved.await.map_err(io::Error::other)??;
        }
        *self.log.vote.lock() = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(id) = &committed {
            self.log.wal.note_committed(entry_id(id));
        }
        self.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut tickets = Vec::new();
        let mut stored = Vec::new();
        for mut entry in entries {
            match &mut entry.payload {
                Payload::Normal(proposal) => tickets.extend(proposal.ticket.take()),
                Payload::Membership(membership) => self.standing.set_membership(membership),
                Payload::Blank => {}
            }
            stored.push(wal::Entry {
                id: entry_id(&entry.log_id),
                payload: stored::payload(&entry.payload),
            });
        }
        let done = move |result| {
            callback.io_completed(result);
            // Only now may the next entry be proposed: it goes behind the news of this one.
            drop(tickets);
        };
        if planted(Bug::AnswerEarly) {
            self.log.wal.append(stored, Box::new(drop))?;
            done(Ok(()));
            return Ok(());
        }
        self.log.wal.append(stored, Box::new(done))?;
        Ok(())
    }

    async fn truncate_after(&mut self, last_kept: Option<LogId>) -> io::Result<()> {
        self.standing.doubt_membership();
        let kept = last_kept.map_or(0, |id| position_after(id.index));
        let end = self.log.wal.last().map_or(0, |id| position_after(id.index));
        if kept < end {
            let entries = end - kept;
            tracing::info!(
                from = kept,
                entries,
                "gave up entries that the leader does not have"
            );
        }
        self.log.wal.truncate_after(last_kept.map(|id| id.index))?;
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut upto = entry_id(&upto);
        if planted(Bug::PurgeTooFar) {
            let applied = self.log.wal.id(self.standing.applied() - 1);
            upto = applied.unwrap_or(upto);
        }
        self.log.wal.purge(upto)?;
        if self.installing.is_passed(position_after(upto.index)) {
            let installing = self.installing.clone();
            let forget = move |purged: io::Result<()>| {
                if purged.is_ok() {
                    installing.forget();
                }
            };
            self.log.wal.barrier(Box::new(forget))?;
        }
        Ok(())
    }
}
