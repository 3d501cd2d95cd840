//! Reads a checkpoint; trusts none of its bytes.

use std::io::Read;

use super::CheckpointError::Damaged;
use super::{
    CheckpointError, END, FIRST_PUT, FORMAT_VERSION, FRAME_HEAD_BYTES, HEAD, LEASED, OLDER, RUN,
    TOMBSTONE,
};
use crate::index::KeyIndex;
use crate::index::build::Builder;
use crate::revision::{Meta, Revision, Version};

/// Reads a checkpoint to its end frame; gives the index, without what compaction at `compacted` makes
/// unreadable, and the revision of the cut.
///
/// What follows the end frame is not read.
///
/// # Errors
/// See [`CheckpointError`]; nothing was built.
pub fn read_checkpoint<const FANOUT: usize>(
    input: &mut dyn Read,
    compacted: i64,
) -> Result<(KeyIndex<FANOUT>, i64), CheckpointError> {
    let mut frame = Vec::new();
    let mut builder = Builder::new(compacted);
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
pub(super) fn read_frame<'a>(
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
pub(super) struct Body<'a>(&'a [u8]);

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

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
