//! Alarms and what they refuse; the quota.

use keystead_proto::etcdserverpb::AlarmType;
use keystead_proto::etcdserverpb::alarm_request::AlarmAction::{Activate, Deactivate, Get};
use keystead_state::{AlarmChange, quota};

use crate::machine::Machine;
use crate::records::*;

#[test]
fn alarms_are_raised_once_listed_and_disarmed() {
    let mut machine = Machine::new();
    machine.script([
        (alarm(Deactivate, 1, AlarmType::Nospace), "@1"),
        (alarm(Activate, 1, AlarmType::None), "@1"),
        (alarm(Activate, 1, AlarmType::Nospace), "@1 Nospace of 1"),
        (alarm(Activate, 1, AlarmType::Nospace), "@1 Nospace of 1"),
        (alarm(Activate, 2, AlarmType::Corrupt), "@1 Corrupt of 2"),
        (
            alarm(Get, 0, AlarmType::None),
            "@1 Nospace of 1 Corrupt of 2",
        ),
        (alarm(Get, 0, AlarmType::Corrupt), "@1 Corrupt of 2"),
        (alarm(Deactivate, 1, AlarmType::Corrupt), "@1"),
        (alarm(Deactivate, 2, AlarmType::Corrupt), "@1 Corrupt of 2"),
    ]);
    let mut machine = machine.restart();
    assert_eq!(machine.reader.alarms().len(), 1);
    machine.script([(put("k", ""), "NoSpace")]);
}

#[test]
fn an_entry_tells_which_alarms_changed() {
    let mut machine = Machine::new();
    let change = |member_id, alarm: AlarmType, raised| AlarmChange {
        member_id,
        alarm: alarm.into(),
        raised,
    };
    let (space, corrupt) = (AlarmType::Nospace, AlarmType::Corrupt);
    let raised = machine.entry(&[alarm(Activate, 1, space), alarm(Activate, 0, corrupt)]);
    assert_eq!(
        raised.alarm_changes,
        [change(1, space, true), change(0, corrupt, true)]
    );
    let same = machine.entry(&[
        alarm(Activate, 1, space),
        alarm(Deactivate, 2, space),
        alarm(Get, 0, AlarmType::None),
    ]);
    assert_eq!(same.alarm_changes, []);
    let disarmed = machine.entry(&[alarm(Deactivate, 1, space)]);
    assert_eq!(disarmed.alarm_changes, [change(1, space, false)]);
}

#[test]
fn without_space_only_what_grows_is_refused() {
    let mut machine = Machine::new();
    let read = txn(&if_then_else([], [op(range_of("k", ""))], []));
    let nested = if_then_else([], [op(put_of("n", ""))], []);
    machine.script([
        (put("k", ""), "@2"),
        (put("l", ""), "@3"),
        (grant(1, 10), "@3 ~1 10s"),
        (alarm(Activate, 1, AlarmType::Nospace), "@3 Nospace of 1"),
        (put("k", ""), "NoSpace"),
        (grant(2, 10), "NoSpace"),
        (txn(&if_then_else([], [], [op(put_of("k", ""))])), "NoSpace"),
        (txn(&if_then_else([], [op(nested)], [])), "NoSpace"),
        (read, "@3 then {@3 #1 k=[2.2.1]}"),
        (
            txn(&if_then_else([], [op(delete_of("k", ""))], [])),
            "@4 then {@4 -1}",
        ),
        (delete("l", ""), "@5 -1"),
        (revoke(1), "@5"),
        (compact(5), "@5"),
        (alarm(Deactivate, 1, AlarmType::Nospace), "@5 Nospace of 1"),
        (put("k", ""), "@6"),
    ]);
}

#[test]
fn a_corrupt_cluster_changes_nothing_but_its_alarms() {
    let mut machine = Machine::new();
    machine.script([
        (put("k", ""), "@2"),
        (grant(1, 10), "@2 ~1 10s"),
        (alarm(Activate, 1, AlarmType::Nospace), "@2 Nospace of 1"),
        (alarm(Activate, 1, AlarmType::Corrupt), "@2 Corrupt of 1"),
        (put("k", ""), "Corrupt"),
        (delete("k", ""), "Corrupt"),
        (
            txn(&if_then_else([], [op(delete_of("k", ""))], [])),
            "Corrupt",
        ),
        (compact(2), "Corrupt"),
        (grant(2, 10), "Corrupt"),
        (revoke(1), "Corrupt"),
        (alarm(Deactivate, 1, AlarmType::Corrupt), "@2 Corrupt of 1"),
        (put("k", ""), "NoSpace"),
        (delete("k", ""), "@3 -1"),
    ]);
    assert_eq!(machine.range(&range_of("k", "")), "@3 #0");
}

#[test]
fn costs_are_counted_from_the_request() {
    let two = if_then_else(
        [],
        [op(put_of("k", "abc")), op(put_of("l", ""))],
        [op(put_of("k", "abcdef"))],
    );
    assert_eq!(quota::put_cost(&put_of("k", "abc")), 260);
    assert_eq!(quota::txn_cost(&two), 260 + 257);
    assert_eq!(quota::txn_cost(&if_then_else([], [op(two)], [])), 517);
    assert_eq!(
        quota::txn_cost(&if_then_else(
            [],
            [op(delete_of("a", ""))],
            [op(range_of("a", ""))]
        )),
        0
    );
}

#[test]
fn what_does_not_fit_is_over_quota() {
    let tiny = Machine::with_quota(1 << 20);
    assert!(tiny.reader.over_quota(2 << 20));
    assert!(!tiny.reader.over_quota(0));
    assert!(!tiny.reader.over_quota(260));
    assert!(!Machine::with_quota(-1).reader.over_quota(u64::MAX));
    assert_eq!(
        Machine::with_quota(0).reader.quota(),
        Some(quota::DEFAULT_BYTES)
    );
}
