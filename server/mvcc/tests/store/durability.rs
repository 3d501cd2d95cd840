//! What a crash, a copy or a damaged file leaves.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use keystead_mvcc::{OpenError, Opened, Options, Query, Read, Revision, Store, Table};

use crate::bench::{Bench, Edit, check, exported, named, store_dir, tiny};

fn filled(options: Options) -> Bench {
    let mut bench = Bench::new(options);
    for round in 0..30 {
        bench.put(
            &format!("key{}", round % 11),
            &format!("value of round {round}"),
        );
    }
    bench.set(Table(1), b"lease", Some(b"60"));
    bench.delete("key3");
    bench.flush(0);
    bench
}

fn reopened(dir: &Path) -> Result<Store, OpenError> {
    Store::open(dir, &tiny()).map(|opened| opened.store)
}

#[test]
fn a_crash_loses_what_was_not_flushed_and_nothing_else() {
    let mut bench = filled(tiny());
    bench.put("late", "value");
    bench.put("later", "value");
    bench.flush(1);
    bench.compact_entry(9);
    let bench = bench.crash();
    bench.check();
    assert_eq!(bench.store.meta(b"later").expect("readable"), None);
    assert!(bench.store.meta(b"late").expect("readable").is_some());
}

#[test]
fn a_flush_stops_at_its_bound_and_at_an_entry() {
    let mut bench = Bench::new(tiny());
    let edits: Vec<Edit> = (0..20)
        .map(|n| Edit::Put(vec![b'a' + n], vec![b'v'; 100], 0))
        .collect();
    bench.entry(&edits);
    bench.put("b", "value");
    bench.put("c", "value");
    let flushed = bench.flusher.flush(2).expect("flushed");
    assert_eq!((flushed.position, flushed.rows), (2, 21));
    assert_eq!(bench.store.durable(), 3);
    assert_eq!(
        bench.store.counters().flushes,
        2,
        "an entry larger than a transaction goes alone"
    );
    assert_eq!(bench.flusher.flush(2).expect("flushed").rows, 0);
}

#[test]
fn what_is_trimmed_from_the_ring_is_read_from_the_disk() {
    let bench = filled(tiny());
    assert!(bench.store.counters().ring_trims > 10);
    bench.check();
    assert_eq!(bench.store.sizes().unflushed_bytes, 0);
    assert!(bench.store.sizes().in_use_bytes > 0);
}

#[test]
fn a_start_from_a_checkpoint_gives_what_a_start_from_the_history_gives() {
    let mut bench = filled(tiny());
    assert!(bench.flusher.checkpoint().expect("written").placed);
    bench.put("after", "the checkpoint");
    bench.delete("key5");
    bench.flush(0);
    let bench = bench.crash();
    bench.check();
    fs::remove_file(store_dir(bench.dir.path()).join("index")).expect("there is a checkpoint");
    bench.crash().check();
}

#[test]
fn a_checkpoint_waits_until_what_it_saw_is_durable() {
    let mut bench = filled(tiny());
    bench.put("key1", "not durable");
    assert!(!bench.flusher.checkpoint().expect("written").placed);
    assert!(!store_dir(bench.dir.path()).join("index").exists());
    bench.flush(0);
    assert!(store_dir(bench.dir.path()).join("index").exists());
    bench.crash().check();
}

#[test]
fn a_start_reads_few_rows_wherever_the_store_was_left() {
    let mut bench = Bench::new(tiny());
    for rows in 1..=80 {
        bench.put(&format!("key{rows}"), "value");
        bench.flush(0);
        if bench.flusher.checkpoint_is_due().expect("counted") {
            assert!(bench.flusher.checkpoint().expect("written").placed);
        }
        bench = bench.crash();
        let read = bench.store.counters().rows_read_at_start;
        let bound = bench.options.checkpoint_min_rows.max(rows / 8);
        assert!(read < bound, "{read} of {rows} rows were read");
    }
    bench.check();
}

#[test]
fn a_start_that_had_no_checkpoint_wants_one_and_writes_it_once() {
    let bench = filled(tiny());
    let mut bench = bench.crash();
    assert!(bench.flusher.checkpoint_is_due().expect("counted"));
    for _ in 0..2 {
        assert!(bench.flusher.checkpoint().expect("written").placed);
        assert!(!bench.flusher.checkpoint_is_due().expect("counted"));
        assert_eq!(bench.store.counters().checkpoints, 1);
    }
    let bench = bench.crash();
    assert_eq!(bench.store.counters().rows_read_at_start, 0);
    bench.check();
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let mut bench = filled(tiny());
    bench.flusher.checkpoint().expect("written");
    let path = store_dir(bench.dir.path()).join("index");
    let sound = fs::read(&path).expect("readable");
    for at in (0..sound.len()).step_by(7) {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).expect("written");
        bench = bench.crash();
        bench.check();
    }
    fs::write(&path, &sound[..sound.len() / 2]).expect("written");
    bench.crash().check();
}

/// Flips a bit of the value that is found in a file, and gives the file as it was.
fn flip_bit_of(data: &Path, value: &[u8]) -> Vec<u8> {
    let sound = fs::read(data).expect("readable");
    let places: Vec<usize> = (0..sound.len() - value.len())
        .filter(|&at| sound[at..].starts_with(value))
        .collect();
    assert!(!places.is_empty());
    let mut damaged = sound.clone();
    for at in places {
        damaged[at + 4] ^= 1;
    }
    fs::write(data, &damaged).expect("written");
    sound
}

#[test]
fn a_damaged_row_ends_the_hash_of_a_compaction_and_not_the_compaction() {
    let mut bench = filled(tiny());
    bench.compact_entry(bench.model.revision());
    bench.flush(0);
    bench.compact_physically();
    bench.put("new", "value");
    bench.flush(0);
    assert!(bench.flusher.checkpoint().expect("written").placed);
    let (dir, model) = (bench.dir, bench.model);
    drop((bench.store, bench.writer, bench.flusher));
    let data = store_dir(dir.path()).join("env-00000001/data.mdb");
    flip_bit_of(&data, b"value of round 29");
    let Opened {
        store,
        mut writer,
        mut flusher,
        ..
    } = Store::open(&store_dir(dir.path()), &tiny())
        .expect("the checkpoint spares reading old rows");
    writer.compact(model.revision()).expect("compacted");
    writer.seal(model.position + 1, Bytes::new());
    flusher.flush(model.position + 1).expect("flushed");
    while !flusher.compact_step().expect("a step").done {}
    assert_eq!(flusher.physically_compacted(), model.revision());
    assert_eq!(named(store.hash_kv(model.revision())), Err("corrupt"));
}

#[test]
fn a_flipped_bit_in_a_row_is_found_when_it_is_read() {
    let mut bench = filled(tiny());
    assert!(bench.flusher.checkpoint().expect("written").placed);
    let (dir, model) = (bench.dir, bench.model);
    drop((bench.store, bench.writer, bench.flusher));
    let data = store_dir(dir.path()).join("env-00000001/data.mdb");
    let sound = flip_bit_of(&data, b"value of round 29");
    let store = reopened(&store_dir(dir.path())).expect("the checkpoint spares reading old rows");
    let latest = |key: &[u8]| {
        named(store.read(&Query {
            key,
            ..Query::default()
        }))
        .map(|page| page.count)
    };
    assert_eq!(latest(b"key7"), Err("corrupt"));
    assert_eq!(latest(b"key6"), Ok(1));
    assert_eq!(named(store.hash_kv(0)), Err("corrupt"));
    assert_eq!(store.counters().damaged_reads, 2);
    drop(store);
    fs::remove_file(store_dir(dir.path()).join("index")).expect("removed");
    assert!(matches!(
        reopened(&store_dir(dir.path())),
        Err(OpenError::CorruptRow { .. })
    ));
    fs::write(&data, &sound).expect("written");
    check(
        &reopened(&store_dir(dir.path())).expect("opens"),
        &model,
        &[],
    );
}

#[test]
fn a_flipped_bit_in_a_table_is_found_when_it_is_read() {
    let mut bench = Bench::new(tiny());
    bench.set(Table(1), b"lease", Some(b"to live: 60"));
    bench.put("key", "value");
    bench.flush(0);
    let dir = bench.dir;
    drop((bench.store, bench.writer, bench.flusher));
    let data = store_dir(dir.path()).join("env-00000001/data.mdb");
    let mut damaged = fs::read(&data).expect("readable");
    let needle = b"to live: 60";
    for at in 0..damaged.len() - needle.len() {
        if damaged[at..].starts_with(needle) {
            damaged[at + needle.len() - 1] ^= 1;
        }
    }
    fs::write(&data, &damaged).expect("written");
    let store = reopened(&store_dir(dir.path())).expect("the history is sound");
    let error = store.table(Table(1)).expect_err("it is damaged");
    let sentence = error.to_string();
    assert!(
        sentence.contains("table 1") && sentence.contains("env-00000001"),
        "{sentence}"
    );
    assert!(store.table(Table(15)).expect("sound").is_empty());
}

#[test]
fn what_is_no_store_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("notes.txt"), "mine").expect("written");
    let error = reopened(dir.path()).err().expect("refused");
    assert!(
        matches!(error, OpenError::NotAStore(_)) && error.to_string().contains("empty directory"),
        "{error}"
    );
    let bench = filled(tiny());
    let pointer = store_dir(bench.dir.path()).join("CURRENT");
    let dir = bench.dir;
    drop((bench.store, bench.writer, bench.flusher));
    fs::write(&pointer, "env-00000009\n").expect("written");
    assert!(matches!(
        reopened(&store_dir(dir.path())),
        Err(OpenError::BrokenPointer(_))
    ));
    fs::remove_file(&pointer).expect("removed");
    assert!(matches!(
        reopened(&store_dir(dir.path())),
        Err(OpenError::NotAStore(_))
    ));
    fs::write(&pointer, "env-00000001\n").expect("written");
    fs::write(
        store_dir(dir.path()).join("env-00000001/data.mdb"),
        vec![7; 8192],
    )
    .expect("written");
    assert!(matches!(
        reopened(&store_dir(dir.path())),
        Err(OpenError::Storage { .. })
    ));
}

#[test]
fn an_import_of_an_export_is_the_same_store() {
    let mut source = filled(tiny());
    source.compact_entry(12);
    source.flush(0);
    source.flusher.compact_step().expect("a step");
    let mut bench = Bench::new(tiny());
    bench.put("old", "content");
    bench.flush(0);
    bench.put("older", "not flushed");

    let mut export = source.store.export().expect("exports");
    let mut import = bench.flusher.begin_import().expect("begins");
    import.rows(exported(&mut export)).expect("written");
    let imported = import
        .finish(export.cut(), export.tables())
        .expect("finished");
    assert_eq!(
        imported.store().hash_kv(0).expect("hashed"),
        source.store.hash_kv(0).expect("hashed")
    );
    drop(export);
    bench.flusher.install(imported).expect("installed");
    bench.writer.reload();
    bench.model = source.model.clone();
    bench.sealed = vec![source.model.clone()];
    bench.check();
    bench.put("new", "content");
    bench.flush(0);
    bench.compact_physically();
    bench.check();
    bench.crash().check();
}

#[test]
fn an_import_that_is_dropped_leaves_nothing() {
    let mut bench = filled(tiny());
    let mut import = bench.flusher.begin_import().expect("begins");
    import
        .rows(bench.model.rows.iter().cloned())
        .expect("written");
    drop(import);
    let left = fs::read_dir(store_dir(bench.dir.path()))
        .expect("readable")
        .count();
    assert_eq!(left, 2, "the pointer and the environment");
    bench.crash().check();
}

#[test]
fn an_export_goes_on_from_where_the_receiver_stands() {
    let bench = filled(tiny());
    let mut export = bench.store.export().expect("exports");
    export.resume_at(Revision::new(20, 0));
    assert_eq!(exported(&mut export)[0].revision, Revision::new(20, 0));
    assert_eq!(export.cut().position, bench.model.position);
    assert_eq!(export.tables().len(), 1);
}
