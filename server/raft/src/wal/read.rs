//! Reading entries back: recent ones from memory, others from their segments, verified.
//!
//! Runs on the caller's thread. A reader holds the segments it reads from, and a held segment is not
//! used again, so a purge in between is harmless.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::{Entry, EntryId};
use super::error::WalError;
use super::index::{Found, Place};
use super::segment::Segment;
use super::{Shared, State};

/// One read from disk spans at most this, so that a reader of a long range holds little memory at a time.
const SPAN_BYTES_MAX: u64 = 1 << 20;
/// Reading across a gap of this size, a batch's header and records, costs less than a second call.
const GAP_BYTES_MAX: u64 = 4 << 10;

struct Wanted {
    id: EntryId,
    from: From,
}

enum From {
    Memory(Bytes),
    Disk(Arc<Segment>, Place),
}

pub(super) fn read(
    shared: &Shared,
    range: Range<u64>,
    max_bytes: usize,
) -> Result<Vec<Entry>, WalError> {
    let wanted = plan(&shared.state.lock(), range, max_bytes);
    let mut entries = Vec::with_capacity(wanted.len());
    let mut rest = &wanted[..];
    while let Some(next) = rest.first() {
        let taken = match &next.from {
            From::Memory(payload) => {
                entries.push(Entry {
                    id: next.id,
                    payload: payload.clone(),
                });
                1
            }
            From::Disk(segment, _) => read_run(shared, segment, &run_on_disk(rest), &mut entries)?,
        };
        rest = &rest[taken..];
    }
    Ok(entries)
}

pub(super) fn read_recent(
    shared: &Shared,
    range: Range<u64>,
    max_bytes: usize,
) -> Option<Vec<Entry>> {
    let wanted = plan(&shared.state.lock(), range, max_bytes);
    let entry = |wanted: Wanted| match wanted.from {
        From::Memory(payload) => Some(Entry {
            id: wanted.id,
            payload,
        }),
        From::Disk(..) => None,
    };
    wanted.into_iter().map(entry).collect()
}

fn plan(state: &State, range: Range<u64>, max_bytes: usize) -> Vec<Wanted> {
    let held = state.index.range();
    let mut wanted = Vec::new();
    let mut bytes = 0;
    for index in range.start.max(held.start)..range.end.min(held.end) {
        let Some((id, found)) = state.index.find(index) else {
            break;
        };
        let (len, from) = match found {
            Found::Payload(payload) => (payload.len(), From::Memory(payload)),
            Found::Stored(place) => match state.segments.get(&place.segment) {
                Some(segment) => (place.len as usize, From::Disk(segment.clone(), place)),
                None => break,
            },
        };
        if !wanted.is_empty() && bytes + len > max_bytes {
            break;
        }
        bytes += len;
        wanted.push(Wanted { id, from });
    }
    wanted
}

/// The entries, from the first on, that one read from its segment can take.
fn run_on_disk(wanted: &[Wanted]) -> Vec<(EntryId, Place)> {
    let mut run: Vec<(EntryId, Place)> = Vec::new();
    for next in wanted {
        let From::Disk(_, place) = &next.from else {
            break;
        };
        if let (Some((_, first)), Some((_, last))) = (run.first(), run.last()) {
            let gap = place.offset.checked_sub(last.end());
            let near =
                place.segment == first.segment && gap.is_some_and(|gap| gap <= GAP_BYTES_MAX);
            if !near || place.end() - first.offset > SPAN_BYTES_MAX {
                break;
            }
        }
        run.push((next.id, *place));
    }
    run
}

/// Reads a run of entries at once, and gives their number.
fn read_run(
    shared: &Shared,
    segment: &Segment,
    run: &[(EntryId, Place)],
    entries: &mut Vec<Entry>,
) -> Result<usize, WalError> {
    let start = run.first().map_or(0, |(_, place)| place.offset);
    let end = run.last().map_or(start, |(_, place)| place.end());
    let mut bytes = vec![0; (end - start) as usize];
    let file = || shared.files.path(&segment.name());
    let failed = |source: io::Error| WalError::Read {
        file: file(),
        source: Arc::new(source),
    };
    segment
        .file
        .read_exact_at(&mut bytes, start)
        .map_err(failed)?;
    let bytes = Bytes::from(bytes);
    for (id, place) in run {
        let payload = bytes.slice((place.offset - start) as usize..(place.end() - start) as usize);
        if crc32c::crc32c(&payload) != place.crc {
            return Err(WalError::Damaged {
                index: id.index,
                file: file(),
                offset: place.offset,
            });
        }
        entries.push(Entry { id: *id, payload });
    }
    Ok(run.len())
}
