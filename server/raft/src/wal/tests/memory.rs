//! A file layer in memory that behaves as a disk with a volatile cache: it keeps what was written apart
//! from what was synced, records every call so that `crash` can rebuild what may be left after a power cut
//! at any moment, and fails the k-th call when told to.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::{File, Files};

/// One call that changes the disk, or a test's mark between them.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Create {
        file: usize,
        name: String,
    },
    Write {
        file: usize,
        offset: u64,
        bytes: Vec<u8>,
    },
    Sync {
        file: usize,
    },
    /// The sync failed: what was written since the last one never reaches the disk.
    SyncFailed {
        file: usize,
    },
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        name: String,
    },
    SyncDir,
    /// The test was told that its step of this number is durable.
    Acknowledged(usize),
}

/// Contents by file name.
pub(super) type Image = BTreeMap<String, Vec<u8>>;

/// Which call fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// Calls that succeed before.
    pub after: usize,
    /// Whether the calls that follow succeed again.
    pub once: bool,
    pub kind: io::ErrorKind,
}

#[derive(Default)]
struct Inner {
    names: BTreeMap<String, usize>,
    files: Vec<Contents>,
    trace: Vec<Event>,
    fault: Option<Fault>,
    calls: usize,
}

#[derive(Default)]
struct Contents {
    /// What a read shows.
    cached: Vec<u8>,
    /// What the device holds.
    durable: Vec<u8>,
    /// Written since the last sync.
    dirty: Vec<(u64, Vec<u8>)>,
}

/// A directory in memory; clones share it.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<Inner>>);

impl Memory {
    pub(super) fn of(image: &Image) -> Memory {
        let mut inner = Inner::default();
        for (name, bytes) in image {
            inner.names.insert(name.clone(), inner.files.len());
            inner.files.push(Contents {
                cached: bytes.clone(),
                durable: bytes.clone(),
                dirty: Vec::new(),
            });
        }
        Memory(Arc::new(Mutex::new(inner)))
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.0.lock().fault = Some(fault);
    }

    pub(super) fn heal(&self) {
        self.0.lock().fault = None;
    }

    /// Calls so far that change the disk.
    pub(super) fn calls(&self) -> usize {
        self.0.lock().calls
    }

    pub(super) fn acknowledged(&self, step: usize) {
        self.0.lock().trace.push(Event::Acknowledged(step));
    }

    pub(super) fn trace(&self) -> Vec<Event> {
        self.0.lock().trace.clone()
    }

    /// What reads show now.
    pub(super) fn image(&self) -> Image {
        let inner = self.0.lock();
        let contents =
            |(name, file): (&String, &usize)| (name.clone(), inner.files[*file].cached.clone());
        inner.names.iter().map(contents).collect()
    }

    /// A call that changes the disk. When it is the one to fail, a write leaves its first half, a sync
    /// leaves nothing, and others have no effect.
    fn change(&self, event: Event) -> io::Result<()> {
        let mut inner = self.0.lock();
        let call = inner.calls;
        inner.calls += 1;
        if let Some(fault) = inner.fault
            && (call == fault.after || (call > fault.after && !fault.once))
        {
            match event {
                Event::Sync { file } => {
                    inner.files[file].dirty.clear();
                    inner.trace.push(Event::SyncFailed { file });
                }
                Event::Write {
                    file,
                    offset,
                    mut bytes,
                } => {
                    bytes.truncate(bytes.len() / 2);
                    let half = Event::Write {
                        file,
                        offset,
                        bytes,
                    };
                    inner.apply(&half)?;
                    inner.trace.push(half);
                }
                _ => {}
            }
            return Err(fault.kind.into());
        }
        inner.apply(&event)?;
        inner.trace.push(event);
        Ok(())
    }

    fn handle(&self, file: usize) -> Box<dyn File> {
        Box::new(Handle {
            memory: self.clone(),
            file,
        })
    }
}

impl Inner {
    fn apply(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Create { file, name } => {
                self.files.push(Contents::default());
                self.names.insert(name.clone(), *file);
            }
            Event::Write {
                file,
                offset,
                bytes,
            } => {
                let file = &mut self.files[*file];
                write(&mut file.cached, *offset, bytes);
                file.dirty.push((*offset, bytes.clone()));
            }
            Event::Sync { file } => {
                let file = &mut self.files[*file];
                for (offset, bytes) in std::mem::take(&mut file.dirty) {
                    write(&mut file.durable, offset, &bytes);
                }
            }
            Event::Rename { from, to } => {
                let file = self.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
                assert!(
                    self.names.insert(to.clone(), file).is_none(),
                    "a rename onto {to}"
                );
            }
            Event::Unlink { name } => {
                self.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
            }
            Event::SyncFailed { .. } | Event::SyncDir | Event::Acknowledged(_) => {}
        }
        Ok(())
    }
}

impl Files for Memory {
    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = *self
            .0
            .lock()
            .names
            .get(name)
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(file))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = self.0.lock().files.len();
        self.change(Event::Create {
            file,
            name: name.into(),
        })?;
        Ok(self.handle(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(Event::Rename {
            from: from.into(),
            to: to.into(),
        })
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.change(Event::Unlink { name: name.into() })
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.change(Event::SyncDir)
    }
}

struct Handle {
    memory: Memory,
    file: usize,
}

impl File for Handle {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.memory.0.lock().files[self.file].cached.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let inner = self.memory.0.lock();
        let from = offset as usize;
        let bytes = inner.files[self.file].cached.get(from..from + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        self.memory.change(Event::Write {
            file: self.file,
            offset,
            bytes,
        })
    }

    fn reserve(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.memory.change(Event::Sync { file: self.file })
    }

    fn settle(&self) -> io::Result<()> {
        self.sync_data()?;
        let file = &mut self.memory.0.lock().files[self.file];
        file.cached = file.durable.clone();
        Ok(())
    }
}

pub(super) fn write(contents: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (from, to) = (offset as usize, offset as usize + bytes.len());
    if contents.len() < to {
        contents.resize(to, 0);
    }
    contents[from..to].copy_from_slice(bytes);
}
