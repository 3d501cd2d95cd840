//! Which compactions are taken.

use crate::machine::Machine;
use crate::records::*;

#[test]
fn a_compaction_goes_forward_and_not_past_the_store() {
    let mut machine = Machine::new();
    machine.script([
        (compact(-1), "Compacted"),
        (compact(0), "@1"),
        (compact(0), "Compacted"),
        (compact(2), "FutureRevision"),
        (put("k", "1"), "@2"),
        (put("k", "2"), "@3"),
        (compact(3), "@3"),
        (compact(3), "Compacted"),
        (compact(2), "Compacted"),
        (compact(4), "FutureRevision"),
    ]);
}

#[test]
fn an_entry_tells_what_it_compacted() {
    let mut machine = Machine::new();
    let applied = machine.entry(&[
        put("k", "1"),
        put("k", "2"),
        compact(2),
        compact(9),
        compact(3),
    ]);
    assert_eq!(applied.compacted, Some(3));
    assert_eq!(machine.entry(&[compact(3)]).compacted, None);
}

#[test]
fn later_records_of_the_entry_see_the_compaction() {
    let mut machine = Machine::new();
    machine.script([(put("k", "1"), "@2"), (put("k", "2"), "@3")]);
    let old = keystead_proto::etcdserverpb::RangeRequest {
        revision: 2,
        ..range_of("k", "")
    };
    let read = txn(&if_then_else([], [op(old), op(put_of("j", ""))], []));
    let applied = machine.entry(&[read.clone(), compact(3), read]);
    let outcomes: Vec<_> = applied.outcomes.iter().map(show).collect();
    assert_eq!(
        outcomes,
        ["@4 then {@3 #1 k=1[2.2.1]; @4}", "@4", "Compacted"]
    );
}
