//! Random programs: the state answers every record, and every range, as the model does.

use keystead_proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use keystead_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use keystead_proto::internal::Record;
use keystead_state::{check, range};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::machine::Machine;
use crate::model::Model;
use crate::records::{self, *};

const OPS: usize = 16;

/// What happens between two restarts: entries of the log, each followed by ranges.
pub type Program = Vec<(Vec<Record>, Vec<RangeRequest>)>;

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "ab", "b", "c", "d"]).prop_map(Into::into)
}

fn end() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "", "\0", "b", "c", "zz", "a"]).prop_map(Into::into)
}

fn value() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "x", "y", "zzz"]).prop_map(Into::into)
}

fn lease() -> impl Strategy<Value = i64> {
    prop::sample::select(vec![0, 0, 0, 1, 2, 3])
}

fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 2 => -1..30i64]
}

fn a_put() -> impl Strategy<Value = PutRequest> {
    (key(), value(), lease(), any::<bool>(), 0..8u8).prop_map(
        |(key, value, lease, prev_kv, ignores)| {
            let (ignore_value, ignore_lease) = (ignores == 1, ignores == 2);
            let value = if ignore_value { String::new() } else { value };
            let lease = if ignore_lease { 0 } else { lease };
            PutRequest {
                lease,
                prev_kv,
                ignore_value,
                ignore_lease,
                ..put_of(&key, &value)
            }
        },
    )
}

fn a_delete() -> impl Strategy<Value = DeleteRangeRequest> {
    let parts = (key(), end(), any::<bool>());
    parts.prop_map(|(key, end, prev_kv)| DeleteRangeRequest {
        prev_kv,
        ..delete_of(&key, &end)
    })
}

fn a_range() -> impl Strategy<Value = RangeRequest> {
    let bound = || prop_oneof![4 => Just(0), 1 => 1..20i64];
    let parts = (key(), end(), revision(), -1..5i64, 0..3i32, 0..5i32, 0..8u8);
    (parts, [bound(), bound(), bound(), bound()]).prop_map(
        |((key, end, revision, limit, sort_order, sort_target, flags), bounds)| RangeRequest {
            revision,
            limit,
            sort_order,
            sort_target,
            keys_only: flags == 1,
            count_only: flags == 2,
            min_mod_revision: bounds[0],
            max_mod_revision: bounds[1],
            min_create_revision: bounds[2],
            max_create_revision: bounds[3],
            ..range_of(&key, &end)
        },
    )
}

fn a_compare() -> impl Strategy<Value = Compare> {
    let given = prop_oneof![
        (0..4i64).prop_map(TargetUnion::Version),
        (0..20i64).prop_map(TargetUnion::CreateRevision),
        (0..20i64).prop_map(TargetUnion::ModRevision),
        value().prop_map(|value| TargetUnion::Value(bytes(&value))),
        lease().prop_map(TargetUnion::Lease),
    ];
    (key(), end(), 0..4i32, given).prop_map(|(key, end, result, given)| {
        let result = CompareResult::try_from(result).expect("there are four");
        compare(&key, &end, result, given)
    })
}

fn a_txn() -> impl Strategy<Value = TxnRequest> {
    let leaf = prop_oneof![
        2 => a_put().prop_map(op),
        1 => a_delete().prop_map(op),
        1 => a_range().prop_map(op),
    ];
    let ops = leaf.prop_recursive(2, 16, 3, |op: BoxedStrategy<RequestOp>| {
        let branch = || vec(op.clone(), 0..3);
        txn_of(branch(), branch()).prop_map(records::op)
    });
    txn_of(vec(ops.clone(), 0..4), vec(ops, 0..4))
        .prop_filter("a member refuses it", |txn| check::txn(txn, OPS).is_ok())
}

fn txn_of(
    success: impl Strategy<Value = Vec<RequestOp>>,
    failure: impl Strategy<Value = Vec<RequestOp>>,
) -> impl Strategy<Value = TxnRequest> {
    (vec(a_compare(), 0..2), success, failure)
        .prop_map(|(compare, success, failure)| if_then_else(compare, success, failure))
}

fn a_record() -> impl Strategy<Value = Record> {
    use keystead_proto::internal::RecordKind;
    prop_oneof![
        6 => a_put().prop_map(|put| record(RecordKind::Put, &put)),
        2 => a_delete().prop_map(|delete| record(RecordKind::DeleteRange, &delete)),
        6 => a_txn().prop_map(|request| txn(&request)),
        1 => (-1..25i64).prop_map(compact),
        2 => (1..4i64).prop_map(|id| grant(id, 10 + id)),
        1 => (1..4i64).prop_map(revoke),
        1 => vec((1..4i64, -1..9i64), 0..4).prop_map(|left| checkpoint(&left)),
    ]
}

pub fn programs() -> impl Strategy<Value = Vec<Program>> {
    let entries = vec((vec(a_record(), 1..5), vec(a_range(), 1..3)), 1..12);
    vec(entries, 1..3)
}

fn run(programs: Vec<Program>) -> Result<(), TestCaseError> {
    let (mut machine, mut model) = (Machine::new(), Model::new());
    for program in programs {
        for (entry, ranges) in program {
            let before = model.current();
            let expected: Vec<_> = entry.iter().map(|record| model.apply(record)).collect();
            let applied = machine.entry(&entry);
            prop_assert_eq!(applied.outcomes, expected);
            prop_assert_eq!(
                (applied.sealed.first, applied.sealed.last),
                (before + 1, model.current())
            );
            for request in ranges {
                let view = machine.reader.store().view();
                let answer =
                    range::range(&view, &request).and_then(|answer| answer.into_response());
                prop_assert_eq!(answer, model.range(&request), "{:?}", request);
            }
            prop_assert_eq!(machine.reader.leases(), model.leases());
            for (id, _) in model.leases() {
                prop_assert_eq!(machine.reader.lease_keys(id), model.lease_keys(id));
            }
        }
        machine = machine.restart();
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_the_models(programs in programs()) {
        run(programs)?;
    }
}
