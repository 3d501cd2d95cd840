//! The file layer on a real file system. Positioned reads and writes, `fdatasync`, and a directory
//! descriptor that is fsynced after names change.

use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, fdatasync, fsync};
use rustix::io::{Errno, pwritev};

use super::files::{File, Files};

/// Linux's limit of slices in one call (`UIO_MAXIOV`).
const SLICES_PER_CALL: usize = 1024;

/// A directory of the file system.
pub struct Disk {
    path: PathBuf,
    directory: fs::File,
}

impl Disk {
    /// Opens the directory at `path`, making it (and its name in its parent) durable when it is missing.
    ///
    /// # Errors
    /// What the file system says; nothing is left half made that a second call would not finish.
    pub fn open(path: &Path) -> io::Result<Disk> {
        if !path.is_dir() {
            fs::create_dir_all(path)?;
        }
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            fsync(fs::File::open(parent)?)?;
        }
        Ok(Disk {
            path: path.to_path_buf(),
            directory: fs::File::open(path)?,
        })
    }
}

impl Files for Disk {
    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names =
            fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(self.path(name))?;
        Ok(Box::new(file))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut options = fs::File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.path(name))?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(fsync(&self.directory)?)
    }
}

impl File for fs::File {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn write_all_at(&self, slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let mut left = slices;
        while !left.is_empty() {
            let call = &left[..left.len().min(SLICES_PER_CALL)];
            match pwritev(self, call, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        match fallocate(self, FallocateFlags::KEEP_SIZE, 0, len) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(fdatasync(self)?)
    }

    fn settle(&self) -> io::Result<()> {
        fdatasync(self)?;
        Ok(fadvise(self, 0, None, Advice::DontNeed)?)
    }
}
