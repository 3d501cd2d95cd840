//! Readers, the writer and the flusher at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use keystead_mvcc::{KeyValueRef, Opened, Options, Query, Read, ReadError, Store};

use crate::bench::tiny;

const KEYS: i64 = 600;

/// Every revision rewrites all keys with its own number: a reader that sees two numbers saw half of one.
fn assert_whole(store: &Store, query: &Query<'_>) -> Result<(), ReadError> {
    let page = store.read(query)?;
    let values = page.rows.iter().map(|row| {
        KeyValueRef::decode(&row.payload)
            .expect("a KeyValue")
            .value
            .to_vec()
    });
    for value in values {
        assert_eq!(
            value,
            page.revision.to_be_bytes(),
            "at revision {} of {}",
            page.revision,
            page.current
        );
    }
    if page.revision > 1 {
        assert_eq!((page.count, page.rows.len()), (KEYS as u64, KEYS as usize));
    }
    Ok(())
}

#[test]
fn readers_see_only_whole_published_revisions_while_all_else_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options {
        compact_step_rows: 700,
        ..tiny()
    };
    let Opened {
        store,
        mut writer,
        mut flusher,
        ..
    } = Store::open(dir.path(), &options).expect("opens");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert_whole(
                        &store,
                        &Query {
                            end: b"\0",
                            ..Query::default()
                        },
                    )
                    .expect("the latest is readable");
                    let revision = store.current() - 3;
                    if revision > 1 {
                        match assert_whole(
                            &store,
                            &Query {
                                end: b"\0",
                                revision,
                                ..Query::default()
                            },
                        ) {
                            Ok(()) | Err(ReadError::Compacted) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                flusher.flush(u64::MAX).expect("flushed");
                flusher.compact_step().expect("a step");
            }
            flusher.defragment().expect("swapped");
        });
        for position in 1..60 {
            let main = writer_revision(&store) + 1;
            let mut txn = writer.begin();
            for key in 0..KEYS {
                txn.put(&key.to_be_bytes(), &main.to_be_bytes(), 0);
            }
            assert_eq!(txn.commit(), main);
            if position % 8 == 0 {
                writer.compact(main - 2).expect("compacted");
            }
            writer.seal(position, Bytes::new());
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn writer_revision(store: &Store) -> i64 {
    store.current()
}

#[test]
fn defragmentation_swaps_the_environment_under_readers_and_writers() {
    let dir = tempfile::tempdir().expect("a directory");
    let Opened {
        store,
        mut writer,
        mut flusher,
        ..
    } = Store::open(dir.path(), &tiny()).expect("opens");
    let done = AtomicBool::new(false);
    let mut position = 0;
    let mut fill = |rounds: i64| {
        for _ in 0..rounds {
            let main = store.current() + 1;
            let mut txn = writer.begin();
            for key in 0..KEYS {
                txn.put(&key.to_be_bytes(), &main.to_be_bytes(), 0);
            }
            txn.commit();
            position += 1;
            writer.compact(main).expect("compacted");
            writer.seal(position, Bytes::new());
        }
    };
    fill(40);
    flusher.flush(u64::MAX).expect("flushed");
    while !flusher.compact_step().expect("a step").done {}
    let before = store.sizes();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_whole(
                    &store,
                    &Query {
                        end: b"\0",
                        ..Query::default()
                    },
                )
                .expect("readable");
            }
        });
        for _ in 0..3 {
            let defragment = flusher.begin_defragment();
            let copying = scope.spawn(|| defragment.copy().expect("copied"));
            fill(3);
            flusher.flush(u64::MAX).expect("flushed");
            let copied = copying.join().expect("no panic");
            flusher.finish_defragment(copied).expect("swapped");
        }
        done.store(true, Ordering::Relaxed);
    });
    flusher.flush(u64::MAX).expect("flushed");
    assert!(
        store.sizes().total_bytes < before.total_bytes,
        "{:?} after {before:?}",
        store.sizes()
    );
    assert_eq!(store.counters().defragmentations, 3);
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .expect("readable")
        .map(|entry| entry.expect("entry").file_name())
        .filter(|name| name.to_string_lossy().starts_with("env-"))
        .collect();
    assert_eq!(left.len(), 1, "old environments are gone: {left:?}");
}
