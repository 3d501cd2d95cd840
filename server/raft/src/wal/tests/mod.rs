//! What the log promises, one sentence a test; the larger proofs have files of their own.

mod crash;
mod damage;
mod memory;
mod model;

use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;

use super::{Done, Entry, EntryId, Files, Options, Recovered, Wal};
use memory::Memory;

const TINY: u64 = 4 << 10;

fn options() -> Options {
    Options {
        segment_bytes: TINY,
        recent_bytes_max: 2 << 10,
        log_id: 7,
        ..Options::default()
    }
}

fn open(files: &Memory) -> (Wal, Recovered) {
    Wal::open(Arc::new(files.clone()), options()).expect("open")
}

fn id(term: u64, index: u64) -> EntryId {
    EntryId {
        term,
        leader: 1,
        index,
    }
}

fn entry(term: u64, index: u64, len: usize) -> Entry {
    let byte = (term * 31 + index) as u8;
    Entry {
        id: id(term, index),
        payload: Bytes::from(vec![byte; len]),
    }
}

/// A `done` and a way to wait for it.
fn done() -> (Done, impl FnOnce() -> std::io::Result<()>) {
    let (sender, receiver) = mpsc::channel();
    (
        Box::new(move |result| drop(sender.send(result))),
        move || receiver.recv().expect("done is called"),
    )
}

fn append(wal: &Wal, entries: Vec<Entry>) {
    let (done, wait) = done();
    wal.append(entries, done).expect("append");
    wait().expect("durable");
}

fn settle(wal: &Wal) {
    let (done, wait) = done();
    wal.barrier(done).expect("barrier");
    wait().expect("durable");
}

#[test]
fn what_was_acknowledged_is_there_after_reopening() {
    let files = Memory::default();
    let (wal, recovered) = open(&files);
    assert_eq!(
        recovered,
        Recovered {
            vote: None,
            committed: None,
            purged: None,
            last: None
        }
    );
    append(&wal, (0..20).map(|index| entry(1, index, 700)).collect());
    let (saved, wait) = done();
    wal.save_vote(Bytes::from_static(b"vote"), saved)
        .expect("save");
    wait().expect("durable");
    wal.note_committed(id(1, 15));
    assert_eq!(wal.synced_index(), Some(19));
    drop(wal);

    let (wal, recovered) = open(&files);
    assert_eq!(recovered.vote.as_deref(), Some(&b"vote"[..]));
    assert_eq!(recovered.committed, Some(id(1, 15)));
    assert_eq!(recovered.last, Some(id(1, 19)));
    assert_eq!(wal.synced_index(), Some(19));
    let expected: Vec<Entry> = (0..20).map(|index| entry(1, index, 700)).collect();
    assert_eq!(wal.read(0..u64::MAX, usize::MAX).expect("read"), expected);
    assert_eq!(wal.read(3..9, 1500).expect("read"), expected[3..5]);
    assert_eq!(wal.read(3..9, 1).expect("read"), expected[3..4]);
    assert_eq!(
        wal.read_recent(3..9, 1),
        None,
        "a fresh start has nothing in memory"
    );
}

#[test]
fn where_the_newest_bytes_of_a_log_begin_is_known_when_it_is_opened() {
    let files = Memory::default();
    let (wal, _) = open(&files);
    // A batch of one is its header, its record and this, padded to 1024 bytes: four in a segment.
    (0..20).for_each(|index| append(&wal, vec![entry(1, index, 600)]));
    drop(wal);
    let (wal, _) = open(&files);
    assert_eq!(wal.first_within(0), Some(19));
    assert_eq!(wal.first_within(2 * TINY), Some(11));
    assert_eq!(wal.first_within(99 * TINY), Some(0));
}

#[test]
fn an_entry_can_be_read_before_it_is_durable() {
    let files = Memory::default();
    let (wal, _) = open(&files);
    let (done, wait) = done();
    wal.append(vec![entry(1, 5, 10)], done).expect("append");
    assert_eq!(wal.read_recent(0..9, 99), Some(vec![entry(1, 5, 10)]));
    assert_eq!(wal.last(), Some(id(1, 5)));
    wait().expect("durable");
}

#[test]
fn purged_segments_are_used_again_and_nothing_is_unlinked() {
    let files = Memory::default();
    let (wal, _) = open(&files);
    for index in 1..200 {
        append(&wal, vec![entry(1, index, 900)]);
        if index > 10 {
            wal.purge(id(1, index - 10)).expect("purge");
        }
    }
    settle(&wal);
    let counters = wal.counters();
    assert!(counters.segments_recycled > 20, "{counters:?}");
    assert!(counters.segments_created < 10, "{counters:?}");
    drop(wal);
    let (wal, recovered) = open(&files);
    assert_eq!(
        (recovered.purged, recovered.last),
        (Some(id(1, 189)), Some(id(1, 199)))
    );
    let expected: Vec<Entry> = (190..200).map(|index| entry(1, index, 900)).collect();
    assert_eq!(wal.read(0..u64::MAX, usize::MAX).expect("read"), expected);
}

#[test]
fn an_entry_larger_than_a_segment_is_stored() {
    let files = Memory::default();
    let (wal, _) = open(&files);
    append(&wal, vec![entry(1, 1, 10)]);
    append(&wal, vec![entry(1, 2, 3 << 20), entry(1, 3, 5 << 20)]);
    append(&wal, vec![entry(1, 4, 10)]);
    drop(wal);
    let (wal, _) = open(&files);
    let read = wal.read(1..5, usize::MAX).expect("read");
    assert_eq!(
        read,
        [
            entry(1, 1, 10),
            entry(1, 2, 3 << 20),
            entry(1, 3, 5 << 20),
            entry(1, 4, 10)
        ]
    );
}

#[test]
fn truncated_entries_are_replaced_in_memory_and_after_reopening() {
    let files = Memory::default();
    let (wal, _) = open(&files);
    append(&wal, (0..8).map(|index| entry(1, index, 100)).collect());
    wal.truncate_after(Some(4)).expect("truncate");
    assert_eq!(wal.synced_index(), Some(4));
    append(&wal, vec![entry(2, 5, 100)]);
    assert_eq!(wal.synced_index(), Some(5));
    drop(wal);
    let (wal, recovered) = open(&files);
    assert_eq!(recovered.last, Some(id(2, 5)));
    assert_eq!(
        wal.read(4..9, usize::MAX).expect("read"),
        [entry(1, 4, 100), entry(2, 5, 100)]
    );
    wal.truncate_after(None).expect("truncate");
    drop(wal);
    assert_eq!(open(&files).1.last, None);
}

#[test]
fn a_purge_beyond_the_last_entry_moves_the_log_on() {
    let files = Memory::default();
    let (wal, _) = open(&files);
    append(&wal, vec![entry(1, 1, 100)]);
    wal.purge(id(3, 50)).expect("purge");
    append(&wal, vec![entry(3, 51, 100)]);
    drop(wal);
    let (wal, recovered) = open(&files);
    assert_eq!(
        (recovered.purged, recovered.last),
        (Some(id(3, 50)), Some(id(3, 51)))
    );
    assert_eq!(wal.id(50), Some(id(3, 50)));
}

#[test]
fn entries_that_do_not_follow_are_refused_and_change_nothing() {
    let files = Memory::default();
    let (wal, _) = open(&files);
    append(&wal, vec![entry(1, 1, 1)]);
    let refused = wal.append(vec![entry(1, 3, 1)], Box::new(|_| panic!("not called")));
    assert!(
        matches!(
            refused,
            Err(super::WalError::OutOfOrder {
                expected: 2,
                found: 3
            })
        ),
        "{refused:?}"
    );
    assert_eq!(wal.last(), Some(id(1, 1)));
}

#[test]
fn a_directory_of_the_file_system_holds_a_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = || {
        let files: Arc<dyn Files> =
            Arc::new(super::Disk::open(&directory.path().join("wal")).expect("open"));
        Wal::open(files, options()).expect("open")
    };
    let (wal, _) = open();
    for index in 1..100 {
        append(&wal, vec![entry(1, index, 900)]);
        wal.purge(id(1, index.saturating_sub(9))).expect("purge");
    }
    let expected: Vec<Entry> = (92..100).map(|index| entry(1, index, 900)).collect();
    assert_eq!(wal.read(92..100, usize::MAX).expect("read"), expected);
    drop(wal);
    let (wal, recovered) = open();
    assert_eq!(
        (recovered.purged, recovered.last),
        (Some(id(1, 90)), Some(id(1, 99)))
    );
    assert_eq!(wal.read(92..100, usize::MAX).expect("read"), expected);
}
