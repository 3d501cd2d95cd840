//! Leases as far as they are replicated.

use bytes::Bytes;
use keystead_mvcc::{KeyValueRef, Table, TableEntry};
use keystead_state::{CutFacts, LeaseChange, LeaseFacts};

use crate::machine::Machine;
use crate::records::*;

/// Leases with their ids, the time that they live, and what they had left at their checkpoint.
fn of<const N: usize>(leases: [(i64, i64, Option<i64>); N]) -> Vec<(i64, LeaseFacts)> {
    let facts = |(id, ttl_secs, left_secs)| {
        let facts = LeaseFacts {
            ttl_secs,
            left_secs,
        };
        (id, facts)
    };
    leases.map(facts).to_vec()
}

#[test]
fn granting_uses_no_revision_and_an_id_only_once() {
    let mut machine = Machine::new();
    machine.script([
        (grant(7, 10), "@1 ~7 10s"),
        (grant(7, 20), "LeaseExists"),
        (grant(-3, 5), "@1 ~-3 5s"),
        (grant(0, 5), "LeaseNotFound"),
    ]);
    assert_eq!(machine.reader.lease(7), Some(LeaseFacts::granted(10)));
    assert_eq!(machine.reader.lease(8), None);
    assert_eq!(machine.reader.leases(), of([(-3, 5, None), (7, 10, None)]));
}

#[test]
fn a_revoked_lease_takes_its_keys_with_it_sorted_and_in_one_revision() {
    // On one member as on the next.
    for mut machine in [Machine::new(), Machine::new()] {
        machine.script([
            (grant(7, 10), "@1 ~7 10s"),
            (put_leased("b", "", 7), "@2"),
            (put_leased("a", "", 7), "@3"),
            (put_leased("c", "", 7), "@4"),
            (put("c", ""), "@5"),
        ]);
        let applied = machine.entry(&[revoke(7), revoke(7)]);
        assert_eq!(
            applied.outcomes.iter().map(show).collect::<Vec<_>>(),
            ["@6", "LeaseNotFound"]
        );
        assert_eq!(applied.lease_changes, [LeaseChange::Revoked { id: 7 }]);
        let rows = applied.sealed.rows.iter();
        let deleted: Vec<_> = rows
            .map(|row| {
                let key = KeyValueRef::decode(&row.payload)
                    .expect("it was encoded")
                    .key;
                (row.revision.to_string(), row.tombstone, key)
            })
            .collect();
        let gone = |revision: &str, key| (revision.to_owned(), true, key);
        assert_eq!(deleted, [gone("6.0", &b"a"[..]), gone("6.1", b"b")]);
        assert_eq!(machine.range(&range_of("a", "\0")), "@6 #1 c=[4.5.2]");
    }
}

#[test]
fn revoking_a_lease_without_keys_uses_no_revision() {
    Machine::new().script([
        (grant(7, 10), "@1 ~7 10s"),
        (revoke(7), "@1"),
        (revoke(7), "LeaseNotFound"),
        (put_leased("k", "", 7), "LeaseNotFound"),
    ]);
}

#[test]
fn a_key_belongs_to_the_lease_of_its_last_put() {
    let mut machine = Machine::new();
    machine.script([
        (grant(1, 10), "@1 ~1 10s"),
        (grant(2, 10), "@1 ~2 10s"),
        (put_leased("k", "", 1), "@2"),
        (put_leased("k", "", 2), "@3"),
        (revoke(1), "@3"),
    ]);
    assert_eq!(machine.reader.lease_keys(2), ["k"]);
    machine.script([(delete("k", ""), "@4 -1"), (revoke(2), "@4")]);
}

#[test]
fn leases_and_what_is_attached_survive_a_restart() {
    let mut machine = Machine::new();
    machine.script([
        (grant(1, 10), "@1 ~1 10s"),
        (grant(2, 20), "@1 ~2 20s"),
        (put_leased("a", "", 1), "@2"),
        (put_leased("b", "", 2), "@3"),
        (put_leased("a", "", 2), "@4"),
        (revoke(1), "@4"),
    ]);
    let mut machine = machine.restart();
    assert_eq!(machine.reader.leases(), of([(2, 20, None)]));
    assert_eq!(machine.reader.lease_keys(2), ["a", "b"]);
    machine.script([(revoke(2), "@5")]);
    assert_eq!(machine.range(&range_of("a", "\0")), "@5 #0");
}

#[test]
fn a_lease_of_many_keys_lists_and_deletes_them_all() {
    let mut machine = Machine::new();
    let mut records = vec![grant(7, 10)];
    records.extend((0..600).map(|n| put_leased(&format!("k{n:03}"), "v", 7)));
    machine.entry(&records);
    machine.apply(put("other", "v")).expect("put");
    let keys: Vec<_> = (0..600).map(|n| bytes(&format!("k{n:03}"))).collect();
    assert_eq!(machine.reader.lease_keys(7), keys);
    machine.script([
        (revoke(7), "@603"),
        (put_leased("k", "v", 7), "LeaseNotFound"),
    ]);
    assert_eq!(machine.reader.lease_keys(7), Vec::<bytes::Bytes>::new());
    assert_eq!(machine.reader.store().sizes().keys, 1);
}

#[test]
fn a_checkpoint_is_kept_through_restarts_until_it_is_taken_back() {
    let mut machine = Machine::new();
    machine.script([
        (grant(1, 600), "@1 ~1 600s"),
        (grant(2, 600), "@1 ~2 600s"),
        (put_leased("k", "", 1), "@2"),
    ]);
    let applied = machine.entry(&[checkpoint(&[(1, 300), (9, 5), (2, 7)])]);
    assert_eq!(
        applied.outcomes.iter().map(show).collect::<Vec<_>>(),
        ["@2"]
    );
    let noted = |id, left_secs| LeaseChange::Checkpointed { id, left_secs };
    // There is no lease 9.
    assert_eq!(
        applied.lease_changes,
        [noted(1, Some(300)), noted(2, Some(7))]
    );
    let mut machine = machine.restart();
    assert_eq!(
        machine.reader.leases(),
        of([(1, 600, Some(300)), (2, 600, Some(7))])
    );
    let applied = machine.entry(&[checkpoint(&[(1, 0), (2, -1)])]);
    assert_eq!(applied.lease_changes, [noted(1, None), noted(2, None)]);
    let mut machine = machine.restart();
    assert_eq!(
        machine.reader.leases(),
        of([(1, 600, None), (2, 600, None)])
    );
    machine.script([(revoke(1), "@3"), (checkpoint(&[(1, 5)]), "@3")]);
    assert_eq!(machine.reader.leases(), of([(2, 600, None)]));
}

#[test]
fn a_lease_of_a_build_without_checkpoints_is_read_and_one_of_a_later_build_is_not() {
    for (value, facts) in [
        (vec![&[1][..], &10_i64.to_be_bytes()], Some((10, None))),
        (
            vec![&[2], &10_i64.to_be_bytes(), &3_i64.to_be_bytes()],
            Some((10, Some(3))),
        ),
        (
            vec![&[1], &10_i64.to_be_bytes(), &3_i64.to_be_bytes()],
            None,
        ),
        (vec![&[2], &10_i64.to_be_bytes()], None),
        (vec![&[3], &10_i64.to_be_bytes()], None),
    ] {
        let entry = TableEntry {
            table: Table(1),
            key: Bytes::copy_from_slice(&7_i64.to_be_bytes()),
            value: value.concat().into(),
        };
        let read = CutFacts::read(&[entry]).map(|read| read.leases);
        match facts {
            Some((ttl_secs, left_secs)) => assert_eq!(read, Ok(of([(7, ttl_secs, left_secs)]))),
            None => assert!(read.is_err(), "{read:?}"),
        }
    }
}
