//! What the state refuses those who have no right to it, while authentication is enabled.

use std::collections::BTreeSet;

use keystead_proto::authpb::Permission;
use keystead_proto::authpb::permission::Type;
use keystead_proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use keystead_proto::etcdserverpb::{DeleteRangeRequest, PutRequest};
use keystead_proto::internal::{Record, RecordKind};
use keystead_state::{Caller, Refusal};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::auth_records::*;
use crate::machine::Machine;
use crate::records::*;

/// The revision of users and roles in [`guarded`].
const REVISION: u64 = 11;

fn ann(record: Record) -> Record {
    by("ann", REVISION, record)
}

fn put_prev(key: &str) -> PutRequest {
    PutRequest {
        prev_kv: true,
        ..put_of(key, "v")
    }
}

fn delete_prev(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        prev_kv: true,
        ..delete_of(key, end)
    }
}

#[test]
fn a_write_needs_the_right_to_write_and_what_it_gives_back_the_right_to_read() {
    let mut machine = guarded();
    let denied = "PermissionDenied";
    machine.script([
        (ann(put("a", "v")), "@2"),
        (ann(put("c", "v")), denied),
        (ann(put("x", "v")), "@3"),
        (ann(record(RecordKind::Put, &put_prev("b"))), "@4"),
        (ann(record(RecordKind::Put, &put_prev("x"))), denied),
        (ann(delete("a", "c")), "@5 -2"),
        (ann(delete("a", "c\0")), denied),
        (ann(delete("b", "\0")), denied),
        (ann(delete("x", "\0")), "@6 -1"),
        (
            ann(record(RecordKind::DeleteRange, &delete_prev("a", "c"))),
            "@6 -0",
        ),
        (
            ann(record(RecordKind::DeleteRange, &delete_prev("x", "\0"))),
            denied,
        ),
        (by("root", REVISION, put("c", "v")), "@7"),
    ]);
}

#[test]
fn a_transaction_needs_every_right_that_any_path_through_it_takes() {
    let mut machine = guarded();
    let holds = |key, end| compare(key, end, CompareResult::Greater, TargetUnion::Version(-1));
    let nested = |op| if_then_else([], [crate::records::op(if_then_else([], [], [op]))], []);
    let allowed = [
        if_then_else(
            [holds("d", "")],
            [op(range_of("a", "e"))],
            [op(put_of("x", "v"))],
        ),
        nested(op(delete_of("x", "\0"))),
        nested(op(put_prev("a"))),
        if_then_else([], [], []),
    ];
    let denied = [
        if_then_else([holds("x", "")], [], []),
        if_then_else([holds("a", "e\0")], [], []),
        if_then_else([], [op(range_of("a", "\0"))], []),
        if_then_else([], [], [op(range_of("x", ""))]),
        if_then_else([], [], [op(put_of("c", "v"))]),
        if_then_else([], [], [op(put_prev("x"))]),
        if_then_else([], [], [op(delete_of("a", "d"))]),
        if_then_else([], [], [op(delete_prev("x", "\0"))]),
        nested(op(put_of("d", "v"))),
        nested(op(put_prev("x"))),
        nested(op(delete_of("d", ""))),
        nested(op(delete_prev("x", ""))),
        nested(op(range_of("x", ""))),
        nested(op(if_then_else([holds("x", "")], [], []))),
    ];
    let caller = Caller {
        user: "ann",
        auth_revision: REVISION,
    };
    for (request, outcome) in allowed.iter().map(|request| (request, Ok(()))).chain(
        denied
            .iter()
            .map(|request| (request, Err(Refusal::PermissionDenied))),
    ) {
        let applied = machine.apply(ann(txn(request))).map(|_| ());
        assert_eq!(applied, outcome, "{request:?}");
        assert_eq!(
            machine.reader.permit_txn(caller, request),
            outcome,
            "{request:?}"
        );
        let root = machine.apply(by("root", REVISION, txn(request)));
        assert!(root.is_ok(), "{request:?}");
    }
}

#[test]
fn whoever_attaches_a_key_to_a_lease_or_revokes_it_must_be_able_to_write_all_its_keys() {
    let mut machine = guarded();
    let leased = |key, lease| put_leased(key, "v", lease);
    machine.entry(&[grant(1, 10), grant(2, 10), grant(3, 10), grant(4, 10)]);
    machine.entry(&[
        by("root", REVISION, leased("d", 1)),
        by("root", REVISION, leased("a", 1)),
        by("root", REVISION, leased("x", 2)),
    ]);
    let denied = "PermissionDenied";
    let nested = if_then_else([], [], [op(leased_of("a", 1))]);
    machine.script([
        (ann(leased("a", 1)), denied),
        (ann(txn(&nested)), denied),
        (ann(leased("a", 2)), "@5"),
        (ann(leased("b", 9)), "LeaseNotFound"),
        (ann(revoke(1)), denied),
        (ann(revoke(2)), "@6"),
        // Nobody's keys.
        (by("", 0, revoke(3)), "@6"),
        (ann(revoke(9)), "LeaseNotFound"),
    ]);
    let caller = |user, auth_revision| Caller {
        user,
        auth_revision,
    };
    let reader = &machine.reader;
    assert_eq!(reader.permit_lease_read(caller("ann", REVISION), 1), Ok(()));
    for (who, refusal) in [
        (caller("ann", REVISION), Refusal::PermissionDenied),
        (caller("ann", 1), Refusal::OldAuthRevision),
        (Caller::NOBODY, Refusal::UserNameEmpty),
    ] {
        assert_eq!(reader.permit_lease_write(who, 1), Err(refusal));
    }
    assert_eq!(reader.permit_lease_write(caller("root", 1), 1), Ok(()));
    assert_eq!(reader.permit_lease_read(Caller::NOBODY, 4), Ok(()));
    machine.script([
        (by("", 0, revoke(1)), "UserNameEmpty"),
        (own(revoke(1)), "@7"),
    ]);
}

#[test]
fn a_request_permitted_under_users_and_roles_that_have_changed_is_refused() {
    let mut machine = guarded();
    machine.script([
        (by("", 0, put("a", "v")), "UserNameEmpty"),
        (by("ann", 0, put("a", "v")), "UserNameEmpty"),
        (by("ann", REVISION - 1, put("a", "v")), "OldAuthRevision"),
        (by("none", REVISION - 1, put("a", "v")), "OldAuthRevision"),
        (by("none", REVISION, put("a", "v")), "PermissionDenied"),
        (by("root", REVISION - 1, put("a", "v")), "OldAuthRevision"),
        (by("ann", REVISION + 1, put("a", "v")), "@2"),
        (by("root", REVISION, role_add("r")), "@2"),
        (ann(put("a", "v")), "OldAuthRevision"),
        (by("", 0, compact(2)), "@2"),
        (by("", 0, grant(1, 10)), "@2 ~1 10s"),
        (own(put("a", "v")), "@3"),
        (by("root", REVISION, disable()), "@3"),
        (by("", 0, put("a", "v")), "@4"),
        (ann(put("z", "v")), "@5"),
    ]);
}

#[test]
fn an_alarm_is_told_before_a_lack_of_permission() {
    use keystead_proto::etcdserverpb::AlarmType::Nospace;
    use keystead_proto::etcdserverpb::alarm_request::AlarmAction::Activate;
    let mut machine = guarded();
    machine.entry(&[alarm(Activate, 1, Nospace)]);
    machine.script([
        (by("", 0, put("a", "v")), "NoSpace"),
        (by("", 0, delete("a", "")), "UserNameEmpty"),
    ]);
}

#[test]
fn records_of_one_entry_are_held_against_what_those_before_have_changed() {
    let mut machine = guarded();
    let root = |record| by("root", REVISION, record);
    let applied = machine.entry(&[
        ann(put("a", "v")),
        root(revoke_permission("team", "a", "c")),
        ann(put("a", "v")),
        by("ann", REVISION + 1, put("a", "v")),
        root(disable()),
        by("", 0, put("a", "v")),
    ]);
    let shown: Vec<_> = applied.outcomes.iter().map(show).collect();
    let expected = [
        "@2",
        "@2",
        "OldAuthRevision",
        "PermissionDenied",
        "@2",
        "@3",
    ];
    assert_eq!(shown, expected);
}

/// The keys that matter: no two that have none of these between them are told apart by any range with such ends.
fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["\0", "a", "a\0", "b", "ba", "c", "c\0", "d"]).prop_map(Into::into)
}

fn end() -> impl Strategy<Value = String> {
    prop_oneof![1 => Just(String::new()), 1 => Just("\0".to_owned()), 3 => key()]
}

fn a_permission() -> impl Strategy<Value = Permission> {
    let right = prop::sample::select(vec![Type::Read, Type::Write, Type::Readwrite]);
    let valid = |permission: &Permission| {
        let (key, end) = (&permission.key, &permission.range_end);
        end.is_empty() || key < end || end == "\0"
    };
    (right, key(), end())
        .prop_map(|(right, key, end)| permission(right, &key, &end))
        .prop_filter("a range without keys", valid)
}

/// Whether a key lies in a range, by etcd's convention.
fn within(probe: &[u8], key: &[u8], end: &[u8]) -> bool {
    match end {
        b"" => probe == key,
        b"\0" => probe >= key,
        _ => key <= probe && probe < end,
    }
}

/// The model: a range is permitted when each of its keys is by one permission or another. Between two neighbours of the
/// bounds that occur, and their successors, all keys are alike.
fn permitted(permissions: &[Permission], right: Type, key: &str, end: &str) -> bool {
    let bounds = permissions
        .iter()
        .flat_map(|permission| [&permission.key[..], &permission.range_end[..]])
        .chain([key.as_bytes(), end.as_bytes()]);
    let probes: BTreeSet<Vec<u8>> = bounds
        .flat_map(|bound| [bound.to_vec(), [bound, b"\0"].concat()])
        .collect();
    let mut asked = probes
        .iter()
        .filter(|probe| within(probe, key.as_bytes(), end.as_bytes()))
        .peekable();
    let allowed = |probe: &[u8]| {
        permissions.iter().any(|permission| {
            let kind = permission.perm_type();
            (kind == right || kind == Type::Readwrite)
                && within(probe, &permission.key, &permission.range_end)
        })
    };
    if asked.peek().is_none() {
        return allowed(key.as_bytes());
    }
    asked.all(|probe| allowed(probe))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_range_is_permitted_when_each_of_its_keys_is(
        roles in vec(vec(a_permission(), 0..4), 1..4),
        asked in vec((key(), end()), 1..24),
    ) {
        let mut machine = Machine::new();
        let mut records = vec![user_add("root"), grant_role("root", "root"), user_add("u")];
        for (at, permissions) in roles.iter().enumerate() {
            let name = format!("role{at}");
            records.push(role_add(&name));
            // Some roles are granted before they permit something, some afterwards.
            let granted = grant_role("u", &name);
            let early = at % 2 == 0;
            records.extend(early.then(|| granted.clone()));
            for permission in permissions {
                let (key, end) = (&permission.key, &permission.range_end);
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                records.push(grant_permission(&name, permission.perm_type(), &text(key), &text(end)));
            }
            records.extend((!early).then_some(granted));
        }
        records.push(enable());
        machine.entry(&records);
        let machine = machine.restart();
        let auth = machine.reader.auth();
        let caller = Caller { user: "u", auth_revision: auth.revision() };
        // The same range granted again to the same role replaces the right.
        let mut granted = Vec::new();
        for at in 0..roles.len() {
            granted.extend(auth.permissions_of("u", &format!("role{at}")).expect("its own"));
        }
        for (key, end) in asked {
            let (from, to) = (key.as_bytes(), end.as_bytes());
            for (right, answer) in [
                (Type::Read, auth.permit_read(caller, from, to)),
                (Type::Write, auth.permit_write(caller, from, to)),
            ] {
                let expected = permitted(&granted, right, &key, &end);
                prop_assert_eq!(answer.is_ok(), expected, "{:?} {:?} {:?}", right, key, end);
            }
        }
    }
}
