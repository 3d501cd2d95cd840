//! The disk under a member's log: files in memory with a volatile cache. A power cut leaves a random subset of the sectors that
//! were not synced, a sync takes simulated time, an operation may fail, and there may be no room for more.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keystead_raft::wal::{File, Files};
use parking_lot::Mutex;

const SECTOR_BYTES: usize = 512;

/// A directory; clones share it, and it outlives the member.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Inner>>);

type Names = BTreeMap<String, usize>;

struct Inner {
    names: Names,
    /// What the names were after each change since the directory was synced; the first is what was synced.
    unsynced_names: Vec<Names>,
    files: Vec<Contents>,
    dice: fastrand::Rng,
    /// How many milliseconds a sync takes at most.
    pace_ms: u64,
    /// Operations that succeed before one fails.
    fails_after: Option<u32>,
    failed: bool,
    /// There is no room for more than is there.
    full: bool,
}

#[derive(Default)]
struct Contents {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors written since the last sync.
    dirty: BTreeSet<usize>,
}

impl Disk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            names: Names::new(),
            unsynced_names: vec![Names::new()],
            files: Vec::new(),
            dice: fastrand::Rng::with_seed(seed),
            pace_ms: 2,
            fails_after: None,
            failed: false,
            full: false,
        })))
    }

    /// How many milliseconds a sync takes at most from now on.
    pub fn set_pace(&self, pace_ms: u64) {
        self.0.lock().pace_ms = pace_ms;
    }

    /// The operation after so many fails; none is to fail any more where that is not said.
    pub fn set_failing(&self, after: Option<u32>) {
        self.0.lock().fails_after = after;
    }

    /// Whether there is room for more from now on.
    pub fn set_full(&self, full: bool) {
        self.0.lock().full = full;
    }

    /// Whether there is none.
    pub fn is_full(&self) -> bool {
        self.0.lock().full
    }

    /// Whether one has failed since the last question.
    pub fn take_failed(&self) -> bool {
        std::mem::take(&mut self.0.lock().failed)
    }

    /// Forgets what was not synced, but for a random part of it. Says how many sectors are lost.
    pub fn cut_power(&self) -> u64 {
        let inner = &mut *self.0.lock();
        let at = inner.dice.usize(..inner.unsynced_names.len());
        inner.names = inner.unsynced_names.swap_remove(at);
        inner.unsynced_names = vec![inner.names.clone()];
        let mut lost = 0;
        for file in &mut inner.files {
            let kept_in_256 = [0, 256, 128][inner.dice.usize(..3)];
            for sector in std::mem::take(&mut file.dirty) {
                if inner.dice.u32(..256) < kept_in_256 {
                    file.persist(sector);
                } else {
                    lost += 1;
                }
            }
            file.cached.clone_from(&file.durable);
        }
        lost
    }

    fn handle(&self, file: usize) -> Box<dyn File> {
        Box::new(Handle {
            disk: self.clone(),
            file,
        })
    }
}

impl Contents {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        self.cached[offset..end].copy_from_slice(bytes);
        let sectors = offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
        self.dirty.extend(sectors);
    }

    fn persist(&mut self, sector: usize) {
        let from = sector * SECTOR_BYTES;
        let end = self.cached.len().min(from + SECTOR_BYTES);
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[from..end].copy_from_slice(&self.cached[from..end]);
    }
}

impl Inner {
    /// Whether the operation that is about to be done may be.
    fn operate(&mut self) -> io::Result<()> {
        match &mut self.fails_after {
            Some(0) => {
                self.fails_after = None;
                self.failed = true;
                Err(io::Error::other("the simulated disk failed"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether a file may be so long.
    fn room_for(&self, file: usize, len: usize) -> io::Result<()> {
        match self.full && self.files[file].cached.len() < len {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    fn rename(&mut self, change: impl FnOnce(&mut Names) -> io::Result<()>) -> io::Result<()> {
        self.operate()?;
        change(&mut self.names)?;
        self.unsynced_names.push(self.names.clone());
        Ok(())
    }

    fn sync(&mut self, file: usize) -> io::Result<()> {
        let operated = self.operate();
        let file = &mut self.files[file];
        // After a failure the pages count as clean, and never reach the device.
        for sector in std::mem::take(&mut file.dirty) {
            if operated.is_ok() {
                file.persist(sector);
            }
        }
        operated
    }
}

impl Files for Disk {
    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let found = self.0.lock().names.get(name).copied();
        Ok(self.handle(found.ok_or(io::ErrorKind::NotFound)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut inner = self.0.lock();
        let file = inner.files.len();
        inner.rename(|names| {
            names.insert(name.to_owned(), file);
            Ok(())
        })?;
        inner.files.push(Contents::default());
        Ok(self.handle(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.lock().rename(|names| {
            let file = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            names.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.0.lock().rename(|names| {
            names.remove(name).ok_or(io::ErrorKind::NotFound)?;
            Ok(())
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.operate()?;
        inner.unsynced_names = vec![inner.names.clone()];
        Ok(())
    }
}

struct Handle {
    disk: Disk,
    file: usize,
}

impl File for Handle {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().files[self.file].cached.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let inner = self.disk.0.lock();
        let from = offset as usize;
        let bytes = inner.files[self.file].cached.get(from..from + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        inner.room_for(self.file, offset as usize + bytes.len())?;
        let operated = inner.operate();
        // A write that fails may have been done in part.
        let end = if operated.is_ok() {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        inner.files[self.file].write(offset as usize, &bytes[..end]);
        operated
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.disk.0.lock().room_for(self.file, len as usize)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.0.lock().sync(self.file)
    }

    fn settle(&self) -> io::Result<()> {
        let inner = &mut *self.disk.0.lock();
        inner.sync(self.file)?;
        let file = &mut inner.files[self.file];
        file.cached.clone_from(&file.durable);
        Ok(())
    }

    fn sync_takes(&self) -> Duration {
        let inner = &mut *self.disk.0.lock();
        Duration::from_millis(inner.dice.u64(0..=inner.pace_ms))
    }
}
