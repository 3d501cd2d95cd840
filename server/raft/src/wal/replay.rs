//! What the batches of a log add up to, record by record. Pure; recovery feeds it verified batches in order.

use bytes::Bytes;

use super::batch::Header;
use super::entry::EntryId;
use super::index::{LogIndex, Place};
use super::record::{Record, described};

/// The newest batch, which the next must follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    pub log: u64,
    pub generation: u64,
    pub sequence: u64,
    pub crc: u32,
}

impl Chain {
    pub(super) fn is_followed_by(&self, header: &Header) -> bool {
        let newer = header.generation >= self.generation;
        header.log == self.log
            && newer
            && header.sequence == self.sequence + 1
            && header.previous == self.crc
    }
}

/// What the batches so far add up to.
pub(super) struct Replayed {
    pub index: LogIndex,
    pub vote: Option<Bytes>,
    pub committed: Option<EntryId>,
    pub chain: Option<Chain>,
}

impl Replayed {
    /// Applies a record that lies in `segment`, its payloads from `payload_at` on, which is moved behind them.
    ///
    /// # Errors
    /// What no writer would have written.
    pub(super) fn record(
        &mut self,
        record: &Record<'_>,
        segment: u64,
        payload_at: &mut u64,
    ) -> Result<(), &'static str> {
        match *record {
            Record::Append { first, table } => {
                return self.append(first, table, segment, payload_at);
            }
            Record::Truncate { last_kept } => self.index.truncate_after(last_kept),
            Record::Purge { upto } => self.index.purge(upto),
            Record::Vote { vote } => self.vote = Some(Bytes::copy_from_slice(vote)),
            Record::Head { vote, purged } if self.chain.is_none() => {
                self.vote = vote.map(Bytes::copy_from_slice);
                self.index.set_purged(purged);
            }
            Record::Head { .. } => {}
        }
        Ok(())
    }

    fn append(
        &mut self,
        first: u64,
        table: &[u8],
        segment: u64,
        payload_at: &mut u64,
    ) -> Result<(), &'static str> {
        // In the oldest segment the entries before may be in segments that were recycled since.
        let follows = match self.index.next() {
            Some(next) if self.index.range().is_empty() => first >= next,
            Some(next) => first == next,
            None => true,
        };
        if !follows {
            return Err("entries do not follow one another");
        }
        for (index, entry) in (first..).zip(described(table)) {
            let id = EntryId {
                term: entry.term,
                leader: entry.leader,
                index,
            };
            let place = Place {
                segment,
                offset: *payload_at,
                len: entry.len,
                crc: entry.crc,
            };
            self.index.push_stored(id, place);
            *payload_at += u64::from(entry.len);
        }
        Ok(())
    }
}
