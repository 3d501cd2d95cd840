//! The file layer under the log: two small object-safe traits, rooted at the log's directory.
//!
//! The log calls these from its two threads and from readers; `disk` implements them on the file
//! system, tests implement them on recorded and faulty memory. Names are bare file names, never paths.

use std::io::{self, IoSlice};
use std::path::PathBuf;

/// The directory that holds the log.
pub trait Files: Send + Sync + 'static {
    /// Where `name` lies, for messages to people.
    fn path(&self, name: &str) -> PathBuf;
    /// The names of all files in the directory, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file that exists, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn File>>;
    /// Makes an empty file, in place of one of that name.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;
    /// Renames a file within the directory; handles that are open stay valid.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn unlink(&self, name: &str) -> io::Result<()>;
    /// Makes every create, rename and unlink so far durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// One open file. Every operation names its offset, so a handle may be shared.
pub trait File: Send + Sync + 'static {
    /// The file's length in bytes.
    fn size_bytes(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset`; a file that ends earlier is `UnexpectedEof`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all slices, one after the other, from `offset`.
    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Sets aside room for the first `len` bytes, so that a disk without it refuses now and is not filled first. Does
    /// nothing where the file system can't.
    fn reserve(&self, len: u64) -> io::Result<()>;
    /// Makes the file's contents and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// How long that takes, in simulated time.
    #[cfg(feature = "simulation")]
    fn sync_takes(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
    /// Makes the reads that follow show what the device holds: flushes, then drops cached pages.
    /// After a failed sync the kernel keeps pages that it calls clean and that never reached the device.
    fn settle(&self) -> io::Result<()>;
}

/// Writes zeros over `from..to` in steps that leave the device's queue free for the log's own syncs.
///
/// Each write is small, for the page cache keeps a file in pieces as large as the writes that made them, and every later
/// write and sync of a batch walks the whole piece that it touches.
pub(super) fn fill_with_zeros(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    const WRITE_BYTES: u64 = 64 << 10;
    const SYNC_BYTES: u64 = 2 << 20;
    let zeros = [0; WRITE_BYTES as usize];
    file.reserve(to)?;
    let mut at = from;
    while at < to {
        let synced = to.min(at + SYNC_BYTES);
        while at < synced {
            let step = WRITE_BYTES.min(synced - at);
            file.write_all_at(&mut [IoSlice::new(&zeros[..step as usize])], at)?;
            at += step;
        }
        file.sync_data()?;
    }
    Ok(())
}
