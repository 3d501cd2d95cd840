//! Put and DeleteRange.

use keystead_proto::etcdserverpb::{DeleteRangeRequest, PutRequest};
use keystead_proto::internal::RecordKind;

use crate::machine::Machine;
use crate::records::*;

#[test]
fn versions_count_within_one_life_of_a_key() {
    let mut machine = Machine::new();
    machine.script([
        (put("k", "1"), "@2"),
        (put("k", "2"), "@3"),
        (delete("k", ""), "@4 -1"),
        (put("k", "3"), "@5"),
    ]);
    assert_eq!(machine.range(&range_of("k", "")), "@5 #1 k=3[5.5.1]");
}

#[test]
fn deleting_nothing_uses_no_revision() {
    Machine::new().script([
        (delete("a", "\0"), "@1 -0"),
        (put("b", ""), "@2"),
        (delete("a", ""), "@2 -0"),
        (delete("c", "a"), "@2 -0"),
        (delete("a", "b"), "@2 -0"),
        (delete("a", "c"), "@3 -1"),
    ]);
}

#[test]
fn a_put_answers_the_key_as_it_was_when_asked() {
    let asking = |value| {
        record(
            RecordKind::Put,
            &PutRequest {
                prev_kv: true,
                ..put_of("k", value)
            },
        )
    };
    Machine::new().script([
        (asking("1"), "@2"),
        (asking("2"), "@3 was k=1[2.2.1]"),
        (delete("k", ""), "@4 -1"),
        (asking("3"), "@5"),
    ]);
}

#[test]
fn a_deletion_answers_the_keys_in_order_when_asked() {
    let request = DeleteRangeRequest {
        prev_kv: true,
        ..delete_of("a", "c")
    };
    Machine::new().script([
        (put("b", "2"), "@2"),
        (put("a", "1"), "@3"),
        (put("c", "3"), "@4"),
        (
            record(RecordKind::DeleteRange, &request),
            "@5 -2 a=1[3.3.1] b=2[2.2.1]",
        ),
    ]);
}

#[test]
fn what_is_ignored_stays_and_the_key_must_exist() {
    let keep_value = |lease| PutRequest {
        ignore_value: true,
        lease,
        ..put_of("k", "")
    };
    let keep_lease = |value| PutRequest {
        ignore_lease: true,
        ..put_of("k", value)
    };
    let mut machine = Machine::new();
    machine.script([
        (grant(7, 10), "@1 ~7 10s"),
        (record(RecordKind::Put, &keep_value(0)), "KeyNotFound"),
        (record(RecordKind::Put, &keep_lease("1")), "KeyNotFound"),
        (put_leased("k", "1", 7), "@2"),
        (record(RecordKind::Put, &keep_lease("2")), "@3"),
    ]);
    assert_eq!(machine.range(&range_of("k", "")), "@3 #1 k=2[2.3.2]~7");
    assert_eq!(machine.reader.lease_keys(7), ["k"]);
    machine.script([(record(RecordKind::Put, &keep_value(0)), "@4")]);
    assert_eq!(machine.range(&range_of("k", "")), "@4 #1 k=2[2.4.3]");
    assert!(machine.reader.lease_keys(7).is_empty());
}

#[test]
fn an_unknown_lease_is_found_before_a_missing_key() {
    let request = PutRequest {
        ignore_value: true,
        lease: 9,
        ..put_of("k", "")
    };
    Machine::new().script([(record(RecordKind::Put, &request), "LeaseNotFound")]);
}

#[test]
fn records_of_one_entry_have_one_outcome_each_and_a_refused_one_touches_nothing() {
    let mut machine = Machine::new();
    let applied = machine.entry(&[
        put("a", "1"),
        put_leased("b", "1", 9),
        delete("x", ""),
        put("a", "2"),
    ]);
    let outcomes: Vec<_> = applied.outcomes.iter().map(show).collect();
    assert_eq!(outcomes, ["@2", "LeaseNotFound", "@2 -0", "@3"]);
    assert_eq!(
        (
            applied.sealed.first,
            applied.sealed.last,
            applied.sealed.rows.len()
        ),
        (2, 3, 2)
    );
    assert_eq!(machine.range(&range_of("a", "\0")), "@3 #1 a=2[2.3.2]");
}
