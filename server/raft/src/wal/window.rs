//! Reading a segment from front to back through a buffer of bounded size. Used by recovery only.

use std::io;

use super::segment::Segment;

/// A stretch of a segment in memory, moved along as the segment is read.
pub(super) struct Window<'a> {
    pub segment: &'a Segment,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn over(segment: &'a Segment) -> Window<'a> {
        Window {
            segment,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// The bytes from `offset`; `None` when the segment ends earlier.
    pub(super) fn read(&mut self, offset: u64, len: u64) -> io::Result<Option<&[u8]>> {
        const STEP_BYTES: u64 = 256 << 10;
        let left = self.segment.len.saturating_sub(offset);
        if len > left {
            return Ok(None);
        }
        let held = self.start..self.start + self.bytes.len() as u64;
        if offset < held.start || offset + len > held.end {
            self.bytes.resize(len.max(STEP_BYTES.min(left)) as usize, 0);
            self.start = offset;
            self.segment.file.read_exact_at(&mut self.bytes, offset)?;
        }
        let from = (offset - self.start) as usize;
        Ok(Some(&self.bytes[from..from + len as usize]))
    }
}
