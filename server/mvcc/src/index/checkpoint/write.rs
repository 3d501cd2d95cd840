//! Writes a checkpoint, a frame a step.

use super::{
    END, FIRST_PUT, FORMAT_VERSION, FRAME_HEAD_BYTES, HEAD, LEASED, OLDER, RUN, TOMBSTONE,
};
use crate::index::entry::Entry;
use crate::index::packed::common_len;
use crate::index::{Cursor, KeyIndex, KeyRange};
use crate::revision::{Revision, Version};

/// A run is closed at this many keys looked at, or bytes: a step takes well under a millisecond.
const RUN_KEYS: usize = 1024;
const RUN_BYTES: usize = 64 * 1024;
/// A checkpoint in the making.
///
/// It is of the revision `cut`: versions above it are left out, and the facts of a key that has such
/// versions may be newer than the cut, for replaying the rows above the cut sets them. It may be used
/// together with all rows above `cut`, so only while physical compaction has not passed `cut`.
pub struct Checkpoint {
    cut: i64,
    cursor: Cursor,
    entries: u64,
    began: bool,
}

impl Checkpoint {
    /// A checkpoint of the versions at `cut` and before.
    pub fn new(cut: i64) -> Self {
        Self {
            cut,
            cursor: Cursor::new(),
            entries: 0,
            began: false,
        }
    }

    /// Appends the next frame to `out`; false once that was the last.
    pub fn step<const FANOUT: usize>(
        &mut self,
        index: &KeyIndex<FANOUT>,
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        if !self.began {
            self.began = true;
            out.push(HEAD);
            put_varint(out, FORMAT_VERSION);
            put_varint(out, zigzag(self.cut));
        } else if !self.cursor.is_done() {
            self.put_run(index, out, start);
        } else {
            out.push(END);
            put_varint(out, self.entries);
        }
        let last = out[start + FRAME_HEAD_BYTES] == END;
        close_frame(out, start);
        !last
    }

    fn put_run<const FANOUT: usize>(
        &mut self,
        index: &KeyIndex<FANOUT>,
        out: &mut Vec<u8>,
        start: usize,
    ) {
        out.push(RUN);
        let (mut key, mut before) = (Vec::new(), Vec::new());
        let mut main_before = 0;
        let (cut, entries) = (self.cut, &mut self.entries);
        index.walk(
            KeyRange::ALL,
            false,
            &mut self.cursor,
            RUN_KEYS,
            |leaf, i| {
                let entry = leaf.entry(i);
                if let Some(version) = entry.version_at(cut) {
                    leaf.keys.read(i, &mut key);
                    put_key(out, &before, &key);
                    put_entry(out, entry, version, main_before);
                    main_before = version.revision.main;
                    std::mem::swap(&mut key, &mut before);
                    *entries += 1;
                }
                out.len() - start < RUN_BYTES
            },
        );
    }
}

pub(super) fn close_frame(out: &mut [u8], start: usize) {
    let (head, body) = out[start..].split_at_mut(FRAME_HEAD_BYTES);
    head[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
}

fn put_key(out: &mut Vec<u8>, before: &[u8], key: &[u8]) {
    let shared = common_len(before, key);
    put_varint(out, shared as u64);
    put_varint(out, (key.len() - shared) as u64);
    out.extend_from_slice(&key[shared..]);
}

/// Writes the entry as of `head`, one of its versions.
fn put_entry(out: &mut Vec<u8>, entry: &Entry, head: Version, main_before: i64) {
    let Revision { main, sub } = head.revision;
    let meta = entry.meta().filter(|_| !head.tombstone);
    // Written after the cut, the facts are of a later version: any that are possible will do.
    let (create, version, lease) = match meta {
        Some(meta) if meta.create_revision <= main => {
            (meta.create_revision, meta.version, meta.lease)
        }
        _ => (main, 1, 0),
    };
    let older = entry
        .older()
        .filter(|version| version.revision < head.revision);
    let older_count = older.clone().count();
    let first_put = !head.tombstone && create == main && version == 1;
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.push(
        flag(head.tombstone, TOMBSTONE)
            | flag(lease != 0, LEASED)
            | flag(older_count > 0, OLDER)
            | flag(first_put, FIRST_PUT),
    );
    put_varint(out, zigzag(main.wrapping_sub(main_before)));
    put_varint(out, u64::from(sub));
    if !head.tombstone && !first_put {
        put_varint(out, (main - create) as u64);
        put_varint(out, version as u64);
    }
    if lease != 0 {
        out.extend_from_slice(&lease.to_le_bytes());
    }
    if older_count > 0 {
        put_varint(out, older_count as u64);
        let mut newer = main;
        for version in older.rev() {
            put_varint(out, (newer - version.revision.main) as u64);
            put_varint(
                out,
                u64::from(version.revision.sub) << 1 | u64::from(version.tombstone),
            );
            newer = version.revision.main;
        }
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}
