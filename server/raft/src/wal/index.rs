//! Where each entry of the log lies: in which segment, at which offset, and for recent ones the payload
//! itself. The caller's view: an entry is here from the moment it is queued.
//!
//! Held under the log's lock by callers, the writer and recovery. Does no I/O.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::entry::{Entry, EntryId};

/// Where a payload lies, and how to tell that it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: u64,
    pub offset: u64,
    pub len: u32,
    pub crc: u32,
}

impl Place {
    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.len)
    }
}

struct Slot {
    term: u64,
    leader: u64,
    /// Order of queueing over the whole life of this process; an entry written anew at the same index
    /// has a higher one. 0 for entries found by recovery.
    serial: u64,
    place: Option<Place>,
}

/// An entry as the index knows it.
pub(super) enum Found {
    Payload(Bytes),
    Stored(Place),
}

/// The entries after the purge mark.
pub(super) struct LogIndex {
    /// Index of the first slot.
    base: u64,
    slots: VecDeque<Slot>,
    /// Payloads of the newest slots.
    recent: VecDeque<Bytes>,
    recent_bytes: usize,
    recent_bytes_max: usize,
    purged: Option<EntryId>,
}

impl LogIndex {
    pub(super) fn empty(recent_bytes_max: usize) -> LogIndex {
        let (slots, recent) = (VecDeque::new(), VecDeque::new());
        LogIndex {
            base: 0,
            slots,
            recent,
            recent_bytes: 0,
            recent_bytes_max,
            purged: None,
        }
    }

    pub(super) fn purged(&self) -> Option<EntryId> {
        self.purged
    }

    /// The newest entry, or the purge mark when there is none behind it.
    pub(super) fn last(&self) -> Option<EntryId> {
        match self.slots.len() {
            0 => self.purged,
            len => self.id(self.base + len as u64 - 1),
        }
    }

    /// The index that the next entry must have; any, while there was none.
    pub(super) fn next(&self) -> Option<u64> {
        match self.slots.len() {
            0 => self.purged.map(|purged| purged.index + 1),
            len => Some(self.base + len as u64),
        }
    }

    pub(super) fn id(&self, index: u64) -> Option<EntryId> {
        let slot = self
            .slots
            .get(usize::try_from(index.checked_sub(self.base)?).ok()?)?;
        Some(EntryId {
            term: slot.term,
            leader: slot.leader,
            index,
        })
    }

    /// Indexes of the entries that are held.
    pub(super) fn range(&self) -> Range<u64> {
        self.base..self.base + self.slots.len() as u64
    }

    /// Adds an entry that follows the last one and is not on disk yet.
    pub(super) fn push(&mut self, entry: &Entry, serial: u64) {
        self.push_slot(entry.id, serial, None);
        self.recent_bytes += entry.payload.len();
        self.recent.push_back(entry.payload.clone());
    }

    /// Adds an entry found on disk.
    pub(super) fn push_stored(&mut self, id: EntryId, place: Place) {
        self.push_slot(id, 0, Some(place));
    }

    fn push_slot(&mut self, id: EntryId, serial: u64, place: Option<Place>) {
        if self.slots.is_empty() {
            self.base = id.index;
        }
        self.slots.push_back(Slot {
            term: id.term,
            leader: id.leader,
            serial,
            place,
        });
    }

    /// Notes where the entry queued as `serial` came to lie, unless it was truncated or purged since.
    pub(super) fn locate(&mut self, index: u64, serial: u64, place: Place) {
        let at = index
            .checked_sub(self.base)
            .and_then(|at| usize::try_from(at).ok());
        match at.and_then(|at| self.slots.get_mut(at)) {
            Some(slot) if slot.serial == serial => slot.place = Some(place),
            _ => {}
        }
    }

    /// Drops payloads of the oldest entries that are on disk until the rest fits its bound.
    pub(super) fn evict(&mut self) {
        while self.recent_bytes > self.recent_bytes_max {
            let oldest = &self.slots[self.slots.len() - self.recent.len()];
            if oldest.place.is_none() {
                return;
            }
            self.forget_oldest_payload();
        }
    }

    fn forget_oldest_payload(&mut self) {
        let payload = self.recent.pop_front();
        self.recent_bytes -= payload.map_or(0, |payload| payload.len());
    }

    /// Drops the entries after `last_kept`, all when there is none.
    pub(super) fn truncate_after(&mut self, last_kept: Option<u64>) {
        let keep = last_kept.map_or(0, |last| (last + 1).saturating_sub(self.base));
        while self.slots.len() as u64 > keep {
            self.slots.pop_back();
            let payload = self.recent.pop_back();
            self.recent_bytes -= payload.map_or(0, |payload| payload.len());
        }
        if self.slots.is_empty() {
            let behind_purged = self.purged.map_or(0, |purged| purged.index + 1);
            self.base = last_kept.map_or(0, |last| last + 1).max(behind_purged);
        }
    }

    /// Drops the entries up to and with `upto`; beyond the last, the log goes on behind it.
    pub(super) fn purge(&mut self, upto: EntryId) {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        while self.base <= upto.index && !self.slots.is_empty() {
            if self.recent.len() == self.slots.len() {
                self.forget_oldest_payload();
            }
            self.slots.pop_front();
            self.base += 1;
        }
        self.purged = Some(upto);
        if self.slots.is_empty() {
            self.base = upto.index + 1;
        }
    }

    /// Sets the purge mark that a segment opens with; the entries are those that follow in it.
    pub(super) fn set_purged(&mut self, purged: Option<EntryId>) {
        self.purged = purged;
        if self.slots.is_empty() {
            self.base = purged.map_or(0, |purged| purged.index + 1);
        }
    }

    /// The oldest segment that an entry lies in; `None` when the oldest entry is not on disk yet.
    pub(super) fn oldest_segment(&self) -> Option<u64> {
        self.slots.front()?.place.map(|place| place.segment)
    }

    /// Where the newest `bytes` of the log's files begin: the first entry that lies in them.
    pub(super) fn first_within(&self, bytes: u64, segment_bytes: u64) -> Option<u64> {
        let address = |place: Place| place.segment * segment_bytes + place.offset;
        let end = address(self.slots.back()?.place?);
        let is_before = |slot: &Slot| slot.place.is_some_and(|it| address(it) + bytes < end);
        Some(self.base + self.slots.partition_point(is_before) as u64)
    }

    /// The highest index of the log of which all up to it was queued no later than `serial`.
    pub(super) fn last_queued_by(&self, serial: u64) -> Option<u64> {
        let count = self.slots.partition_point(|slot| slot.serial <= serial);
        (self.base + count as u64)
            .checked_sub(1)
            .filter(|_| count > 0)
    }

    /// An entry and where to take its payload from.
    pub(super) fn find(&self, index: u64) -> Option<(EntryId, Found)> {
        let id = self.id(index)?;
        let at = (index - self.base) as usize;
        let first_recent = self.slots.len() - self.recent.len();
        let found = match at.checked_sub(first_recent) {
            Some(recent) => Found::Payload(self.recent[recent].clone()),
            None => Found::Stored(self.slots[at].place?),
        };
        Some((id, found))
    }
}
