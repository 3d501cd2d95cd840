//! The log as openraft uses it, on a disk that syncs only when the test lets it.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt as _;
use openraft::storage::{IOFlushed, RaftLogReader as _, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;
use parking_lot::{Condvar, Mutex};

use crate::installing::Installing;
use crate::log_storage::LogStorage;
use crate::standing::Standing;
use crate::type_config::{Entry, LogId, Payload, TypeConfig, Vote};
use crate::wal::{Disk, File, Files, Options, Wal};

/// Syncs wait while it is shut.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let mut open = self.open.lock();
        self.opened.wait_while(&mut open, |open| !*open);
    }
}

struct GatedDisk(Disk, Arc<Gate>);

impl GatedDisk {
    fn gated(&self, file: Box<dyn File>) -> Box<dyn File> {
        Box::new(GatedFile(file, self.1.clone()))
    }
}

impl Files for GatedDisk {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        Ok(self.gated(self.0.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        Ok(self.gated(self.0.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.0.unlink(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }
}

struct GatedFile(Box<dyn File>, Arc<Gate>);

impl File for GatedFile {
    fn size_bytes(&self) -> io::Result<u64> {
        self.0.size_bytes()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.0.write_all_at(slices, offset)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.0.reserve(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync_data()
    }

    fn settle(&self) -> io::Result<()> {
        self.0.settle()
    }
}

struct Gated {
    gate: Arc<Gate>,
    wal: Arc<Wal>,
    standing: Arc<Standing>,
    log: LogStorage,
}

fn gated_log(dir: &Path) -> Gated {
    let gate = Arc::new(Gate::default());
    let files = Arc::new(GatedDisk(Disk::open(dir).unwrap(), gate.clone()));
    let options = Options {
        segment_bytes: 64 << 10,
        ..Options::default()
    };
    let (wal, recovered) = Wal::open(files, options).unwrap();
    let (wal, standing) = (Arc::new(wal), Arc::new(Standing::of(super::ME.member_id)));
    let log = {
        let nowhere = Arc::new(Installing::of(std::path::Path::new("/nowhere")));
        LogStorage::new(wal.clone(), &recovered, standing.clone(), nowhere).unwrap()
    };
    Gated {
        gate,
        wal,
        standing,
        log,
    }
}

fn blank(index: u64) -> Entry {
    Entry {
        log_id: id(index),
        payload: Payload::Blank,
    }
}

fn id(index: u64) -> LogId {
    LogId::new_term_index(1, index)
}

#[test]
fn the_core_hears_of_an_entry_when_it_is_synced_and_not_before() {
    let tmp = tempfile::tempdir().unwrap();
    let Gated {
        gate, wal, mut log, ..
    } = gated_log(tmp.path());
    let (told, mut durable) = TypeConfig::oneshot();
    let appended = log
        .append([blank(0)], IOFlushed::signal(told))
        .now_or_never();
    appended.expect("an append does not wait").unwrap();
    let early = (&mut durable).now_or_never();
    // Whatever is asserted, the log's threads must be able to end.
    gate.open();
    assert!(early.is_none(), "told before the sync: {early:?}");
    assert!(wait(durable).unwrap().is_ok());
    assert_eq!(wal.synced_index(), Some(0));
}

#[test]
fn a_vote_is_saved_when_it_is_synced_and_not_before() {
    let tmp = tempfile::tempdir().unwrap();
    let Gated { gate, mut log, .. } = gated_log(tmp.path());
    let vote = Vote::new(7, super::ME.member_id);
    let mut saving = Box::pin(log.save_vote(&vote));
    let early = saving.as_mut().now_or_never();
    gate.open();
    assert!(early.is_none(), "told before the sync: {early:?}");
    wait(saving).unwrap();
    let mut reader = wait(log.get_log_reader());
    assert_eq!(wait(reader.read_vote()).unwrap(), Some(vote));
}

#[test]
fn a_purge_takes_what_the_core_names_however_far_apply_has_come() {
    let tmp = tempfile::tempdir().unwrap();
    let Gated {
        gate,
        wal,
        standing,
        mut log,
    } = gated_log(tmp.path());
    gate.open();
    wait(log.append((0..10).map(blank), IOFlushed::noop())).unwrap();
    standing.set_applied(&id(8));
    wait(log.purge(id(5))).unwrap();
    let left = wal.read(0..10, usize::MAX).unwrap();
    let left: Vec<u64> = left.iter().map(|entry| entry.id.index).collect();
    assert_eq!(left, [6, 7, 8, 9]);
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}
