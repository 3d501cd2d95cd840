//! A row of the history: one change of one key, and how it lies in LMDB (drawn in FORMAT.md).
//!
//! Rows are immutable. Each carries a checksum over its key and value, because LMDB's pages have none; a row whose
//! checksum fails is reported and never served.

use bytes::Bytes;
use keystead_seeded::{Bug, planted};

use crate::Revision;

const TOMBSTONE: u8 = 1;
const HAS_PREVIOUS: u8 = 2;
const HEADER_BYTES: usize = 5;

/// How many bytes a revision takes as a key of the history.
pub(crate) const REVISION_BYTES: usize = 12;

/// What a row costs in RAM beside its payload, for the ring's bound.
const ROW_OVERHEAD_BYTES: usize = 96;

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// When the change was made.
    pub revision: Revision,
    /// The live version that this row replaced or deleted; none for a creation.
    pub previous: Option<Revision>,
    /// Whether the key was deleted.
    pub tombstone: bool,
    /// The encoded `KeyValue` of etcd; a tombstone's has only the key.
    pub payload: Bytes,
}

/// The bytes under a revision are not the row that was written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the row of revision {revision} is damaged")]
pub struct DamagedRow {
    /// The revision that was read.
    pub revision: Revision,
}

impl Row {
    /// A row as the history holds it, its payload copied.
    pub(crate) fn new(revision: Revision, header: Header, payload: &[u8]) -> Self {
        let Header {
            previous,
            tombstone,
        } = header;
        Self {
            revision,
            previous,
            tombstone,
            payload: Bytes::copy_from_slice(payload),
        }
    }

    /// What the row costs in RAM.
    pub(crate) fn cost(&self) -> usize {
        self.payload.len() + ROW_OVERHEAD_BYTES
    }

    /// The stored value, written over whatever `out` held.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        let previous = if self.previous.is_some() {
            HAS_PREVIOUS
        } else {
            0
        };
        out.push(previous | if self.tombstone { TOMBSTONE } else { 0 });
        out.extend_from_slice(&[0; 4]);
        if let Some(previous) = self.previous {
            out.extend_from_slice(&revision_key(previous));
        }
        out.extend_from_slice(&self.payload);
        let crc = checksum(&revision_key(self.revision), out[0], &out[HEADER_BYTES..]);
        out[1..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
    }

    /// Reads the stored value of `revision`, checksum and all, and copies its payload.
    pub(crate) fn decode(revision: Revision, value: &[u8]) -> Result<Self, DamagedRow> {
        let (header, payload) = Header::decode(revision, value)?;
        Ok(Self::new(revision, header, payload))
    }
}

/// A row without its payload, for walks that copy nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub previous: Option<Revision>,
    pub tombstone: bool,
}

impl Header {
    /// Splits a stored value whose checksum holds into its header and its payload.
    pub(crate) fn decode(revision: Revision, value: &[u8]) -> Result<(Self, &[u8]), DamagedRow> {
        let damaged = DamagedRow { revision };
        let (head, body) = value.split_first_chunk::<HEADER_BYTES>().ok_or(damaged)?;
        let [flags, crc @ ..] = *head;
        let sound = checksum(&revision_key(revision), flags, body) == u32::from_be_bytes(crc)
            || planted(Bug::SkipRowChecksum);
        if !sound || flags & !(TOMBSTONE | HAS_PREVIOUS) != 0 {
            return Err(damaged);
        }
        let tombstone = flags & TOMBSTONE != 0;
        if flags & HAS_PREVIOUS == 0 {
            return Ok((
                Self {
                    previous: None,
                    tombstone,
                },
                body,
            ));
        }
        let (previous, payload) = body.split_first_chunk::<REVISION_BYTES>().ok_or(damaged)?;
        Ok((
            Self {
                previous: Some(revision_of(previous)),
                tombstone,
            },
            payload,
        ))
    }
}

/// The key of a row: its revision, ordered as bytes as it is as numbers.
pub(crate) fn revision_key(revision: Revision) -> [u8; REVISION_BYTES] {
    let mut key = [0; REVISION_BYTES];
    key[..8].copy_from_slice(&revision.main.to_be_bytes());
    key[8..].copy_from_slice(&revision.sub.to_be_bytes());
    key
}

/// The revision that a key of the history names.
pub(crate) fn revision_of(key: &[u8; REVISION_BYTES]) -> Revision {
    let [a, b, c, d, e, f, g, h, sub @ ..] = *key;
    Revision {
        main: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        sub: u32::from_be_bytes(sub),
    }
}

fn checksum(key: &[u8], flags: u8, body: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &[flags]);
    crc32c::crc32c_append(crc, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(main: i64, previous: Option<Revision>, tombstone: bool, payload: &[u8]) -> Row {
        let revision = Revision { main, sub: 1 };
        Row {
            revision,
            previous,
            tombstone,
            payload: Bytes::copy_from_slice(payload),
        }
    }

    #[test]
    fn keys_sort_as_revisions_do() {
        let revisions = [(1, 0), (1, 1), (255, u32::MAX), (256, 0), (i64::MAX, 3)];
        let keys: Vec<_> = revisions
            .map(|(main, sub)| revision_key(Revision { main, sub }))
            .into();
        assert!(keys.is_sorted());
        assert_eq!(
            revision_of(&keys[2]),
            Revision {
                main: 255,
                sub: u32::MAX
            }
        );
    }

    proptest! {
        #[test]
        fn a_row_comes_back_as_it_was_stored(main in 2i64.., tombstone: bool, before: Option<(u16, u32)>, payload: Vec<u8>) {
            let before = before.map(|(main, sub)| Revision { main: main.into(), sub });
            let row = row(main, before, tombstone, &payload);
            let mut stored = Vec::new();
            row.encode(&mut stored);
            prop_assert_eq!(Row::decode(row.revision, &stored), Ok(row));
        }

        #[test]
        fn a_flipped_bit_is_found(at: prop::sample::Index, payload: Vec<u8>) {
            let row = row(9, Some(Revision { main: 4, sub: 0 }), false, &payload);
            let mut stored = Vec::new();
            row.encode(&mut stored);
            let bit = at.index(stored.len() * 8);
            stored[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Row::decode(row.revision, &stored), Err(DamagedRow { revision: row.revision }));
        }
    }

    #[test]
    fn a_row_under_another_revision_is_found() {
        let mut stored = Vec::new();
        row(9, None, false, b"payload").encode(&mut stored);
        assert!(Row::decode(Revision { main: 10, sub: 1 }, &stored).is_err());
    }
}
