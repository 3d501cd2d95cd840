//! The map is full: what fails, what goes on, and the way back.

use keystead_mvcc::{FlushError, Options, Query, Read, Store, Table};

use crate::bench::{Bench, tiny};

const VALUE_BYTES: usize = 2000;

/// A store whose map takes some 250 rows of `VALUE_BYTES`, one a page, a quarter of them in its reserve.
fn narrow() -> Options {
    Options {
        map_bytes: 1 << 20,
        reserve_bytes: 256 << 10,
        flush_txn_bytes: 32 << 10,
        compact_step_rows: 16,
        ..tiny()
    }
}

fn put(bench: &mut Bench, position: u64) {
    let mut txn = bench.writer.begin();
    txn.put(
        format!("k{}", position % 8).as_bytes(),
        &[7; VALUE_BYTES],
        0,
    );
    txn.commit();
    bench.writer.seal(position, "".into());
}

fn values(store: &Store) -> usize {
    let all = Query {
        key: b"\0",
        end: b"\0",
        revision: 0,
        limit: 0,
        count_only: false,
    };
    store.view().read(&all).expect("readable").rows.len()
}

/// Writes and flushes entries until a flush fails; the position of the last one.
fn fill(bench: &mut Bench, mut position: u64) -> u64 {
    loop {
        position += 1;
        assert!(position < 2000, "the map is never full");
        put(bench, position);
        match bench.flusher.flush(position) {
            Ok(_) => {}
            Err(FlushError::Full) => return position,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_full_map_fails_flushes_and_nothing_else_until_its_reserve_and_compaction_bring_it_back() {
    let mut bench = Bench::new(narrow());
    let full = fill(&mut bench, 0);
    assert_eq!(values(&bench.store), 8, "reads go on");
    assert!(matches!(bench.flusher.flush(full), Err(FlushError::Full)));

    assert!(bench.flusher.open_reserve());
    assert!(!bench.flusher.open_reserve(), "it is open");
    let current = bench.store.view().current();
    bench.writer.compact(current).expect("not compacted yet");
    bench.writer.set(Table(1), b"alarm", Some(b"raised"));
    bench.writer.seal(full + 1, "".into());
    let flushed = bench.flusher.flush(full + 1).expect("the reserve takes it");
    assert_eq!(flushed.position, full + 1);

    while !bench
        .flusher
        .compact_step()
        .expect("a full map lets rows go")
        .done
    {}
    let again = fill(&mut bench, full + 1);
    assert!(again > full + 150, "room for {} rows", again - full);
    assert!(bench.flusher.open_reserve(), "it was kept again");
}

#[test]
fn a_map_that_is_full_to_its_end_fails_cleanly_and_opens_again() {
    let mut bench = Bench::new(narrow());
    bench.flusher.open_reserve();
    let mut full = 0;
    // The reserve is kept again as long as there is twice as much.
    loop {
        full = fill(&mut bench, full);
        if !bench.flusher.open_reserve() {
            break;
        }
    }
    assert_eq!(values(&bench.store), 8, "reads go on");
    let Bench {
        dir,
        options,
        store,
        writer,
        flusher,
        ..
    } = bench;
    drop((store, writer, flusher));
    let opened = Store::open(&crate::bench::store_dir(dir.path()), &options).expect("it opens");
    assert!(opened.position > 0 && opened.position < full);
    assert_eq!(values(&opened.store), 8);
}
