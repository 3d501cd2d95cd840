//! A file layer in memory that remembers every call, so that a test can rebuild what a disk may hold after
//! a power cut at any moment; and that fails the k-th call when told to.

#![allow(dead_code, reason = "the crash tests read the trace")]

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::{File, Files};

/// One call that changes the disk, or a test's mark between them.
#[derive(Clone, Debug)]
pub(in super::super) enum Event {
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
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        name: String,
    },
    SyncDir,
    Mark(usize),
}

/// Contents by file name.
pub(in super::super) type Image = BTreeMap<String, Vec<u8>>;

#[derive(Default)]
struct Inner {
    names: BTreeMap<String, usize>,
    files: Vec<Vec<u8>>,
    trace: Vec<Event>,
    recording: bool,
    /// Calls until one fails, and how.
    fault: Option<(usize, io::ErrorKind)>,
    calls: usize,
}

/// A directory in memory; clones share it.
#[derive(Clone, Default)]
pub(in super::super) struct Memory(Arc<Mutex<Inner>>);

impl Memory {
    pub(in super::super) fn of(image: &Image) -> Memory {
        let memory = Memory::default();
        {
            let mut inner = memory.0.lock();
            for (name, contents) in image {
                let file = inner.files.len();
                inner.files.push(contents.clone());
                inner.names.insert(name.clone(), file);
            }
        }
        memory
    }

    pub(in super::super) fn recording() -> Memory {
        let memory = Memory::default();
        memory.0.lock().recording = true;
        memory
    }

    /// Lets `calls` calls succeed and every later one fail.
    pub(in super::super) fn fail_after(&self, calls: usize, kind: io::ErrorKind) {
        self.0.lock().fault = Some((calls, kind));
    }

    /// Calls so far that change the disk.
    pub(in super::super) fn calls(&self) -> usize {
        self.0.lock().calls
    }

    pub(in super::super) fn mark(&self, mark: usize) {
        self.0.lock().trace.push(Event::Mark(mark));
    }

    pub(in super::super) fn trace(&self) -> Vec<Event> {
        self.0.lock().trace.clone()
    }

    pub(in super::super) fn image(&self) -> Image {
        let inner = self.0.lock();
        inner
            .names
            .iter()
            .map(|(name, file)| (name.clone(), inner.files[*file].clone()))
            .collect()
    }

    /// Counts a call that changes the disk; it has no effect when it fails.
    fn change(&self, event: impl FnOnce(&mut Inner) -> io::Result<Event>) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.calls += 1;
        if let Some((left, kind)) = &mut inner.fault {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => return Err(io::Error::from(*kind)),
            }
        }
        let event = event(&mut inner)?;
        if inner.recording {
            inner.trace.push(event);
        }
        Ok(())
    }

    fn handle(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = *self
            .0
            .lock()
            .names
            .get(name)
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Handle {
            memory: self.clone(),
            file,
        }))
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
        self.handle(name)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.change(|inner| {
            let file = inner.files.len();
            inner.files.push(Vec::new());
            inner.names.insert(name.into(), file);
            Ok(Event::Create {
                file,
                name: name.into(),
            })
        })?;
        self.handle(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|inner| {
            let file = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            assert!(
                inner.names.insert(to.into(), file).is_none(),
                "a rename onto {to}"
            );
            Ok(Event::Rename {
                from: from.into(),
                to: to.into(),
            })
        })
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.change(|inner| {
            inner.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
            Ok(Event::Unlink { name: name.into() })
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.change(|_| Ok(Event::SyncDir))
    }
}

struct Handle {
    memory: Memory,
    file: usize,
}

impl File for Handle {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.memory.0.lock().files[self.file].len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let inner = self.memory.0.lock();
        let from = offset as usize;
        let bytes = inner.files[self.file].get(from..from + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        self.memory.change(|inner| {
            write(&mut inner.files[self.file], offset, &bytes);
            Ok(Event::Write {
                file: self.file,
                offset,
                bytes,
            })
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.memory.change(|_| Ok(Event::Sync { file: self.file }))
    }

    fn settle(&self) -> io::Result<()> {
        self.sync_data()
    }
}

pub(super) fn write(contents: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (from, to) = (offset as usize, offset as usize + bytes.len());
    if contents.len() < to {
        contents.resize(to, 0);
    }
    contents[from..to].copy_from_slice(bytes);
}
