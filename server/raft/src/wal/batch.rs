//! A batch: the unit that is written by one call and made durable by one sync. Its header, and the
//! builder that lays out header, records and payloads as slices without copying large payloads.
//!
//! Pure; FORMAT.md draws every byte. The writer builds batches, recovery reads headers.

use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;

use super::entry::{Entry, EntryId};
use super::record::{self, Described};

/// The format this release writes, and the newest it reads.
pub(super) const VERSION: u16 = 1;
/// Batches start and end at multiples of this, the smallest sector: an acknowledged sector is never
/// written again.
pub(super) const SECTOR_BYTES: u64 = 512;
/// Size of a batch's header.
pub(super) const HEADER_BYTES: usize = 96;

const MAGIC: [u8; 4] = *b"KWAL";
/// Copying a payload up to this size costs less than a slice of its own in the write call.
const COPIED_BYTES_MAX: usize = 512;

const OPENS_SEGMENT: u16 = 1;
const HAS_COMMITTED: u16 = 2;

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub records_crc: u32,
    pub records_len: u32,
    pub payloads_len: u64,
    /// Drawn when the log was made: bytes of another log, or in a payload, never pass for a batch.
    pub log: u64,
    /// Grows with every opening of the log: what an earlier process left torn never passes for new.
    pub generation: u64,
    pub segment: u64,
    pub sequence: u64,
    /// The header CRC of the batch before; 0 before the first.
    pub previous: u32,
    pub version: u16,
    pub opens_segment: bool,
    pub committed: Option<EntryId>,
}

impl Header {
    /// Header, records and payloads, rounded up to whole sectors; `None` beyond any file's size.
    pub(super) fn batch_len(&self) -> Option<u64> {
        let body = u64::from(self.records_len).checked_add(self.payloads_len)?;
        body.checked_add(HEADER_BYTES as u64)?
            .checked_next_multiple_of(SECTOR_BYTES)
    }

    /// The header's bytes and their CRC, which chains the next batch to this one.
    pub(super) fn encode(&self) -> ([u8; HEADER_BYTES], u32) {
        let committed = self.committed.unwrap_or(EntryId {
            term: 0,
            leader: 0,
            index: 0,
        });
        let flags = if self.opens_segment { OPENS_SEGMENT } else { 0 }
            | if self.committed.is_some() {
                HAS_COMMITTED
            } else {
                0
            };
        let mut out = [0; HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &self.records_crc.to_le_bytes());
        put(12, &self.records_len.to_le_bytes());
        put(16, &self.payloads_len.to_le_bytes());
        put(24, &self.log.to_le_bytes());
        put(32, &self.generation.to_le_bytes());
        put(40, &self.segment.to_le_bytes());
        put(48, &self.sequence.to_le_bytes());
        put(56, &self.previous.to_le_bytes());
        put(60, &self.version.to_le_bytes());
        put(62, &flags.to_le_bytes());
        put(64, &committed.term.to_le_bytes());
        put(72, &committed.leader.to_le_bytes());
        put(80, &committed.index.to_le_bytes());
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        (out, crc)
    }

    /// Reads a header and its CRC; `None` when the bytes are not one, or not whole.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Header, u32)> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let crc = u32_at(bytes, 4);
        if bytes[..4] != MAGIC || crc32c::crc32c(&bytes[8..]) != crc {
            return None;
        }
        let flags = u16_at(bytes, 62);
        let committed = EntryId {
            term: u64_at(bytes, 64),
            leader: u64_at(bytes, 72),
            index: u64_at(bytes, 80),
        };
        let header = Header {
            records_crc: u32_at(bytes, 8),
            records_len: u32_at(bytes, 12),
            payloads_len: u64_at(bytes, 16),
            log: u64_at(bytes, 24),
            generation: u64_at(bytes, 32),
            segment: u64_at(bytes, 40),
            sequence: u64_at(bytes, 48),
            previous: u32_at(bytes, 56),
            version: u16_at(bytes, 60),
            opens_segment: flags & OPENS_SEGMENT != 0,
            committed: (flags & HAS_COMMITTED != 0).then_some(committed),
        };
        Some((header, crc))
    }
}

fn u16_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Collects records and payloads of one batch; its buffers are used again for the next.
#[derive(Default)]
pub(super) struct Builder {
    head: Vec<u8>,
    records: Vec<u8>,
    copied: Vec<u8>,
    payloads: Vec<Piece>,
    payloads_len: u64,
    placed: Vec<Placed>,
}

/// An entry of the batch, and where its payload lies from the first payload on.
pub(super) struct Placed {
    pub index: u64,
    pub serial: u64,
    pub offset: u64,
    pub len: u32,
    pub crc: u32,
}

/// A stretch of the payloads: bytes of the builder's own, or of an entry.
enum Piece {
    Copied(Range<usize>),
    Shared(Bytes),
}

impl Builder {
    pub(super) fn clear(&mut self) {
        self.head.clear();
        self.records.clear();
        self.copied.clear();
        self.payloads.clear();
        self.payloads_len = 0;
        self.placed.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn append(&mut self, entries: &[Entry], first_serial: u64) {
        let Some(first) = entries.first() else { return };
        record::put_append(&mut self.records, first.id.index, entries.len() as u32);
        for (serial, entry) in (first_serial..).zip(entries) {
            let (len, crc) = (entry.payload.len() as u32, crc32c::crc32c(&entry.payload));
            let EntryId {
                term,
                leader,
                index,
            } = entry.id;
            record::put_described(
                &mut self.records,
                &Described {
                    term,
                    leader,
                    len,
                    crc,
                },
            );
            self.placed.push(Placed {
                index,
                serial,
                offset: self.payloads_len,
                len,
                crc,
            });
            self.put_payload(&entry.payload);
        }
    }

    /// The entries appended, in order.
    pub(super) fn placed(&self) -> &[Placed] {
        &self.placed
    }

    pub(super) fn truncate(&mut self, last_kept: Option<u64>) {
        record::put_truncate(&mut self.records, last_kept);
    }

    pub(super) fn purge(&mut self, upto: EntryId) {
        record::put_purge(&mut self.records, upto);
    }

    pub(super) fn vote(&mut self, vote: &[u8]) {
        record::put_vote(&mut self.records, vote);
    }

    /// Puts before all records what a segment opens with; it is kept apart because only the batch's
    /// size decides whether it opens one.
    pub(super) fn open_segment(&mut self, vote: Option<&[u8]>, purged: Option<EntryId>) {
        record::put_head(&mut self.head, vote, purged);
    }

    /// The size of the batch on disk, as built so far.
    pub(super) fn batch_len(&self) -> u64 {
        let bytes = HEADER_BYTES + self.head.len() + self.records.len();
        (bytes as u64 + self.payloads_len).next_multiple_of(SECTOR_BYTES)
    }

    /// Where the first payload lies, from the start of the batch.
    pub(super) fn payloads_offset(&self) -> u64 {
        (HEADER_BYTES + self.head.len() + self.records.len()) as u64
    }

    /// Fills in the sizes and CRCs of `header`, and gives its bytes and the CRC for the next batch.
    pub(super) fn seal(&self, header: Header) -> ([u8; HEADER_BYTES], u32) {
        let records_crc = crc32c::crc32c_append(crc32c::crc32c(&self.head), &self.records);
        let records_len = (self.head.len() + self.records.len()) as u32;
        let opens_segment = !self.head.is_empty();
        Header {
            records_crc,
            records_len,
            payloads_len: self.payloads_len,
            opens_segment,
            ..header
        }
        .encode()
    }

    /// The whole batch as slices, padding included.
    pub(super) fn slices<'a>(&'a self, header: &'a [u8; HEADER_BYTES]) -> Vec<IoSlice<'a>> {
        const ZEROS: [u8; SECTOR_BYTES as usize] = [0; SECTOR_BYTES as usize];
        let used = self.payloads_offset() + self.payloads_len;
        let padding = (self.batch_len() - used) as usize;
        let payloads = self.payloads.iter().map(|piece| match piece {
            Piece::Copied(range) => &self.copied[range.clone()],
            Piece::Shared(bytes) => bytes,
        });
        let front = [&header[..], &self.head, &self.records];
        let slices = front.into_iter().chain(payloads).chain([&ZEROS[..padding]]);
        slices
            .filter(|slice| !slice.is_empty())
            .map(IoSlice::new)
            .collect()
    }

    fn put_payload(&mut self, payload: &Bytes) {
        self.payloads_len += payload.len() as u64;
        if payload.len() > COPIED_BYTES_MAX {
            self.payloads.push(Piece::Shared(payload.clone()));
            return;
        }
        let start = self.copied.len();
        self.copied.extend_from_slice(payload);
        match self.payloads.last_mut() {
            Some(Piece::Copied(range)) => range.end = self.copied.len(),
            _ => self.payloads.push(Piece::Copied(start..self.copied.len())),
        }
    }
}
