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

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::io;

pub use self::read::read_checkpoint;
pub use self::write::Checkpoint;

const FORMAT_VERSION: u64 = 1;
const HEAD: u8 = 1;
const RUN: u8 = 2;
const END: u8 = 3;

const TOMBSTONE: u8 = 1;
const LEASED: u8 = 2;
const OLDER: u8 = 4;
const FIRST_PUT: u8 = 8;

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
