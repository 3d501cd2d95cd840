//! The ballast: a file that takes room on the disk so that it can be given back when there is none left.
//!
//! A full disk fails the deletes and the compaction that would free it, and the log's next segment. The flusher removes
//! the ballast then, and makes it again once there is room; bootstrap removes it when a start finds no room.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

const NAME: &str = "BALLAST";

/// The ballast of one data directory.
#[derive(Debug)]
pub(crate) struct Ballast {
    path: PathBuf,
    size_bytes: u64,
    /// The file system can't set room aside.
    impossible: bool,
}

impl Ballast {
    pub(crate) fn of(data_dir: &Path, size_bytes: u64) -> Self {
        Self {
            path: data_dir.join(NAME),
            size_bytes,
            impossible: false,
        }
    }

    /// Gives its room back to the file system. Says whether there was one.
    pub(crate) fn release(&self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }

    /// Makes it where it is missing and the disk has room for it and once more that much, so that it is not what fills
    /// the disk. Says whether there is room to spare: the ballast, or as much where the file system can't set it aside.
    pub(crate) fn restore(&mut self) -> bool {
        if self.is_there() {
            return true;
        }
        if self.room() < 2 * self.size_bytes {
            return false;
        }
        self.impossible = self.impossible || !self.make();
        true
    }

    /// Whether there is one, whole.
    fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.len() >= self.size_bytes)
    }

    /// Says whether it can be made here at all.
    fn make(&self) -> bool {
        let flags = FallocateFlags::empty();
        let made = File::create(&self.path)
            .and_then(|file| Ok(fallocate(&file, flags, 0, self.size_bytes)?));
        match made {
            Ok(()) => tracing::info!(bytes = self.size_bytes, "room is set aside in BALLAST"),
            Err(error) => {
                self.release();
                tracing::warn!(%error, "no room can be set aside for the time when the disk is full");
                let refused = error.raw_os_error();
                return ![Errno::OPNOTSUPP, Errno::NOSYS]
                    .iter()
                    .any(|errno| refused == Some(errno.raw_os_error()));
            }
        }
        true
    }

    /// What the file system has left for us.
    pub(crate) fn room(&self) -> u64 {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        match statvfs(dir) {
            // A file system that says nothing of its size: it may have any.
            Ok(system) if system.f_blocks == 0 => u64::MAX,
            Ok(system) => system.f_bavail * system.f_frsize,
            Err(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ballast_takes_room_until_it_is_released() {
        use std::os::unix::fs::MetadataExt as _;
        let tmp = tempfile::tempdir().unwrap();
        let mut ballast = Ballast::of(tmp.path(), 1 << 20);
        assert!(ballast.restore() && ballast.is_there());
        let file = fs::metadata(tmp.path().join(NAME)).unwrap();
        assert!(file.blocks() * 512 >= 1 << 20, "its room is set aside");
        assert!(ballast.release());
        assert!(!ballast.release() && !ballast.is_there());
    }

    #[test]
    fn a_disk_without_twice_the_room_gets_no_ballast() {
        let tmp = tempfile::tempdir().unwrap();
        let mut ballast = Ballast::of(tmp.path(), 1 << 60);
        assert!(!ballast.restore() && !ballast.is_there());
    }

    #[test]
    fn a_ballast_cut_short_is_made_whole() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join(NAME), "short").unwrap();
        let mut ballast = Ballast::of(tmp.path(), 1 << 16);
        assert!(ballast.restore() && ballast.is_there());
    }
}
