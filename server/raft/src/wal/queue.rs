//! The operations that wait for the writer: made by the log's verbs, taken by its thread.

use std::io;

use bytes::Bytes;

use super::Done;
use super::entry::{Entry, EntryId};
use super::error::WalError;

/// One call that changes the log, or waits for those before it.
pub(super) enum Operation {
    Append {
        entries: Vec<Entry>,
        first_serial: u64,
        done: Option<Done>,
    },
    Truncate {
        last_kept: Option<u64>,
    },
    Purge {
        upto: EntryId,
    },
    Vote {
        vote: Bytes,
        done: Done,
    },
    Barrier {
        done: Done,
    },
}

impl Operation {
    /// What the operation holds in memory and adds to a batch, near enough for a bound.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Operation::Append { entries, .. } => entries.iter().map(entry_bytes).sum(),
            Operation::Vote { vote, .. } => RECORD_BYTES + vote.len(),
            _ => RECORD_BYTES,
        }
    }

    /// Tells the caller, when there is one to be told.
    pub(super) fn finish(self, result: impl FnOnce() -> io::Result<()>) {
        match self {
            Operation::Append {
                done: Some(done), ..
            }
            | Operation::Vote { done, .. }
            | Operation::Barrier { done } => done(result()),
            Operation::Append { done: None, .. }
            | Operation::Truncate { .. }
            | Operation::Purge { .. } => {}
        }
    }
}

/// A record's fixed parts, rounded up.
const RECORD_BYTES: usize = 64;
/// A payload's length is stored in 32 bits; half of that leaves room in every sum.
const ENTRY_BYTES_MAX: usize = 1 << 31;

/// What an entry holds in memory and adds to a batch, near enough for a bound.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    RECORD_BYTES + entry.payload.len()
}

/// Refuses entries that do not follow one another from `next` on.
pub(super) fn check_order(entries: &[Entry], next: Option<u64>) -> Result<(), WalError> {
    let first = entries.first().map(|entry| entry.id.index);
    for (expected, entry) in (next.or(first).unwrap_or(0)..).zip(entries) {
        let (found, size_bytes) = (entry.id.index, entry.payload.len());
        if found != expected || found == u64::MAX {
            return Err(WalError::OutOfOrder { expected, found });
        }
        if size_bytes > ENTRY_BYTES_MAX {
            return Err(WalError::TooLarge {
                what: "an entry",
                size_bytes,
            });
        }
    }
    Ok(())
}

/// Cuts entries into operations of at most `max_bytes` each, or of one entry; the last one has `done`.
pub(super) fn parts(
    entries: Vec<Entry>,
    mut first_serial: u64,
    max_bytes: usize,
    done: Done,
) -> Vec<(Vec<Entry>, u64, Option<Done>)> {
    let mut parts = Vec::new();
    let mut part: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut part_bytes = 0;
    for entry in entries {
        let size_bytes = entry_bytes(&entry);
        if !part.is_empty() && part_bytes + size_bytes > max_bytes {
            let serial = first_serial;
            first_serial += part.len() as u64;
            parts.push((std::mem::take(&mut part), serial, None));
            part_bytes = 0;
        }
        part_bytes += size_bytes;
        part.push(entry);
    }
    parts.push((part, first_serial, Some(done)));
    parts
}
