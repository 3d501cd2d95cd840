//! What a store keeps when the power goes: the disk below it forgets what was not synced, names of files included.
//! Skipped, with a word about it, where nothing can be mounted.

use bytes::Bytes;
use keystead_lossyfs::{Errno, Fault, LossyFs};
use keystead_mvcc::{Opened, Query, Read, Store};
use tempfile::TempDir;

use crate::bench::tiny;

/// Which unsynced sectors and names a cut keeps is drawn from the seed: these see all of them kept, none, and parts.
const SEEDS: u64 = 24;

/// Runs `then` on the disk mounted below a directory; `None` where that can't be.
fn mounted<T>(disk: &LossyFs, at: &TempDir, then: impl FnOnce() -> T) -> Option<T> {
    let mounted = match disk.mount(at.path()) {
        Ok(mounted) => mounted,
        Err(error) => {
            println!("skipped: this machine mounts no FUSE file system: {error}");
            return None;
        }
    };
    let done = then();
    mounted.unmount().expect("nothing uses it any more");
    Some(done)
}

fn flush_one(opened: &mut Opened, key: &[u8], position: u64) {
    let mut txn = opened.writer.begin();
    txn.put(key, b"value", 0);
    txn.commit();
    opened.writer.seal(position, Bytes::new());
    opened.flusher.flush(position).expect("flushed");
}

fn holds(store: &Store, key: &[u8]) -> bool {
    let query = Query {
        key,
        ..Query::default()
    };
    store.read(&query).expect("readable").count == 1
}

#[test]
fn what_was_flushed_into_a_new_store_outlives_the_power() {
    for seed in 0..SEEDS {
        let at = tempfile::tempdir().expect("a directory");
        let (disk, dir) = (LossyFs::default(), at.path().to_owned());
        let flushed = mounted(&disk, &at, || {
            let mut opened = Store::open(&dir, &tiny()).expect("a new store");
            flush_one(&mut opened, b"first", 1);
        });
        if flushed.is_none() {
            return;
        }
        disk.cut(seed);
        mounted(&disk, &at, || {
            let mut opened = Store::open(&dir, &tiny()).expect("the store opens");
            assert!(holds(&opened.store, b"first"), "seed {seed}");
            opened.flusher.defragment().expect("defragmented");
            flush_one(&mut opened, b"second", 2);
        });
        disk.cut(seed + 1);
        mounted(&disk, &at, || {
            let opened = Store::open(&dir, &tiny()).expect("the store opens");
            assert!(holds(&opened.store, b"first") && holds(&opened.store, b"second"));
        });
    }
}

#[test]
fn a_first_start_that_the_power_cut_short_is_taken_up_again() {
    let at = tempfile::tempdir().expect("a directory");
    let dir = at.path().to_owned();
    for (after, seed) in (0..).map(|number| (number / SEEDS, number % SEEDS)) {
        let disk = LossyFs::default();
        disk.fail(Some(Fault {
            after,
            errno: Errno::EIO,
            lasting: true,
        }));
        let Some(cut_short) = mounted(&disk, &at, || Store::open(&dir, &tiny()).is_err()) else {
            return;
        };
        if !cut_short {
            assert!(after > 10, "opening takes more operations than {after}");
            return;
        }
        disk.cut(seed);
        mounted(&disk, &at, || {
            if let Err(error) = Store::open(&dir, &tiny()) {
                panic!("seed {seed}, cut at operation {after}: {error}");
            }
        });
    }
}
