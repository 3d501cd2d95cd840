//! Random programs, run on a store and on its model.

use std::sync::Mutex;

use keystead_mvcc::{Counters, Options, Query, Read, Table};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::bench::{Bench, Edit, TABLES, exported, named, tiny};
use crate::model::in_range;

#[derive(Clone, Debug)]
enum Step {
    Entry(Vec<Record>),
    Flush {
        spared: usize,
    },
    Compact,
    Checkpoint,
    Defragment {
        puts_meanwhile: u8,
    },
    Crash,
    OpenCopy,
    Read {
        key: Vec<u8>,
        end: Vec<u8>,
        back: i64,
        limit: usize,
        count_only: bool,
    },
}

#[derive(Clone, Debug)]
enum Record {
    Txn(Vec<Edit>),
    Set(Table, Vec<u8>, Option<Vec<u8>>),
    Compact { back: i64 },
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0u8..8).prop_map(|letter| vec![b'a' + letter]),
        1 => Just(vec![0xff, 0]),
        1 => Just(vec![b'd'; 700]),
        1 => Just(b"b\0".to_vec()),
    ]
}

fn end() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => Just(Vec::new()), 1 => Just(vec![0]), 4 => key()]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (key(), vec(any::<u8>(), 0..60), 0i64..3).prop_map(|(key, value, lease)| Edit::Put(key, value, lease)),
        1 => (key(), end()).prop_map(|(key, end)| Edit::Delete(key, end)),
    ]
}

/// Without the puts of keys that the same transaction deleted before: etcd refuses such a transaction, and of the few
/// that slip through its check it hashes the key's two lives as neither of them.
fn without_second_lives(edits: Vec<Edit>) -> Vec<Edit> {
    let mut deleted: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut lives_once = |edit: &Edit| match edit {
        Edit::Put(key, ..) => !deleted.iter().any(|(from, end)| in_range(key, from, end)),
        Edit::Delete(from, end) => {
            deleted.push((from.clone(), end.clone()));
            true
        }
    };
    edits.into_iter().filter(|edit| lives_once(edit)).collect()
}

fn record() -> impl Strategy<Value = Record> {
    let table = prop_oneof![Just(TABLES[0]), Just(TABLES[1])];
    prop_oneof![
        6 => vec(edit(), 0..4).prop_map(|edits| Record::Txn(without_second_lives(edits))),
        1 => (table, key().prop_filter("short", |key| key.len() < 500), any::<Option<Vec<u8>>>())
            .prop_map(|(table, key, value)| Record::Set(table, key, value)),
        1 => prop_oneof![0i64..4, -2i64..20].prop_map(|back| Record::Compact { back }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let read = (key(), end(), -2i64..30, 0usize..4, any::<bool>());
    prop_oneof![
        12 => vec(record(), 0..4).prop_map(Step::Entry),
        3 => (0usize..4).prop_map(|spared| Step::Flush { spared }),
        4 => Just(Step::Compact),
        1 => Just(Step::Checkpoint),
        1 => (0u8..4).prop_map(|puts_meanwhile| Step::Defragment { puts_meanwhile }),
        1 => Just(Step::Crash),
        1 => Just(Step::OpenCopy),
        4 => read.prop_map(|(key, end, back, limit, count_only)| Step::Read { key, end, back, limit, count_only }),
    ]
}

/// Does one step; what the store had counted is added to `counted` before a crash forgets it.
fn run(mut bench: Bench, step: &Step, counted: &Mutex<Counters>) -> Bench {
    match step {
        Step::Entry(records) => {
            for record in records {
                match record {
                    Record::Txn(edits) => bench.txn(edits),
                    Record::Set(table, key, value) => bench.set(*table, key, value.as_deref()),
                    Record::Compact { back } => bench.compact(bench.model.revision() - back),
                }
            }
            bench.seal();
        }
        Step::Flush { spared } => bench.flush(*spared),
        Step::Compact => drop(bench.flusher.compact_step().expect("a step")),
        Step::Checkpoint => drop(bench.flusher.checkpoint().expect("a checkpoint")),
        Step::Defragment { puts_meanwhile } => {
            let copied = bench.flusher.begin_defragment().copy().expect("copied");
            for _ in 0..*puts_meanwhile {
                bench.put("b", "meanwhile");
            }
            bench.flush(1);
            bench.flusher.finish_defragment(copied).expect("swapped");
        }
        Step::Crash => {
            count(&bench, counted);
            return bench.crash();
        }
        Step::OpenCopy => bench.open_copy(),
        Step::Read {
            key,
            end,
            back,
            limit,
            count_only,
        } => {
            let revision = bench.model.revision() - back;
            let query = Query {
                key,
                end,
                revision,
                limit: *limit,
                count_only: *count_only,
            };
            assert_eq!(named(bench.store.read(&query)), bench.model.read(&query));
        }
    }
    bench
}

#[test]
fn any_program_does_to_the_store_what_it_does_to_the_model() {
    let counted = Mutex::new(Counters::default());
    let mut runner = TestRunner::new(config());
    let ran = runner.run(&vec(step(), 1..40), |steps| {
        let mut bench = Bench::new(tiny());
        for step in &steps {
            bench = run(bench, step, &counted);
        }
        bench.check();
        bench.open_copy();
        bench.flush(0);
        bench.compact_physically();
        bench.check();
        let mut export = bench.store.export().expect("exports");
        prop_assert_eq!(
            exported(&mut export),
            bench.model.kept(bench.model.compacted)
        );
        drop(export);
        count(&bench, &counted);
        bench.crash().check();
        Ok(())
    });
    ran.expect("the store and the model agree");
    let counted = counted.into_inner().expect("nobody panicked");
    for (what, times) in [
        ("flushes", counted.flushes),
        ("steps of compaction", counted.compact_steps),
        ("rows removed", counted.rows_removed),
        ("checkpoints", counted.checkpoints),
        ("rows that left the ring", counted.ring_trims),
        ("defragmentations", counted.defragmentations),
    ] {
        assert!(
            times >= 20,
            "only {times} {what}: the test misses its point"
        );
    }
}

/// Adds what the store did since it was opened.
fn count(bench: &Bench, counted: &Mutex<Counters>) {
    let did = bench.store.counters();
    let mut counted = counted.lock().expect("nobody panicked");
    counted.flushes += did.flushes;
    counted.compact_steps += did.compact_steps;
    counted.rows_removed += did.rows_removed;
    counted.checkpoints += did.checkpoints;
    counted.ring_trims += did.ring_trims;
    counted.defragmentations += did.defragmentations;
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn when_entries_are_flushed_changes_nothing_that_is_stored(
        entries in vec(vec(edit(), 0..3), 1..20),
        flushes in vec(any::<bool>(), 20),
    ) {
        let mut dumps = Vec::new();
        for flush_always in [false, true] {
            let mut bench = Bench::new(Options { flush_txn_bytes: if flush_always { 1 } else { 4096 }, ..tiny() });
            for (edits, &flush) in entries.iter().zip(&flushes) {
                bench.entry(edits);
                if flush || flush_always {
                    bench.flush(0);
                }
            }
            bench.flush(0);
            let mut export = bench.store.export().expect("exports");
            dumps.push((export.cut().clone(), export.tables().to_vec(), exported(&mut export)));
        }
        prop_assert_eq!(&dumps[0], &dumps[1]);
    }
}
