//! What is refused before it is proposed.

use keystead_proto::etcdserverpb::{
    Compare, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use keystead_state::{Refusal, check};

use crate::records::*;

fn puts(count: usize) -> Vec<RequestOp> {
    (0..count)
        .map(|key| op(put_of(&format!("k{key}"), "")))
        .collect()
}

fn then(ops: impl Into<Vec<RequestOp>>) -> TxnRequest {
    if_then_else([], ops, [])
}

#[test]
fn single_requests_are_checked_in_etcds_order() {
    let all_wrong = PutRequest {
        ignore_value: true,
        ignore_lease: true,
        lease: 1,
        ..put_of("", "v")
    };
    let with_key = PutRequest {
        key: bytes("k"),
        ..all_wrong.clone()
    };
    let without_value = PutRequest {
        value: bytes(""),
        ..with_key.clone()
    };
    let without_lease = PutRequest {
        lease: 0,
        ..without_value.clone()
    };
    assert_eq!(check::put(&all_wrong), Err(Refusal::EmptyKey));
    assert_eq!(check::put(&with_key), Err(Refusal::ValueProvided));
    assert_eq!(check::put(&without_value), Err(Refusal::LeaseProvided));
    assert_eq!(check::put(&without_lease), Ok(()));

    let sorted = |key, sort_order, sort_target| RangeRequest {
        sort_order,
        sort_target,
        ..range_of(key, "")
    };
    assert_eq!(check::range(&sorted("", 9, 9)), Err(Refusal::EmptyKey));
    assert_eq!(
        check::range(&sorted("k", 3, 0)),
        Err(Refusal::InvalidSortOption)
    );
    assert_eq!(
        check::range(&sorted("k", 0, 5)),
        Err(Refusal::InvalidSortOption)
    );
    assert_eq!(check::range(&sorted("k", 2, 4)), Ok(()));
    assert_eq!(
        check::delete_range(&delete_of("", "\0")),
        Err(Refusal::EmptyKey)
    );

    let ttl = |ttl| check::lease_grant(&LeaseGrantRequest { ttl, id: 0 });
    assert_eq!(ttl(check::MAX_LEASE_TTL_SECS), Ok(()));
    assert_eq!(
        ttl(check::MAX_LEASE_TTL_SECS + 1),
        Err(Refusal::LeaseTtlTooLarge)
    );
    assert_eq!(ttl(-1), Ok(()));
}

#[test]
fn a_nested_transaction_gets_what_the_longest_list_leaves() {
    let nested = |outer: usize, inner: usize| {
        let ops: Vec<_> = puts(outer)
            .into_iter()
            .chain([op(then(
                (0..inner)
                    .map(|key| op(put_of(&format!("n{key}"), "")))
                    .collect::<Vec<_>>(),
            ))])
            .collect();
        check::txn(&then(ops), 128)
    };
    assert_eq!(check::txn(&then(puts(128)), 128), Ok(()));
    assert_eq!(check::txn(&then(puts(129)), 128), Err(Refusal::TooManyOps));
    assert_eq!(
        check::txn(&if_then_else(vec![Compare::default(); 129], [], []), 128),
        Err(Refusal::TooManyOps)
    );
    assert_eq!(nested(63, 64), Ok(()));
    assert_eq!(nested(63, 65), Err(Refusal::TooManyOps));
    assert_eq!(nested(126, 1), Ok(()));
    assert_eq!(nested(127, 0), Ok(()));
    assert_eq!(nested(127, 1), Err(Refusal::TooManyOps));
}

#[test]
fn deep_nesting_is_refused_and_does_not_exhaust_the_stack() {
    let mut request = then([]);
    for _ in 0..127 {
        request = then([op(request)]);
    }
    assert_eq!(check::txn(&request, 128), Ok(()));
    for _ in 0..3000 {
        request = then([op(request)]);
    }
    assert_eq!(check::txn(&request, 128), Err(Refusal::TooManyOps));
}

#[test]
fn an_error_of_one_operation_comes_before_duplicates() {
    let twice = [op(put_of("k", "")), op(put_of("k", ""))];
    let cases = [
        (
            if_then_else([compare_nothing("")], twice.clone(), []),
            Refusal::EmptyKey,
        ),
        (
            if_then_else([], twice.clone(), [RequestOp { request: None }]),
            Refusal::KeyNotFound,
        ),
        (
            if_then_else([], twice.clone(), [op(then([op(range_of("", ""))]))]),
            Refusal::EmptyKey,
        ),
        (
            if_then_else([compare_nothing("k")], twice, []),
            Refusal::DuplicateKey,
        ),
    ];
    for (request, refusal) in cases {
        assert_eq!(check::txn(&request, 128), Err(refusal), "{request:?}");
    }
}

fn compare_nothing(key: &str) -> Compare {
    Compare {
        key: bytes(key),
        ..Default::default()
    }
}

#[test]
fn a_key_is_written_once_whatever_the_nesting() {
    let put = |key| op(put_of(key, ""));
    let delete = |key, end| op(delete_of(key, end));
    let cases: [(&str, Vec<RequestOp>, bool); 17] = [
        ("two keys", vec![put("a"), put("b")], true),
        (
            "two puts of a key",
            vec![put("a"), put("b"), put("a")],
            false,
        ),
        (
            "a put that a later deletion covers",
            vec![put("b"), delete("a", "c")],
            false,
        ),
        (
            "a put before the range",
            vec![delete("b", "c"), put("a")],
            true,
        ),
        (
            "a put at the range's end",
            vec![delete("a", "c"), put("c")],
            true,
        ),
        (
            "a put of the deleted key",
            vec![delete("a", ""), put("a")],
            false,
        ),
        (
            "a put behind the deleted key",
            vec![delete("a", ""), put("a\0")],
            true,
        ),
        (
            "ranges that overlap",
            vec![delete("a", "c"), delete("b", "d"), put("d")],
            true,
        ),
        (
            "a put in the joined range",
            vec![delete("a", "c"), delete("b", "d"), put("cc")],
            false,
        ),
        ("an empty range", vec![delete("c", "a"), put("b")], true),
        (
            "a range without end, as etcd has it",
            vec![delete("a", "\0"), put("b")],
            true,
        ),
        (
            "a nested put of the same key",
            vec![put("a"), op(then([put("a")]))],
            false,
        ),
        (
            "a nested put in the deletion",
            vec![delete("a", "c"), op(then([put("b")]))],
            false,
        ),
        (
            "a nested deletion over the put",
            vec![put("b"), op(then([delete("a", "c")]))],
            false,
        ),
        (
            "siblings that put the same key",
            vec![op(then([put("a")])), op(then([put("a")]))],
            false,
        ),
        (
            "branches that put the same key",
            vec![op(if_then_else([], [put("a")], [put("a")]))],
            true,
        ),
        (
            "a sibling that deletes later",
            vec![op(then([put("a")])), op(then([delete("a", "")]))],
            true,
        ),
    ];
    for (what, ops, allowed) in cases {
        let expected = if allowed {
            Ok(())
        } else {
            Err(Refusal::DuplicateKey)
        };
        assert_eq!(check::txn(&then(ops.clone()), 128), expected, "{what}");
        assert_eq!(
            check::txn(&if_then_else([], [], ops), 128),
            expected,
            "{what}, in the other branch"
        );
    }
    assert_eq!(
        check::txn(
            &if_then_else([], [put("a")], [put("a"), delete("b", "")]),
            128
        ),
        Ok(())
    );
}
