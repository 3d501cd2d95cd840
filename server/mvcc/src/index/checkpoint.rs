//! The index as a stream of bytes, so that a start need not read the whole history.
//!
//! [`Checkpoint`] writes it in bounded steps, between which the caller releases the index;
//! [`read_checkpoint`] reads it back. The bytes are trusted for nothing: a file that was cut short,
//! mixed up or flipped is an error, and the start falls back on the history.
//!
//! ```text
//! frame:   length u32 | CRC-32C u32 | body        both little-endian, of the body
//! stream:  head frame, run frames, end frame
//! head:    1 | format version | cut
//! run:     2 | entries, keys ascending within and across runs
//! end:     3 | number of entries
//! entry:   shared | length | the key's rest       shared: bytes in common with the run's key before
//!          flags u8                               1 tombstone, 2 leased, 4 older versions, 8 first put
//!          main, as a difference | sub            the difference is to the run's entry before
//!          main - create | version                unless tombstone or first put (create = main, version 1)
//!          lease u64                              when leased
//!          count | count x (main's step back, sub << 1 | tombstone)     when older versions, newest first
//! ```
//! Numbers without a size are LEB128 varints; signed ones (the difference, the cut) are zigzag.

use std::io::{self, Read};

use super::entry::Entry;
use super::packed::common_len;
use super::{Builder, Cursor, KeyIndex, KeyRange};
use crate::revision::{Meta, Revision, Version};

const FORMAT_VERSION: u64 = 1;
const HEAD: u8 = 1;
const RUN: u8 = 2;
const END: u8 = 3;

const TOMBSTONE: u8 = 1;
const LEASED: u8 = 2;
const OLDER: u8 = 4;
const FIRST_PUT: u8 = 8;

/// A run is closed at this many keys looked at, or bytes: a step takes well under a millisecond.
const RUN_KEYS: usize = 1024;
const RUN_BYTES: usize = 64 * 1024;
const FRAME_HEAD_BYTES: usize = 8;

/// Why a checkpoint was not taken.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It could not be read.
    #[error("the index checkpoint cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Its bytes are not those that were written.
    #[error("the index checkpoint is damaged: {0}")]
    Damaged(&'static str),
    /// It was written by another version of this program.
    #[error("the index checkpoint has format version {0}")]
    FormatVersion(u64),
}

use CheckpointError::Damaged;

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

/// Reads a checkpoint to its end frame; gives the index and the revision of the cut.
///
/// What follows the end frame is not read.
///
/// # Errors
/// See [`CheckpointError`]; nothing was built.
pub fn read_checkpoint<const FANOUT: usize>(
    input: &mut dyn Read,
) -> Result<(KeyIndex<FANOUT>, i64), CheckpointError> {
    let mut frame = Vec::new();
    let mut builder = Builder::new();
    let mut entries = 0;
    let cut = read_head(read_frame(input, &mut frame)?)?;
    loop {
        let mut body = read_frame(input, &mut frame)?;
        match body.byte()? {
            RUN => entries += read_run(body, &mut builder)?,
            END if body.varint()? == entries => return Ok((builder.finish(), cut)),
            END => return Err(Damaged("the number of entries")),
            _ => return Err(Damaged("the kind of a frame")),
        }
    }
}

fn close_frame(out: &mut [u8], start: usize) {
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
    let first_put = create == main && version == 1;
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

fn read_head(mut body: Body<'_>) -> Result<i64, CheckpointError> {
    if body.byte()? != HEAD {
        return Err(Damaged("no head frame"));
    }
    match body.varint()? {
        FORMAT_VERSION => Ok(unzigzag(body.varint()?)),
        other => Err(CheckpointError::FormatVersion(other)),
    }
}

/// Reads the next frame into `frame`; gives its body.
fn read_frame<'a>(
    input: &mut dyn Read,
    frame: &'a mut Vec<u8>,
) -> Result<Body<'a>, CheckpointError> {
    let mut head = [0; FRAME_HEAD_BYTES];
    input.read_exact(&mut head)?;
    let [l0, l1, l2, l3, c0, c1, c2, c3] = head;
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    frame.clear();
    // Takes memory as bytes arrive: a wrong length does not allocate.
    input.take(u64::from(len)).read_to_end(frame)?;
    if frame.len() != len as usize {
        return Err(Damaged("a frame is cut short"));
    }
    if crc32c::crc32c(frame) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(Damaged("the CRC of a frame"));
    }
    Ok(Body(frame))
}

/// Adds a run's entries to `builder`; gives their number.
fn read_run<const FANOUT: usize>(
    mut body: Body<'_>,
    builder: &mut Builder<FANOUT>,
) -> Result<u64, CheckpointError> {
    let (mut key, mut older) = (Vec::new(), Vec::new());
    let (mut main_before, mut entries) = (0, 0);
    while !body.0.is_empty() {
        body.key(&mut key)?;
        let (revision, head) = body.entry(main_before, &mut older)?;
        builder
            .push(&key, revision, head.as_ref(), &older)
            .map_err(|_| Damaged("the order of keys"))?;
        main_before = revision.main;
        entries += 1;
    }
    Ok(entries)
}

/// What is left of a frame's body.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn bytes(&mut self, len: u64) -> Result<&'a [u8], CheckpointError> {
        let len = usize::try_from(len).map_err(|_| Damaged("a length"))?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Damaged("a length"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, CheckpointError> {
        Ok(self.bytes(1)?[0])
    }

    fn varint(&mut self) -> Result<u64, CheckpointError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged("a number"))
    }

    /// A number that must not be below `least`.
    fn at_least(&mut self, least: i64) -> Result<i64, CheckpointError> {
        let value = i64::try_from(self.varint()?).ok();
        value
            .filter(|value| *value >= least)
            .ok_or(Damaged("a number"))
    }

    /// Turns the key before, in `key`, into the next.
    fn key(&mut self, key: &mut Vec<u8>) -> Result<(), CheckpointError> {
        let shared = self.varint()?;
        if shared > key.len() as u64 {
            return Err(Damaged("a key's common part"));
        }
        key.truncate(shared as usize);
        let len = self.varint()?;
        key.extend_from_slice(self.bytes(len)?);
        Ok(())
    }

    fn entry(
        &mut self,
        main_before: i64,
        older: &mut Vec<Version>,
    ) -> Result<(Revision, Option<Meta>), CheckpointError> {
        let flags = self.byte()?;
        let main = main_before.wrapping_add(unzigzag(self.varint()?));
        if main < 1 {
            return Err(Damaged("a revision"));
        }
        let revision = Revision::new(main, self.sub(0)?);
        let (mut create, mut version, mut lease) = (main, 1, 0);
        if flags & (TOMBSTONE | FIRST_PUT) == 0 {
            create = main - self.at_least(0)?;
            version = self.at_least(1)?;
        }
        if create < 1 {
            return Err(Damaged("a revision"));
        }
        if flags & LEASED != 0 {
            lease = self.lease()?;
        }
        older.clear();
        if flags & OLDER != 0 {
            self.older(revision, older)?;
        }
        let head = (flags & TOMBSTONE == 0).then_some(Meta {
            create_revision: create,
            mod_revision: revision,
            version,
            lease,
        });
        Ok((revision, head))
    }

    /// A change's number within its transaction, with `flags` bits below it.
    fn sub(&mut self, flags: u32) -> Result<u32, CheckpointError> {
        let value = self.varint()?;
        let in_range = value >> flags < 1 << 31;
        in_range
            .then_some(value as u32)
            .ok_or(Damaged("a revision"))
    }

    fn lease(&mut self) -> Result<i64, CheckpointError> {
        let mut lease = [0; 8];
        lease.copy_from_slice(self.bytes(8)?);
        Ok(i64::from_le_bytes(lease))
    }

    fn older(&mut self, head: Revision, older: &mut Vec<Version>) -> Result<(), CheckpointError> {
        let mut newer = head;
        for _ in 0..self.varint()? {
            let main = newer.main - self.at_least(0)?;
            let sub = self.sub(1)?;
            let revision = Revision::new(main, sub >> 1);
            if main < 1 || revision >= newer {
                return Err(Damaged("the order of versions"));
            }
            older.push(Version {
                revision,
                tombstone: sub & 1 == 1,
            });
            newer = revision;
        }
        older.reverse();
        Ok(())
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

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
