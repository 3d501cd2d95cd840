//! Range outside of transactions.

use keystead_proto::etcdserverpb::RangeRequest;
use keystead_proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use crate::machine::Machine;
use crate::records::*;

/// a: version 3, value "z", created first; b: version 1, value "y"; c: version 2, value "x", written last.
fn three_keys() -> Machine {
    let mut machine = Machine::new();
    machine.script([
        (put("a", "1"), "@2"),
        (put("c", "1"), "@3"),
        (put("a", "2"), "@4"),
        (put("b", "y"), "@5"),
        (put("a", "z"), "@6"),
        (put("c", "x"), "@7"),
    ]);
    machine
}

#[track_caller]
fn check<const N: usize>(cases: [(RangeRequest, &str); N]) {
    let machine = three_keys();
    for (request, expected) in cases {
        let shown = machine.range(&request);
        let keys: String = shown
            .split(' ')
            .filter(|word| word.contains('['))
            .filter_map(|word| word.split('=').next())
            .collect();
        let frame: Vec<_> = shown
            .split(' ')
            .filter(|word| !word.contains('['))
            .collect();
        assert_eq!(
            format!("{keys} {}", frame.join(" ")),
            expected,
            "{request:?}"
        );
    }
}

fn all() -> RangeRequest {
    range_of("a", "\0")
}

#[test]
fn ends_follow_etcds_convention() {
    check([
        (range_of("a", ""), "a @7 #1"),
        (range_of("x", ""), " @7 #0"),
        (range_of("a", "c"), "ab @7 #2"),
        (range_of("b", "\0"), "bc @7 #2"),
        (range_of("\0", "\0"), "abc @7 #3"),
        (range_of("b", "b"), " @7 #0"),
        (range_of("c", "a"), " @7 #0"),
    ]);
}

#[test]
fn the_limit_cuts_and_the_count_does_not_know_it() {
    check([
        (RangeRequest { limit: 2, ..all() }, "ab @7 #3 more"),
        (RangeRequest { limit: 3, ..all() }, "abc @7 #3"),
        (RangeRequest { limit: -1, ..all() }, "abc @7 #3"),
        (
            RangeRequest {
                limit: 1,
                count_only: true,
                ..all()
            },
            " @7 #3",
        ),
        (
            RangeRequest {
                min_mod_revision: 6,
                count_only: true,
                ..all()
            },
            " @7 #3",
        ),
    ]);
}

#[test]
fn revisions_reach_from_the_compacted_one_to_the_current_one() {
    let mut machine = three_keys();
    machine.script([(compact(4), "@7")]);
    for (revision, expected) in [
        (-5, "@7 #1 a=z[2.6.3]"),
        (0, "@7 #1 a=z[2.6.3]"),
        (3, "Compacted"),
        (4, "@7 #1 a=2[2.4.2]"),
        (5, "@7 #1 a=2[2.4.2]"),
        (7, "@7 #1 a=z[2.6.3]"),
        (8, "FutureRevision"),
    ] {
        assert_eq!(
            machine.range(&RangeRequest {
                revision,
                ..range_of("a", "")
            }),
            expected,
            "{revision}"
        );
    }
}

#[test]
fn sorting_takes_the_whole_range_when_an_order_is_given() {
    let by = |target: SortTarget, order: SortOrder, limit| RangeRequest {
        sort_target: target.into(),
        sort_order: order.into(),
        limit,
        ..all()
    };
    check([
        (by(SortTarget::Key, SortOrder::Ascend, 2), "ab @7 #3 more"),
        (by(SortTarget::Key, SortOrder::Descend, 2), "cb @7 #3 more"),
        (by(SortTarget::Version, SortOrder::Ascend, 0), "bca @7 #3"),
        (
            by(SortTarget::Version, SortOrder::Descend, 1),
            "a @7 #3 more",
        ),
        (by(SortTarget::Create, SortOrder::Descend, 0), "bca @7 #3"),
        (by(SortTarget::Mod, SortOrder::Ascend, 0), "bac @7 #3"),
        (by(SortTarget::Value, SortOrder::Ascend, 0), "cba @7 #3"),
        (
            by(SortTarget::Value, SortOrder::Descend, 2),
            "ab @7 #3 more",
        ),
    ]);
}

#[test]
fn a_target_without_an_order_sorts_only_the_first_keys_and_one_more() {
    let by = |target: SortTarget, limit| RangeRequest {
        sort_target: target.into(),
        limit,
        ..all()
    };
    check([
        (by(SortTarget::Value, 0), "cba @7 #3"),
        (by(SortTarget::Value, 1), "b @7 #3 more"),
        (by(SortTarget::Value, 2), "cb @7 #3 more"),
        (by(SortTarget::Key, 1), "a @7 #3 more"),
    ]);
}

#[test]
fn filters_come_before_the_limit_and_leave_the_count() {
    check([
        (
            RangeRequest {
                min_mod_revision: 6,
                ..all()
            },
            "ac @7 #3",
        ),
        (
            RangeRequest {
                max_mod_revision: 6,
                ..all()
            },
            "ab @7 #3",
        ),
        (
            RangeRequest {
                min_create_revision: 3,
                ..all()
            },
            "bc @7 #3",
        ),
        (
            RangeRequest {
                max_create_revision: 3,
                limit: 1,
                ..all()
            },
            "a @7 #3 more",
        ),
        (
            RangeRequest {
                max_create_revision: 3,
                limit: 2,
                ..all()
            },
            "ac @7 #3",
        ),
        (
            RangeRequest {
                min_mod_revision: 7,
                max_create_revision: 2,
                ..all()
            },
            " @7 #3",
        ),
    ]);
}

#[test]
fn keys_only_leaves_everything_but_the_value() {
    let machine = three_keys();
    let request = RangeRequest {
        keys_only: true,
        sort_target: SortTarget::Value.into(),
        ..all()
    };
    assert_eq!(
        machine.range(&request),
        "@7 #3 c=[3.7.2] b=[5.5.1] a=[2.6.3]"
    );
}
