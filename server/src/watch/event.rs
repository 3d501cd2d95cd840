//! A batch's events in wire form, encoded once however many watchers they go to.
//!
//! An encoded event is the `events` field of a WatchResponse with its tag and length, so a message
//! is a short head and the pieces of its events, copied. The kv of a put is the stored payload as it
//! is. A piece exists in two forms, with and without the previous version, each made when the first
//! watcher needs it.

use std::ops::Range;

use bytes::Bytes;
use keystead_mvcc::{KeyValueRef, Row};

use super::history::{History, previous};
use super::varint;

/// The encoded events of one batch of rows.
#[derive(Default)]
pub(super) struct Events {
    arena: Vec<u8>,
    plain: Vec<Option<Range<usize>>>,
    with_previous: Vec<Option<Range<usize>>>,
}

/// An arena that grew beyond this for one large batch is given back after it.
const ARENA_KEPT_BYTES: usize = 1 << 20;

impl Events {
    /// Starts on a batch of `count` rows.
    pub(super) fn start(&mut self, count: usize) {
        self.arena.clear();
        self.arena.shrink_to(ARENA_KEPT_BYTES);
        for pieces in [&mut self.plain, &mut self.with_previous] {
            pieces.clear();
            pieces.resize(count, None);
        }
    }

    /// Makes sure that row `index` is encoded and gives the size of its piece.
    pub(super) fn prepare(
        &mut self,
        history: &impl History,
        rows: &[Row],
        index: u32,
        with_previous: bool,
    ) -> usize {
        let index = index as usize;
        let pieces = if with_previous {
            &mut self.with_previous
        } else {
            &mut self.plain
        };
        if let Some(piece) = &pieces[index] {
            return piece.len();
        }
        let row = &rows[index];
        let earlier = if with_previous {
            previous(history, row)
        } else {
            None
        };
        let start = self.arena.len();
        encode(&mut self.arena, row, earlier.as_ref());
        pieces[index] = Some(start..self.arena.len());
        self.arena.len() - start
    }

    /// The piece of a row that [`Events::prepare`] has encoded in this form.
    pub(super) fn piece(&self, index: u32, with_previous: bool) -> &[u8] {
        let pieces = if with_previous {
            &self.with_previous
        } else {
            &self.plain
        };
        pieces[index as usize]
            .clone()
            .map_or(&[], |piece| &self.arena[piece])
    }
}

/// The key of a row; rows without one do not exist.
pub(super) fn key_of(row: &Row) -> &[u8] {
    KeyValueRef::decode(&row.payload).map_or(&[], |kv| kv.key)
}

const EVENTS: u8 = 11 << 3 | 2;
const TYPE: u8 = 1 << 3;
const DELETE: u8 = 1;
const KV: u8 = 2 << 3 | 2;
const PREV_KV: u8 = 3 << 3 | 2;
const KV_KEY: u8 = 1 << 3 | 2;
const KV_MOD_REVISION: u8 = 3 << 3;

fn encode(out: &mut Vec<u8>, row: &Row, previous: Option<&Bytes>) {
    let key = key_of(row);
    let kv_len = match row.tombstone {
        true => {
            1 + varint::len(key.len() as u64)
                + key.len()
                + 1
                + varint::len(row.revision.main as u64)
        }
        false => row.payload.len(),
    };
    let previous_len = previous.map_or(0, |kv| 1 + varint::len(kv.len() as u64) + kv.len());
    let type_len = if row.tombstone { 2 } else { 0 };
    let len = type_len + 1 + varint::len(kv_len as u64) + kv_len + previous_len;
    out.reserve(1 + varint::MAX_LEN + len);
    out.push(EVENTS);
    varint::put(out, len as u64);
    if row.tombstone {
        out.extend_from_slice(&[TYPE, DELETE]);
    }
    out.push(KV);
    varint::put(out, kv_len as u64);
    if row.tombstone {
        out.push(KV_KEY);
        varint::put(out, key.len() as u64);
        out.extend_from_slice(key);
        out.push(KV_MOD_REVISION);
        varint::put(out, row.revision.main as u64);
    } else {
        out.extend_from_slice(&row.payload);
    }
    if let Some(kv) = previous {
        out.push(PREV_KV);
        varint::put(out, kv.len() as u64);
        out.extend_from_slice(kv);
    }
}
