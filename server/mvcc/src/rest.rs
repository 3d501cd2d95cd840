//! Rests in work that nobody waits for by the millisecond, so that those who are waited for find a core and the disk.
//!
//! Without them compaction holds a core for as long as the system lets it, several milliseconds, and the copy of a
//! defragmentation fills the disk's queue: a sync of the log waits for all that the disk was given before. Used by the
//! flusher and by the copy of a defragmentation.

use std::fs::File;
use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

/// Work shorter than this goes without a rest: about what a waiting thread may lose.
const WORK: Duration = Duration::from_micros(500);
/// No rest is longer: what took longer has waited itself.
const REST_MAX: Duration = Duration::from_millis(20);
/// What the disk is given at a time; most write it in less than a millisecond.
pub(crate) const PIECE_BYTES: usize = 256 << 10;
/// What of a file is freed at a time: the file system takes about as long for it.
const FREED_BYTES: u64 = 8 << 20;
/// What of a file is freed by one call.
const FREED_MAX_BYTES: u64 = 64 * FREED_BYTES;

/// Rests as long as was worked.
pub(crate) struct Rests {
    since: Instant,
}

impl Rests {
    /// The work begins.
    pub(crate) fn begin() -> Self {
        Self {
            since: Instant::now(),
        }
    }

    /// Called between two pieces of the work, which may be as small as they like.
    pub(crate) fn rest(&mut self) {
        let worked = self.since.elapsed();
        if worked >= WORK {
            thread::sleep(worked.min(REST_MAX));
            self.since = Instant::now();
        }
    }

    /// Appends a piece to `file`, waits until the disk has it, and rests.
    ///
    /// # Errors
    /// What writing or syncing failed with.
    pub(crate) fn write(&mut self, mut file: &File, piece: &[u8]) -> io::Result<()> {
        file.write_all(piece)?;
        file.sync_data()?;
        self.rest();
        Ok(())
    }
}

/// Appends all of `from` to `file`, a piece at a time.
///
/// # Errors
/// What reading, writing or syncing failed with; the file then holds a part.
pub(crate) fn copy(from: &mut impl Read, file: &File) -> io::Result<()> {
    let mut rests = Rests::begin();
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    loop {
        piece.clear();
        let mut read = from.by_ref().take(PIECE_BYTES as u64);
        if read.read_to_end(&mut piece)? == 0 {
            return Ok(());
        }
        rests.write(file, &piece)?;
    }
}

/// Shortens a file that is to be removed, up to a bound: a large one that goes at once holds every sync back while the
/// file system frees it. Says whether what is left may go at once.
///
/// # Errors
/// What the file system refused.
pub(crate) fn shorten(file: &File) -> io::Result<bool> {
    let mut rests = Rests::begin();
    let len = file.metadata()?.len();
    let least = len.saturating_sub(FREED_MAX_BYTES).max(FREED_BYTES);
    let mut left = len;
    while left > least {
        left = left.saturating_sub(FREED_BYTES).max(least);
        file.set_len(left)?;
        rests.rest();
    }
    Ok(left <= FREED_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_every_byte() {
        let bytes: Vec<_> = (0..3 * PIECE_BYTES + 7).map(|i| (i / 251) as u8).collect();
        let (mut file, mut copied) = (tempfile::tempfile().expect("a file"), Vec::new());
        copy(&mut &bytes[..], &file).expect("copies");
        io::Seek::rewind(&mut file).expect("rewinds");
        file.read_to_end(&mut copied).expect("reads");
        assert!(copied == bytes);
    }

    #[test]
    fn a_large_file_is_freed_over_several_calls() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(FREED_MAX_BYTES + 3 * FREED_BYTES + 1)
            .expect("sparse");
        assert!(!shorten(&file).expect("shortens"));
        assert!(shorten(&file).expect("shortens"));
        assert_eq!(file.metadata().expect("is there").len(), FREED_BYTES);
        assert!(shorten(&file).expect("is short"));
    }
}
