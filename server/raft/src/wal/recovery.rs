//! Opening: reads the segments in order, verifies every batch, and replays the records.
//!
//! A bad batch ends the log when nothing newer follows, for then it is the write that was in flight at a
//! crash; when a newer batch follows, it was durable once, and opening is refused. Writes nothing, but
//! for zeros over a torn batch's header.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use keystead_seeded::{Bug, planted};

use super::batch::{HEADER_BYTES, Header, SECTOR_BYTES, VERSION};
use super::entry::EntryId;
use super::error::OpenError;
use super::files::Files;
use super::index::LogIndex;
use super::record::{Record, Records, described};
use super::replay::{Chain, Replayed};
use super::segment::{self, Segment};
use super::window::Window;

/// What was found, ready to be gone on with.
pub(super) struct Found {
    pub index: LogIndex,
    pub vote: Option<Bytes>,
    pub committed: Option<EntryId>,
    /// Segments that hold batches, but for the one to be gone on with.
    pub full: BTreeMap<u64, Arc<Segment>>,
    /// The segment to be gone on with, and where in it.
    pub active: Option<(Segment, u64)>,
    /// Segments without a batch, numbered behind `active`.
    pub ready: VecDeque<Segment>,
    pub next_number: u64,
    pub chain: Option<Chain>,
}

/// Reads the log in `files`.
///
/// # Errors
/// See [`OpenError`]; nothing stored was changed, but for what a crash left half made.
pub(super) fn recover(files: &dyn Files, recent_bytes_max: usize) -> Result<Found, OpenError> {
    let mut segments = open_segments(files)?;
    settle_newest(files, &segments)?;
    let mut scan = Scan {
        files,
        state: Replayed {
            index: LogIndex::empty(recent_bytes_max),
            vote: None,
            committed: None,
            chain: None,
        },
    };
    let mut tail = None;
    for (at, segment) in segments.iter().enumerate() {
        match scan.segment(segment)? {
            0 => break,
            end => tail = Some((at, end)),
        }
    }
    scan.refuse_what_was_lost(&segments, tail)?;
    bury_torn(files, &segments, tail)?;
    let next_number = segments.last().map_or(1, |last| last.number + 1);
    let ready = segments.split_off(tail.map_or(0, |(at, _)| at + 1)).into();
    let active = tail.and_then(|(_, end)| Some((segments.pop()?, end)));
    let full = segments
        .into_iter()
        .map(|segment| (segment.number, Arc::new(segment)))
        .collect();
    let Replayed {
        index,
        vote,
        committed,
        chain,
    } = scan.state;
    Ok(Found {
        index,
        vote,
        committed,
        full,
        active,
        ready,
        next_number,
        chain,
    })
}

fn open_segments(files: &dyn Files) -> Result<Vec<Segment>, OpenError> {
    let names = files.list().map_err(refused(files, "list", ""))?;
    segment::remove_unfinished(files, &names).map_err(refused(files, "remove", ""))?;
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| segment::number(name))
        .collect();
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        if pair[1] != pair[0] + 1 {
            return Err(corrupt(files, pair[0] + 1, 0, "the segment is missing"));
        }
    }
    numbers
        .into_iter()
        .map(|number| open_segment(files, number))
        .collect()
}

fn open_segment(files: &dyn Files, number: u64) -> Result<Segment, OpenError> {
    let name = segment::name(number);
    let file = files.open(&name).map_err(refused(files, "open", &name))?;
    let len = file.size_bytes().map_err(refused(files, "open", &name))?;
    Ok(Segment {
        number,
        file,
        len: len - len % SECTOR_BYTES,
    })
}

/// A write that was not synced before a crash, or whose sync failed, lies in the newest segment that has
/// a batch. It is made durable, or seen to be missing, before anything is concluded from it.
fn settle_newest(files: &dyn Files, segments: &[Segment]) -> Result<(), OpenError> {
    for segment in segments.iter().rev() {
        if !opens(files, segment)? {
            continue;
        }
        segment
            .file
            .settle()
            .map_err(refused(files, "sync", &segment.name()))?;
        if opens(files, segment)? {
            break;
        }
    }
    Ok(())
}

fn opens(files: &dyn Files, segment: &Segment) -> Result<bool, OpenError> {
    Ok(header_at(files, segment, 0)?.is_some())
}

/// The header at `offset`, when it was written there and not in an earlier use of the file.
fn header_at(
    files: &dyn Files,
    segment: &Segment,
    offset: u64,
) -> Result<Option<Header>, OpenError> {
    let mut bytes = [0; HEADER_BYTES];
    if offset + SECTOR_BYTES > segment.len {
        return Ok(None);
    }
    let read = segment.file.read_exact_at(&mut bytes, offset);
    read.map_err(refused(files, "read", &segment.name()))?;
    let header = Header::decode(&bytes).map(|(header, _)| header);
    Ok(header.filter(|header| header.segment == segment.number))
}

/// Wipes the header of a torn batch. Left there, the batch would come to life again if a later write,
/// torn in its turn, held the same payload and so brought the sectors that were missing.
fn bury_torn(
    files: &dyn Files,
    segments: &[Segment],
    tail: Option<(usize, u64)>,
) -> Result<(), OpenError> {
    let (tail_at, end) = tail.unwrap_or((0, 0));
    for (at, segment) in segments.iter().enumerate().skip(tail_at) {
        let offset = if at == tail_at { end } else { 0 };
        if header_at(files, segment, offset)?.is_some() {
            let zeros = [0; SECTOR_BYTES as usize];
            let slices = &mut [IoSlice::new(&zeros)];
            let written = segment.file.write_all_at(slices, offset);
            let buried = written.and_then(|()| segment.file.sync_data());
            buried.map_err(refused(files, "wipe a torn batch of", &segment.name()))?;
        }
    }
    Ok(())
}

fn refused<'a>(
    files: &'a dyn Files,
    operation: &'static str,
    name: &'a str,
) -> impl Fn(io::Error) -> OpenError + 'a {
    move |source| OpenError::Io {
        operation,
        file: files.path(name),
        source,
    }
}

fn corrupt(files: &dyn Files, number: u64, offset: u64, reason: &'static str) -> OpenError {
    OpenError::Corrupt {
        file: files.path(&segment::name(number)),
        offset,
        reason,
    }
}

struct Scan<'a> {
    files: &'a dyn Files,
    state: Replayed,
}

impl Scan<'_> {
    /// Replays the batches of a segment, and gives the offset behind the last good one.
    fn segment(&mut self, segment: &Segment) -> Result<u64, OpenError> {
        let mut window = Window::over(segment);
        let mut offset = 0;
        while let Some((header, crc)) = self.follows(&mut window, offset)? {
            self.batch(&mut window, offset, &header)?;
            let Header {
                log,
                generation,
                sequence,
                ..
            } = header;
            self.state.chain = Some(Chain {
                log,
                generation,
                sequence,
                crc,
            });
            offset += header.batch_len().unwrap_or(0);
        }
        Ok(offset)
    }

    /// The header of the batch at `offset`, when it is whole and the one that must follow.
    fn follows(
        &mut self,
        window: &mut Window<'_>,
        offset: u64,
    ) -> Result<Option<(Header, u32)>, OpenError> {
        let number = window.segment.number;
        let Some((header, crc)) = self.header(window, offset)? else {
            return Ok(None);
        };
        let expected = match &self.state.chain {
            Some(chain) => chain.is_followed_by(&header),
            None => number > 1 || (header.sequence == 1 && header.previous == 0),
        };
        if !expected || header.segment != number || header.opens_segment != (offset == 0) {
            return Ok(None);
        }
        if header.version > VERSION {
            let file = self.files.path(&window.segment.name());
            return Err(OpenError::Version {
                file,
                found: header.version,
                known: VERSION,
            });
        }
        Ok(self
            .is_whole(window, offset, &header)?
            .then_some((header, crc)))
    }

    fn header(
        &self,
        window: &mut Window<'_>,
        offset: u64,
    ) -> Result<Option<(Header, u32)>, OpenError> {
        let bytes = self.read(window, offset, HEADER_BYTES as u64)?;
        Ok(bytes.and_then(Header::decode))
    }

    fn is_whole(
        &self,
        window: &mut Window<'_>,
        offset: u64,
        header: &Header,
    ) -> Result<bool, OpenError> {
        let Some(batch) = header
            .batch_len()
            .map(|len| self.read(window, offset, len))
            .transpose()?
            .flatten()
        else {
            return Ok(false);
        };
        let (records, mut payloads) = split(batch, header);
        if crc32c::crc32c(records) != header.records_crc {
            return Ok(false);
        }
        for record in Records(records) {
            let Ok(Record::Append { table, .. }) = record else {
                continue;
            };
            for entry in described(table) {
                let Some((payload, rest)) = payloads.split_at_checked(entry.len as usize) else {
                    return Ok(false);
                };
                if crc32c::crc32c(payload) != entry.crc && !planted(Bug::TakeTornTail) {
                    return Ok(false);
                }
                payloads = rest;
            }
        }
        Ok(true)
    }

    fn batch(
        &mut self,
        window: &mut Window<'_>,
        offset: u64,
        header: &Header,
    ) -> Result<(), OpenError> {
        let number = window.segment.number;
        let records_end = HEADER_BYTES as u64 + u64::from(header.records_len);
        let mut payload_at = offset + records_end;
        let batch = self.read(window, offset, records_end)?.unwrap_or_default();
        for record in Records(&batch[HEADER_BYTES.min(batch.len())..]) {
            let applied = record
                .map_err(|_| "a record is malformed")
                .and_then(|record| self.state.record(&record, number, &mut payload_at));
            applied.map_err(|reason| corrupt(self.files, number, offset, reason))?;
        }
        // An id beyond the log names an entry that was not yet queued; it says nothing that can be used.
        let known = |id: &EntryId| {
            self.state
                .index
                .last()
                .is_some_and(|last| id.index <= last.index)
        };
        self.state.committed = header.committed.filter(known).or(self.state.committed);
        Ok(())
    }

    fn read<'w>(
        &self,
        window: &'w mut Window<'_>,
        offset: u64,
        len: u64,
    ) -> Result<Option<&'w [u8]>, OpenError> {
        let name = window.segment.name();
        window
            .read(offset, len)
            .map_err(refused(self.files, "read", &name))
    }

    /// Tells a torn tail from damage: refuses when a newer batch lies behind the end that was found.
    fn refuse_what_was_lost(
        &self,
        segments: &[Segment],
        tail: Option<(usize, u64)>,
    ) -> Result<(), OpenError> {
        let Some(first) = segments.first() else {
            return Ok(());
        };
        if tail.is_none() && first.number > 1 {
            return Err(corrupt(
                self.files,
                first.number,
                0,
                "the log has lost its first batch",
            ));
        }
        let (tail_at, end) = tail.unwrap_or((0, 0));
        for (at, segment) in segments.iter().enumerate().skip(tail_at) {
            // One batch is in flight at a time: had it begun the next segment, it would be alone there.
            // So a segment behind that one would show a newer batch in its first sector.
            let from = if at == tail_at { end } else { 0 };
            let upto = if at <= tail_at + 1 {
                segment.len
            } else {
                from + SECTOR_BYTES
            };
            let Some(found) = self.newer_batch(segment, from, upto)? else {
                continue;
            };
            // The lost batch opened the next segment, unless the newer one did.
            let in_next = at > tail_at + 1 || (at == tail_at + 1 && found > 0);
            let (number, offset) = match in_next {
                true => (segments[tail_at].number + 1, 0),
                false => (segments[tail_at].number, end),
            };
            return Err(corrupt(
                self.files,
                number,
                offset,
                "a damaged batch with newer ones behind it",
            ));
        }
        let behind_purged = self
            .state
            .index
            .purged()
            .map_or(0, |purged| purged.index + 1);
        let begun = first.number > 1 || self.state.index.purged().is_some();
        if begun && self.state.index.range().start > behind_purged {
            return Err(corrupt(
                self.files,
                first.number,
                0,
                "entries before this segment are missing",
            ));
        }
        Ok(())
    }

    /// Looks for the header of a batch that was written after the one that should lie at the log's end.
    fn newer_batch(
        &self,
        segment: &Segment,
        from: u64,
        upto: u64,
    ) -> Result<Option<u64>, OpenError> {
        let mut window = Window::over(segment);
        let newest = self.state.chain.map_or(0, |chain| chain.sequence);
        let mut offset = from;
        while offset < upto {
            if let Some((header, _)) = self.header(&mut window, offset)? {
                let of_log = self
                    .state
                    .chain
                    .is_none_or(|it| header.log == it.log && header.generation >= it.generation);
                if of_log && header.segment == segment.number && header.sequence > newest + 1 {
                    return Ok(Some(offset));
                }
            }
            offset += SECTOR_BYTES;
        }
        Ok(None)
    }
}

fn split<'b>(batch: &'b [u8], header: &Header) -> (&'b [u8], &'b [u8]) {
    let (records, payloads) = batch[HEADER_BYTES..].split_at(header.records_len as usize);
    (records, &payloads[..header.payloads_len as usize])
}
