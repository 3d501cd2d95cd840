//! What compaction takes and what it leaves, in RAM and on disk.

use keystead_mvcc::{Options, Query, Read, ReadError};

use crate::bench::{Bench, Edit, exported, named, tiny};

/// `a` is written at 2 and 3, deleted at 4; `b` is written at 5.
fn with_a_deleted_key() -> Bench {
    let mut bench = Bench::new(tiny());
    bench.put("a", "1");
    bench.put("a", "2");
    bench.delete("a");
    bench.put("b", "1");
    bench
}

fn stored_revisions(bench: &Bench) -> Vec<i64> {
    let mut export = bench.store.export().expect("exports");
    exported(&mut export)
        .iter()
        .map(|row| row.revision.main)
        .collect()
}

#[test]
fn a_tombstone_goes_with_the_first_compaction_after_its_own_revision() {
    for (compacted, left) in [(3, vec![3, 4, 5]), (4, vec![4, 5]), (5, vec![5])] {
        let mut bench = with_a_deleted_key();
        bench.compact_entry(compacted);
        bench.flush(0);
        bench.compact_physically();
        assert_eq!(stored_revisions(&bench), left, "compacted at {compacted}");
        assert_eq!(bench.flusher.physically_compacted(), compacted);
        bench.check();
        bench.crash().check();
    }
}

#[test]
fn a_tombstone_left_at_a_compaction_goes_with_the_next() {
    let mut bench = with_a_deleted_key();
    for (compacted, left) in [(4, vec![4, 5]), (5, vec![5])] {
        bench.compact_entry(compacted);
        bench.flush(0);
        bench.compact_physically();
        assert_eq!(stored_revisions(&bench), left);
        bench = bench.crash();
        bench.check();
    }
}

#[test]
fn readers_are_refused_below_the_compaction_revision_and_served_at_it() {
    let mut bench = with_a_deleted_key();
    let at = |bench: &Bench, revision| {
        named(bench.store.read(&Query {
            key: b"a",
            revision,
            ..Query::default()
        }))
        .map(|page| page.count)
    };
    bench.compact_entry(3);
    assert_eq!(at(&bench, 2), Err("compacted"));
    assert_eq!(at(&bench, 3), Ok(1));
    assert_eq!(at(&bench, 4), Ok(0));
    assert_eq!(at(&bench, 6), Err("future"));
    assert!(matches!(bench.writer.compact(3), Err(ReadError::Compacted)));
    assert!(matches!(bench.writer.compact(6), Err(ReadError::Future)));
}

#[test]
fn a_view_is_refused_once_compaction_has_passed_it() {
    let mut bench = with_a_deleted_key();
    let view = bench.store.view();
    bench.put("c", "1");
    let all = Query {
        end: b"\0",
        ..Query::default()
    };
    assert_eq!(view.read(&all).expect("readable").count, 1);
    assert_eq!(view.meta(b"c").expect("readable"), None);
    bench.compact_entry(6);
    assert_eq!(named(view.read(&all)), Err("compacted"));
}

#[test]
fn an_empty_store_is_compacted_once_at_zero() {
    let mut bench = Bench::new(tiny());
    bench.compact_entry(0);
    assert_eq!(bench.store.compacted(), 0);
    bench.flush(0);
    bench.compact_physically();
    bench.compact(0);
    bench.crash().check();
}

#[test]
fn physical_compaction_goes_on_where_a_crash_stopped_it() {
    let mut bench = Bench::new(tiny());
    for round in 0..40 {
        bench.put(&format!("k{}", round % 7), "value");
    }
    bench.compact_entry(30);
    bench.flush(0);
    let mut steps = 0;
    while !bench.flusher.compact_step().expect("a step").done {
        steps += 1;
        bench = bench.crash();
        bench.check();
    }
    assert!(steps > 5, "{steps} steps");
    assert_eq!(stored_revisions(&bench).len(), bench.model.kept(30).len());
}

#[test]
fn a_newer_compaction_that_comes_between_two_steps_forgets_no_tombstone() {
    let edit = |key: &str| Edit::Put(key.into(), b"value".to_vec(), 0);
    let mut bench = Bench::new(tiny());
    bench.entry(&[edit("a"), edit("b")]);
    bench.entry(&[
        Edit::Delete(b"a".to_vec(), b"c".to_vec()),
        edit("c"),
        edit("d"),
    ]);
    bench.compact_entry(3);
    bench.flush(0);
    bench.flusher.compact_step().expect("a step");
    bench.put("d", "value");
    bench.compact_entry(4);
    bench.flush(0);
    bench.compact_physically();
    assert_eq!(stored_revisions(&bench), [3, 4]);
}

#[test]
fn a_compaction_that_is_not_durable_removes_nothing() {
    let mut bench = with_a_deleted_key();
    bench.flush(0);
    bench.compact_entry(5);
    assert!(bench.flusher.compact_step().expect("a step").done);
    assert_eq!(stored_revisions(&bench).len(), 4);
}

#[test]
fn an_export_holds_physical_compaction_until_too_much_waits() {
    let mut bench = Bench::new(Options {
        held_revisions: 6,
        ..tiny()
    });
    for _ in 0..5 {
        bench.put("a", "value");
    }
    bench.compact_entry(5);
    bench.flush(0);
    let mut export = bench.store.export().expect("exports");
    assert!(bench.flusher.compact_step().expect("a step").held);
    assert_eq!(export.rows(1).expect("held").len(), 1);
    for _ in 0..5 {
        bench.put("a", "value");
    }
    bench.compact_entry(10);
    bench.flush(0);
    assert!(!bench.flusher.compact_step().expect("a step").held);
    assert_eq!(named(export.rows(1)), Err("compacted"));
}

#[test]
fn the_hashes_of_the_last_ten_compactions_are_repeated_until_a_restart() {
    let mut bench = Bench::new(tiny());
    for round in 0..60 {
        bench.put(&format!("k{}", round % 7), "value");
        if round % 3 == 0 {
            bench.delete(&format!("k{}", round % 5));
        }
        if round % 5 == 4 {
            bench.compact_entry(bench.model.revision() - 2);
            bench.flush(0);
            bench.compact_physically();
            bench.check();
        }
    }
    let compacted = bench.store.compacted();
    let repeated = bench.store.hash_kv(compacted).expect("hashed");
    assert!(repeated.compact_revision < compacted, "{repeated:?}");
    let answered = |bench: &Bench| {
        let revisions = 1..compacted;
        revisions
            .filter(|&revision| bench.store.hash_kv(revision).is_ok())
            .count()
    };
    assert_eq!(answered(&bench), 9, "beside the one at {compacted}");
    bench = bench.crash();
    assert_eq!(answered(&bench), 0);
    let anew = bench.store.hash_kv(compacted).expect("hashed");
    assert_eq!(anew.compact_revision, compacted);
}

#[test]
fn a_compaction_that_comes_before_the_last_is_through_leaves_no_hash() {
    let mut bench = with_a_deleted_key();
    bench.compact(3);
    bench.compact(4);
    bench.seal();
    bench.compact_entry(5);
    bench.flush(0);
    bench.compact_physically();
    let compact_revision = |at| named(bench.store.hash_kv(at)).map(|hash| hash.compact_revision);
    assert_eq!(compact_revision(3), Ok(-1));
    assert_eq!(compact_revision(4), Err("compacted"));
    assert_eq!(compact_revision(5), Ok(5));
    bench.check();
}
