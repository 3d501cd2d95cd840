//! Transactions in the log, and read-only ones outside of it.

use keystead_proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use keystead_proto::etcdserverpb::{Compare, PutRequest, RangeRequest, TxnRequest};
use keystead_state::nesting::MAX_NESTED_TXNS;
use keystead_state::txn::{is_read_only, is_serializable};
use keystead_state::{Reply, check};
use prost::Message;

use crate::machine::Machine;
use crate::records::*;
use CompareResult::{Equal, Greater, Less, NotEqual};
use TargetUnion::{CreateRevision, Lease, ModRevision, Value, Version};

fn then(ops: impl Into<Vec<keystead_proto::etcdserverpb::RequestOp>>) -> TxnRequest {
    if_then_else([], ops, [])
}

/// a: versions 2 and 3; b: revision 4 with lease 7.
fn two_keys() -> Machine {
    let mut machine = Machine::new();
    machine.script([
        (put("a", "1"), "@2"),
        (put("a", "m"), "@3"),
        (grant(7, 10), "@3 ~7 10s"),
        (put_leased("b", "m", 7), "@4"),
    ]);
    machine
}

#[test]
fn writes_share_one_revision_and_ranges_see_what_came_before_them() {
    let request = then([
        op(range_of("a", "\0")),
        op(put_of("a", "1")),
        op(put_of("b", "2")),
        op(range_of("a", "\0")),
        op(delete_of("c", "")),
        op(range_of("x", "")),
    ]);
    Machine::new().script([
        (put("c", "0"), "@2"),
        (
            txn(&request),
            "@3 then {@2 #1 c=0[2.2.1]; @3; @3; @3 #3 a=1[3.3.1] b=2[3.3.1] c=0[2.2.1]; @3 -1; @3 #0}",
        ),
    ]);
}

#[test]
fn a_transaction_that_changes_nothing_uses_no_revision() {
    Machine::new().script([
        (txn(&then([])), "@1 then {}"),
        (txn(&then([op(delete_of("a", "\0"))])), "@1 then {@1 -0}"),
        (put("k", ""), "@2"),
    ]);
}

#[test]
fn a_key_can_be_put_and_deleted_where_etcd_does_not_see_the_overlap() {
    let both = then([
        op(put_of("k", "1")),
        op(delete_of("a", "\0")),
        op(range_of("k", "")),
    ]);
    let mut machine = Machine::new();
    machine.script([
        (txn(&both), "@2 then {@2; @2 -1; @2 #0}"),
        (put("k", "2"), "@3"),
    ]);
    assert_eq!(machine.range(&range_of("k", "")), "@3 #1 k=2[3.3.1]");
}

#[test]
fn nothing_is_kept_of_a_key_that_the_transaction_deleted_before() {
    let kept = PutRequest {
        ignore_value: true,
        ..put_of("b", "")
    };
    let request = then([op(delete_of("a", "\0")), op(kept), op(range_of("b", ""))]);
    let mut machine = two_keys();
    machine.script([(txn(&request), "@5 then {@5 -2; @5; @5 #1 b=[5.5.1]}")]);
    assert!(machine.reader.lease_keys(7).is_empty());
}

#[test]
fn compares_decide_the_branch() {
    let cases: [(Compare, bool); 33] = [
        (compare("a", "", Equal, Version(2)), true),
        (compare("a", "", Greater, Version(2)), false),
        (compare("a", "", Less, Version(3)), true),
        (compare("a", "", NotEqual, Version(2)), false),
        (compare("a", "", Equal, CreateRevision(2)), true),
        (compare("a", "", Equal, ModRevision(3)), true),
        (compare("a", "", Less, ModRevision(3)), false),
        (compare("a", "", Equal, Lease(0)), true),
        (compare("b", "", Equal, Lease(7)), true),
        (compare("a", "", Equal, Value(bytes("m"))), true),
        (compare("a", "", Greater, Value(bytes("lz"))), true),
        (compare("a", "", Less, Value(bytes("mm"))), true),
        // A key that does not exist has numbers of 0 and no value at all.
        (compare("x", "", Equal, Version(0)), true),
        (compare("x", "", Equal, CreateRevision(0)), true),
        (compare("x", "", Less, ModRevision(1)), true),
        (compare("x", "", NotEqual, Lease(0)), false),
        (compare("x", "", Equal, Value(bytes(""))), false),
        (compare("x", "", NotEqual, Value(bytes("m"))), false),
        // Every key of a range must satisfy.
        (compare("a", "c", Equal, Value(bytes("m"))), true),
        (compare("a", "c", Equal, Lease(0)), false),
        (compare("a", "\0", Greater, ModRevision(2)), true),
        (compare("\0", "\0", Greater, ModRevision(3)), false),
        (compare("x", "\0", Equal, Version(0)), true),
        (compare("x", "\0", NotEqual, Value(bytes(""))), false),
        (compare("b", "a", Greater, Version(0)), false),
        (compare("c", "a", Equal, Value(bytes("m"))), false),
        // What is given for another target, or not given, is 0 or empty; an unknown result holds.
        (
            Compare {
                target_union: None,
                ..compare("x", "", Equal, Version(3))
            },
            true,
        ),
        (
            Compare {
                target_union: None,
                ..compare("a", "", Greater, Version(3))
            },
            true,
        ),
        (
            Compare {
                target_union: Some(Lease(2)),
                ..compare("a", "", Equal, Version(2))
            },
            false,
        ),
        (
            Compare {
                target_union: None,
                ..compare("a", "", Greater, Value(bytes("z")))
            },
            true,
        ),
        (
            Compare {
                result: 9,
                ..compare("a", "", Equal, Version(9))
            },
            true,
        ),
        (
            Compare {
                result: 9,
                ..compare("x", "", Equal, Value(bytes("m")))
            },
            false,
        ),
        (
            Compare {
                target: 9,
                ..compare("a", "", Equal, Version(9))
            },
            true,
        ),
    ];
    let machine = two_keys();
    for (compare, expected) in cases {
        let succeeded = machine.read(&if_then_else([compare.clone()], [], [])) == "@4 then {}";
        assert_eq!(succeeded, expected, "{compare:?}");
    }
}

#[test]
fn values_of_a_range_larger_than_a_page_are_all_compared() {
    let mut machine = Machine::new();
    let mut puts: Vec<_> = (0..2500)
        .map(|key| put(&format!("k{key:05}"), "same"))
        .collect();
    machine.entry(&puts);
    let request = if_then_else([compare("k", "l", Equal, Value(bytes("same")))], [], []);
    assert_eq!(machine.read(&request), "@2501 then {}");
    puts = vec![put("k02499", "other")];
    machine.entry(&puts);
    assert_eq!(machine.read(&request), "@2502 else {}");
}

#[test]
fn nested_transactions_compare_with_the_state_before_all_of_it() {
    let nested = if_then_else(
        [compare("k", "", Equal, Version(0))],
        [op(range_of("k", ""))],
        [op(put_of("never", ""))],
    );
    let request = then([
        op(put_of("k", "1")),
        op(nested.clone()),
        op(put_of("l", "2")),
    ]);
    Machine::new().script([
        (
            txn(&request),
            "@2 then {@2; @- then {@2 #1 k=1[2.2.1]}; @2}",
        ),
        (
            txn(&then([op(then([op(nested)]))])),
            "@3 then {@- then {@- else {@3}}}",
        ),
    ]);
}

#[test]
fn every_nested_transaction_takes_its_own_branch() {
    let pick = |version| {
        if_then_else(
            [compare("k", "", Equal, Version(version))],
            [op(range_of("yes", ""))],
            [op(range_of("no", ""))],
        )
    };
    let request = if_then_else(
        [compare("k", "", Equal, Version(1))],
        [],
        [
            op(pick(0)),
            op(then([op(pick(1)), op(pick(0))])),
            op(pick(2)),
        ],
    );
    let found = "@1 #0";
    Machine::new().script([(
        txn(&request),
        &format!("@1 else {{@- then {{{found}}}; @- then {{@- else {{{found}}}; @- then {{{found}}}}}; @- else {{{found}}}}}"),
    )]);
}

#[test]
fn what_the_chosen_path_can_not_do_leaves_no_trace() {
    let leased = PutRequest {
        lease: 9,
        ..put_of("z", "")
    };
    let kept = PutRequest {
        ignore_value: true,
        ..put_of("z", "")
    };
    let old = |revision| RangeRequest {
        revision,
        ..range_of("a", "")
    };
    let mut machine = two_keys();
    let before = put_of("y", "");
    let none = [compare("a", "", Equal, Version(9))];
    machine.script([
        (compact(3), "@4"),
        (
            txn(&then([op(before.clone()), op(leased.clone())])),
            "LeaseNotFound",
        ),
        (
            txn(&then([op(before.clone()), op(kept.clone())])),
            "KeyNotFound",
        ),
        (
            txn(&then([op(before.clone()), op(then([op(kept.clone())]))])),
            "KeyNotFound",
        ),
        (
            txn(&then([op(before.clone()), op(old(5))])),
            "FutureRevision",
        ),
        (txn(&then([op(before.clone()), op(old(2))])), "Compacted"),
        (txn(&then([op(before.clone()), op(old(-1))])), "Compacted"),
        (
            txn(&if_then_else(none, [op(leased), op(old(9))], [])),
            "@4 else {}",
        ),
        (
            txn(&then([op(PutRequest {
                lease: 9,
                ..kept.clone()
            })])),
            "KeyNotFound",
        ),
    ]);
    assert_eq!(machine.range(&range_of("y", "\0")), "@4 #0");
    let read = [op(before), op(old(4)), op(old(3)), op(old(0))];
    machine.script([(
        txn(&then(read)),
        "@5 then {@5; @5 #1 a=m[2.3.2]; @5 #1 a=m[2.3.2]; @5 #1 a=m[2.3.2]}",
    )]);
}

#[test]
fn an_old_revision_does_not_show_the_transactions_own_writes() {
    let old = RangeRequest {
        revision: 4,
        ..range_of("a", "")
    };
    let request = then([op(put_of("a", "new")), op(old), op(range_of("a", ""))]);
    two_keys().script([(
        txn(&request),
        "@5 then {@5; @5 #1 a=m[2.3.2]; @5 #1 a=new[2.5.3]}",
    )]);
}

#[test]
fn leases_follow_the_writes_of_a_transaction() {
    let mut machine = two_keys();
    let request = then([
        op(delete_of("b", "")),
        op(PutRequest {
            lease: 7,
            ..put_of("c", "")
        }),
    ]);
    machine.script([(txn(&request), "@5 then {@5 -1; @5}")]);
    assert_eq!(machine.reader.lease_keys(7), ["c"]);
}

#[test]
fn a_read_only_transaction_is_answered_outside_of_the_log() {
    let machine = two_keys();
    let has_lease = [compare("b", "", Equal, Lease(7))];
    let old = |revision| {
        op(RangeRequest {
            revision,
            ..range_of("a", "")
        })
    };
    for (request, expected) in [
        (
            if_then_else(has_lease.clone(), [old(2), op(range_of("b", ""))], [old(9)]),
            "@4 then {@4 #1 a=1[2.2.1]; @4 #1 b=m[4.4.1]~7}",
        ),
        (
            if_then_else(has_lease.clone(), [old(0), old(5)], []),
            "FutureRevision",
        ),
        (if_then_else(has_lease, [old(-2)], []), "Compacted"),
    ] {
        assert!(is_read_only(&request));
        assert_eq!(machine.read(&request), expected);
    }
}

#[test]
fn only_top_level_ranges_are_read_only_and_only_serializable_ones_may_lag() {
    let stale = op(RangeRequest {
        serializable: true,
        ..range_of("a", "")
    });
    let exact = op(range_of("a", ""));
    let cases = [
        (
            if_then_else([compare("a", "", Equal, Version(0))], [], []),
            true,
            true,
        ),
        (
            if_then_else([], [stale.clone()], [stale.clone()]),
            true,
            true,
        ),
        (
            if_then_else([], [stale.clone()], [exact.clone()]),
            true,
            false,
        ),
        (
            if_then_else([], [op(then([stale.clone()]))], []),
            false,
            false,
        ),
        (
            if_then_else([], [stale], [op(delete_of("a", ""))]),
            false,
            false,
        ),
        (
            if_then_else([], [op(put_of("a", ""))], [exact]),
            false,
            false,
        ),
    ];
    for (request, read_only, serializable) in cases {
        assert_eq!(
            (is_read_only(&request), is_serializable(&request)),
            (read_only, serializable),
            "{request:?}"
        );
    }
}

#[test]
fn the_deepest_nesting_that_is_read_fits_on_a_threads_stack() {
    // As much as the thread has that applies.
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let applying = thread.spawn(|| {
        let mut request = then([op(put_of("deep", "v"))]);
        for _ in 1..MAX_NESTED_TXNS {
            request = then([op(request)]);
        }
        check::txn(&request, 2 * MAX_NESTED_TXNS).expect("allowed");
        let applied = Machine::new().apply(txn(&request)).expect("applied");
        let Reply::Txn(response) = applied else {
            panic!("{applied:?} is not a transaction's");
        };
        assert!(response.encode_to_vec().len() > MAX_NESTED_TXNS);
    });
    applying.expect("a thread").join().expect("it fits");
}
