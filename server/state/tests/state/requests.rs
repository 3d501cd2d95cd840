//! What is known of an entry before it is applied.

use keystead_proto::etcdserverpb::RangeRequest;
use keystead_proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use keystead_state::Requests;

use crate::auth_records::{by, disable, guarded};
use crate::machine::Machine;
use crate::records::*;

#[test]
fn the_keys_that_an_entry_goes_through_are_told_by_the_counts() {
    let mut machine = Machine::new();
    let mut records = vec![grant(7, 10)];
    records.extend((0..10).map(|n| put_leased(&format!("a{n}"), "v", 7)));
    records.extend((0..5).map(|n| put(&format!("b{n}"), "v")));
    machine.entry(&records);
    let every =
        |changed: RangeRequest| txn(&if_then_else([], [op(range_of("b3", "")), op(changed)], []));
    let all = range_of("\0", "\0");
    let compare_all = compare("a", "\0", CompareResult::Greater, TargetUnion::Version(0));
    let nested = if_then_else([], [op(delete_of("a", "b"))], [op(delete_of("b", "c"))]);
    let cases = [
        ("a put", vec![put("c", "v")], 0),
        ("a deletion", vec![delete("a1", "")], 0),
        ("a deletion of a range", vec![delete("a", "b")], 10),
        ("two", vec![delete("a", "b"), delete("a5", "\0")], 20),
        ("no lease", vec![revoke(8)], 0),
        ("a lease", vec![revoke(7)], 10),
        ("two checkpoints", vec![checkpoint(&[(7, 1), (8, 1)])], 2),
        ("a range", vec![every(all.clone())], 15),
        (
            "a limit",
            vec![every(RangeRequest {
                limit: 3,
                ..all.clone()
            })],
            3,
        ),
        (
            "a sorted limit",
            vec![every(RangeRequest {
                limit: 3,
                sort_order: 2,
                ..all.clone()
            })],
            15,
        ),
        (
            "a count",
            vec![every(RangeRequest {
                count_only: true,
                ..all.clone()
            })],
            0,
        ),
        (
            "an old revision",
            vec![every(RangeRequest { revision: 3, ..all })],
            u64::MAX,
        ),
        (
            "a compare of a range",
            vec![txn(&if_then_else([compare_all], [], []))],
            15,
        ),
        (
            "the longer branch of a nested one",
            vec![txn(&if_then_else([], [], [op(nested)]))],
            10,
        ),
    ];
    for (what, records, keys) in cases {
        let requests = Requests::read(&records).expect("sound");
        assert_eq!(machine.state.keys_of(&requests), keys, "{what}");
    }
}

#[test]
fn attaching_a_key_to_a_lease_goes_through_its_keys_while_there_are_rights_to_check() {
    let mut machine = guarded();
    machine.entry(&[by("", 0, grant(7, 10))]);
    let root = |key| by("root", 11, put_leased(key, "v", 7));
    machine.entry(&[root("a"), root("b"), root("c")]);
    let put = put_leased("d", "v", 7);
    let nested = if_then_else([], [], [op(leased_of("d", 7))]);
    let within = txn(&if_then_else([], [op(leased_of("e", 7)), op(nested)], []));
    let requests = Requests::read(&[put, within]).expect("sound");
    assert_eq!(machine.state.keys_of(&requests), 9);
    machine.script([(by("root", 11, disable()), "@4")]);
    assert_eq!(machine.state.keys_of(&requests), 0);
}
