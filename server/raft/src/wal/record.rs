//! The records of a batch: their bytes, written and read. Pure; FORMAT.md draws them.
//!
//! Payloads are not here: a record carries each payload's length and CRC, and the payloads follow all
//! records of the batch. Reading takes any bytes without panic and allocates nothing.

use super::entry::EntryId;

/// Bytes that describe one entry in an append record: term, leader, length, CRC.
pub(super) const ENTRY_BYTES: usize = 24;
/// A vote is a term, a node and a flag in some encoding of the caller's; this leaves ample room.
pub(super) const VOTE_BYTES_MAX: usize = 256;

const APPEND: u8 = 1;
const TRUNCATE: u8 = 2;
const PURGE: u8 = 3;
const VOTE: u8 = 4;
const HEAD: u8 = 5;

/// One record as it lies in a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// Entries from `first` on; `table` describes them, `ENTRY_BYTES` each.
    Append { first: u64, table: &'a [u8] },
    /// Entries after `last_kept` are gone; all of them when there is none.
    Truncate { last_kept: Option<u64> },
    /// Entries up to and with this one are gone, and the log goes on behind it.
    Purge { upto: EntryId },
    /// The vote is now this.
    Vote { vote: &'a [u8] },
    /// What a segment opens with: vote and purge mark as they were before its first batch.
    Head {
        vote: Option<&'a [u8]>,
        purged: Option<EntryId>,
    },
}

/// One entry's description in an append record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub term: u64,
    pub leader: u64,
    pub len: u32,
    pub crc: u32,
}

/// The bytes are no record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Starts an append record; `count` descriptions follow.
pub(super) fn put_append(out: &mut Vec<u8>, first: u64, count: u32) {
    out.push(APPEND);
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
}

pub(super) fn put_described(out: &mut Vec<u8>, entry: &Described) {
    out.extend_from_slice(&entry.term.to_le_bytes());
    out.extend_from_slice(&entry.leader.to_le_bytes());
    out.extend_from_slice(&entry.len.to_le_bytes());
    out.extend_from_slice(&entry.crc.to_le_bytes());
}

pub(super) fn put_truncate(out: &mut Vec<u8>, last_kept: Option<u64>) {
    out.push(TRUNCATE);
    out.push(u8::from(last_kept.is_some()));
    out.extend_from_slice(&last_kept.unwrap_or(0).to_le_bytes());
}

pub(super) fn put_purge(out: &mut Vec<u8>, upto: EntryId) {
    out.push(PURGE);
    put_id(out, upto);
}

pub(super) fn put_vote(out: &mut Vec<u8>, vote: &[u8]) {
    out.push(VOTE);
    put_short(out, vote);
}

pub(super) fn put_head(out: &mut Vec<u8>, vote: Option<&[u8]>, purged: Option<EntryId>) {
    out.push(HEAD);
    out.push(u8::from(vote.is_some()) | u8::from(purged.is_some()) << 1);
    if let Some(vote) = vote {
        put_short(out, vote);
    }
    if let Some(purged) = purged {
        put_id(out, purged);
    }
}

fn put_id(out: &mut Vec<u8>, id: EntryId) {
    for part in [id.term, id.leader, id.index] {
        out.extend_from_slice(&part.to_le_bytes());
    }
}

fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Reads records one after the other; after a malformed one it ends.
pub(super) struct Records<'a>(pub &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut cursor = Cursor(self.0);
        let record = cursor.record();
        self.0 = if record.is_some() { cursor.0 } else { &[] };
        Some(record.ok_or(Malformed))
    }
}

/// The descriptions in the table of an append record.
pub(super) fn described(table: &[u8]) -> impl Iterator<Item = Described> + '_ {
    table.chunks_exact(ENTRY_BYTES).filter_map(|row| {
        let mut row = Cursor(row);
        Some(Described {
            term: row.u64()?,
            leader: row.u64()?,
            len: row.u32()?,
            crc: row.u32()?,
        })
    })
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn record(&mut self) -> Option<Record<'a>> {
        match self.u8()? {
            APPEND => {
                let (first, count) = (self.u64()?, self.u32()? as usize);
                let table = self.take(count.checked_mul(ENTRY_BYTES)?)?;
                let last_exists = count > 0 && first.checked_add(count as u64).is_some();
                last_exists.then_some(Record::Append { first, table })
            }
            TRUNCATE => {
                let (kept, index) = (self.flags(1)?, self.u64()?);
                Some(Record::Truncate {
                    last_kept: (kept == 1).then_some(index),
                })
            }
            PURGE => Some(Record::Purge { upto: self.id()? }),
            VOTE => Some(Record::Vote {
                vote: self.short()?,
            }),
            HEAD => {
                let present = self.flags(3)?;
                let vote = if present & 1 != 0 {
                    Some(self.short()?)
                } else {
                    None
                };
                let purged = if present & 2 != 0 {
                    Some(self.id()?)
                } else {
                    None
                };
                Some(Record::Head { vote, purged })
            }
            _ => None,
        }
    }

    fn id(&mut self) -> Option<EntryId> {
        let id = EntryId {
            term: self.u64()?,
            leader: self.u64()?,
            index: self.u64()?,
        };
        (id.index < u64::MAX).then_some(id)
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let len = u16::from_le_bytes(self.array()?);
        self.take(usize::from(len))
    }

    fn flags(&mut self, known: u8) -> Option<u8> {
        self.u8().filter(|flags| flags & !known == 0)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }
}
