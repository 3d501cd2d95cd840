//! Users and roles: who there is, what a change counts, and what it is refused for.

use keystead_proto::authpb::permission::Type;
use keystead_proto::internal::Record;
use keystead_state::{AuthChange, Caller, CutFacts, Refusal};

use crate::auth_records::*;
use crate::machine::Machine;
use crate::records::*;

/// What everybody may know who manages users: each with its roles, then each role with its permissions.
fn everything(machine: &Machine) -> String {
    let auth = machine.reader.auth();
    let users = auth.list_users("root").expect("root may");
    let users = users.iter().map(|user| {
        let roles = auth.roles_of("root", user).expect("there is the user");
        format!("{user}:{}", roles.join(","))
    });
    let roles = auth.list_roles("root").expect("root may");
    let roles = roles.iter().map(|role| {
        let permissions = auth.permissions_of("root", role).expect("there is");
        let permissions = permissions.iter().map(|permission| {
            let (key, end) = (&permission.key, &permission.range_end);
            let right = ["r", "w", "rw"][permission.perm_type as usize];
            format!("{right}{key:?}-{end:?}")
        });
        format!("[{role} {}]", permissions.collect::<Vec<_>>().join(" "))
    });
    let all: Vec<_> = users.chain(roles).collect();
    format!("{} {} {}", auth.revision(), auth.enabled(), all.join(" "))
}

#[test]
fn each_change_of_users_and_roles_counts_once_and_what_changes_nothing_does_not() {
    let mut machine = Machine::new();
    assert_eq!(machine.reader.auth().revision(), 1);
    let steps: [(Record, &str, u64); 30] = [
        (enable(), "RootUserMissing", 1),
        (user_add(""), "UserNameEmpty", 1),
        (user_add("root"), "@1", 2),
        (user_add("root"), "UserExists", 2),
        (enable(), "RootRoleMissing", 2),
        (grant_role("nobody", "nothing"), "UserNotFound", 2),
        (grant_role("root", "nothing"), "RoleNotFound", 2),
        (grant_role("root", "root"), "@1", 3),
        (grant_role("root", "root"), "@1", 3),
        (disable(), "@1", 3),
        (enable(), "@1", 3),
        (by("root", 3, enable()), "@1", 3),
        (by("root", 3, disable()), "@1", 4),
        (role_add(""), "RoleNameEmpty", 4),
        (role_add("r"), "@1", 5),
        (role_add("r"), "RoleExists", 5),
        (grant_nothing("none"), "PermissionNotGiven", 5),
        (
            grant_permission("none", Type::Read, "", ""),
            "InvalidAuthManagement",
            5,
        ),
        (
            grant_permission("none", Type::Read, "a", "b"),
            "RoleNotFound",
            5,
        ),
        (grant_permission("r", Type::Read, "a", "b"), "@1", 6),
        (grant_permission("r", Type::Read, "a", "b"), "@1", 7),
        (revoke_permission("none", "a", "b"), "RoleNotFound", 7),
        (revoke_permission("r", "a", ""), "PermissionNotGranted", 7),
        (revoke_permission("r", "a", "b"), "@1", 8),
        (revoke_role("none", "r"), "UserNotFound", 8),
        (revoke_role("root", "r"), "RoleNotGranted", 8),
        (grant_role("root", "r"), "@1", 9),
        (role_delete("none"), "RoleNotFound", 9),
        (role_delete("r"), "@1", 10),
        (change_password("root", HASH), "@1", 11),
    ];
    for (at, (record, expected, revision)) in steps.into_iter().enumerate() {
        assert_eq!(show(&machine.apply(record)), expected, "step {at}");
        assert_eq!(machine.reader.auth().revision(), revision, "step {at}");
    }
    assert_eq!(everything(&machine), "11 false root:root");
    machine.script([
        (change_password("none", HASH), "UserNotFound"),
        (user_delete("none"), "UserNotFound"),
        (user_delete("root"), "@1"),
    ]);
    assert_eq!(everything(&machine), "12 false ");
}

#[test]
fn a_permission_is_on_a_key_or_on_a_range_with_keys_in_it() {
    let mut machine = Machine::new();
    machine.script([
        (role_add("r"), "@1"),
        (
            grant_permission("r", Type::Read, "", "b"),
            "InvalidAuthManagement",
        ),
        (
            grant_permission("r", Type::Read, "b", "a"),
            "InvalidAuthManagement",
        ),
        (
            grant_permission("r", Type::Read, "b", "b"),
            "InvalidAuthManagement",
        ),
        (
            grant_permission("r", Type::Read, "b", "\0\0"),
            "InvalidAuthManagement",
        ),
        (grant_permission("r", Type::Write, "b", "c"), "@1"),
        (grant_permission("r", Type::Read, "b", ""), "@1"),
        (grant_permission("r", Type::Readwrite, "a", "\0"), "@1"),
        (grant_permission("r", Type::Readwrite, "\0", "\0"), "@1"),
        // The kind of the one on the same range, which is not the first on its key.
        (grant_permission("r", Type::Write, "b", ""), "@1"),
    ]);
    assert_eq!(
        everything(&machine),
        r#"7 false [r rwb"\0"-b"\0" rwb"a"-b"\0" wb"b"-b"c" wb"b"-b""]"#
    );
}

#[test]
fn a_deleted_role_is_taken_from_all_who_had_it() {
    let mut machine = guarded();
    assert_eq!(machine.reader.auth().revision(), 11);
    let read = |machine: &Machine, user, revision| {
        let caller = Caller {
            user,
            auth_revision: revision,
        };
        machine.reader.auth().permit_read(caller, b"a", b"")
    };
    assert_eq!(read(&machine, "ann", 11), Ok(()));
    machine.script([(by("root", 11, role_delete("team")), "@1")]);
    assert_eq!(everything(&machine), "12 true ann: bob: root:root");
    assert_eq!(read(&machine, "ann", 12), Err(Refusal::PermissionDenied));
    // A role of the same name gives them nothing.
    machine.script([
        (by("root", 12, role_add("team")), "@1"),
        (
            by("root", 12, grant_permission("team", Type::Read, "a", "")),
            "@1",
        ),
    ]);
    assert_eq!(read(&machine, "bob", 14), Err(Refusal::PermissionDenied));
}

#[test]
fn root_can_not_be_taken_away_while_authentication_is_enabled() {
    let mut machine = guarded();
    let taken = [
        user_delete("root"),
        role_delete("root"),
        revoke_role("root", "root"),
    ];
    for record in &taken {
        let outcome = machine.apply(by("root", 11, record.clone()));
        assert_eq!(outcome, Err(Refusal::InvalidAuthManagement));
    }
    machine.script([
        (by("root", 11, grant_role("ann", "root")), "@1"),
        (by("ann", 12, revoke_role("ann", "root")), "@1"),
        (by("root", 13, disable()), "@1"),
        (taken[1].clone(), "RoleNotFound"),
        (taken[2].clone(), "@1"),
        (taken[0].clone(), "@1"),
    ]);
}

#[test]
fn root_alone_manages_users_whatever_the_revision_it_was_looked_up_at() {
    let mut machine = guarded();
    let managed = [
        enable(),
        disable(),
        user_add("u"),
        user_delete("ann"),
        change_password("ann", HASH),
        grant_role("ann", "team"),
        revoke_role("ann", "team"),
        role_add("r"),
        role_delete("team"),
        grant_permission("team", Type::Read, "z", ""),
        revoke_permission("team", "a", "c"),
    ];
    let before = everything(&machine);
    for record in managed {
        for (user, revision, refusal) in [
            ("", 0, Refusal::UserNameEmpty),
            ("", 11, Refusal::UserNameEmpty),
            ("none", 11, Refusal::UserNotFound),
            ("ann", 11, Refusal::PermissionDenied),
            ("ann", 99, Refusal::PermissionDenied),
        ] {
            assert_eq!(
                machine.apply(by(user, revision, record.clone())),
                Err(refusal)
            );
        }
    }
    assert_eq!(everything(&machine), before);
    machine.script([
        (by("root", 1, user_add("u")), "@1"),
        (by("root", 0, user_delete("u")), "@1"),
        (own(role_add("r")), "@1"),
    ]);
}

#[test]
fn a_user_logs_in_while_authentication_is_enabled_and_gets_its_token() {
    let mut machine = Machine::new();
    machine.script([(log_in("root", "abc"), "AuthNotEnabled")]);
    let mut machine = guarded();
    machine.script([
        (log_in("none", "abc"), "AuthFailed"),
        (log_in("bob", "abc"), "AuthFailed"),
        (log_in("ann", ""), "@1 \"\""),
    ]);
    let applied = machine.entry(&[log_in("ann", "abc"), log_in("root", "xyz")]);
    let token = |prefix: &str| format!("{prefix}.{}", machine.position);
    let given = |user: &str, prefix| AuthChange::TokenGiven {
        user: user.into(),
        token: token(prefix),
    };
    assert_eq!(
        applied.auth_changes,
        [given("ann", "abc"), given("root", "xyz")]
    );
    assert_eq!(show(&applied.outcomes[1]), format!("@1 {:?}", token("xyz")));
}

#[test]
fn whoever_keeps_tokens_is_told_whose_hold_no_more() {
    let mut machine = guarded();
    let dropped = |user: &str| AuthChange::TokensDropped { user: user.into() };
    for (record, told) in [
        (enable(), None),
        (grant_role("ann", "root"), None),
        (revoke_role("ann", "team"), None),
        (change_password("ann", HASH), Some(dropped("ann"))),
        (change_password("none", HASH), None),
        (user_delete("ann"), Some(dropped("ann"))),
        (disable(), Some(AuthChange::Disabled)),
        (disable(), None),
        (enable(), Some(AuthChange::Enabled)),
    ] {
        let applied = machine.entry(&[by("root", 1, record)]);
        assert_eq!(applied.auth_changes, Vec::from_iter(told));
    }
}

#[test]
fn the_hash_of_a_password_is_for_logins_alone() {
    let mut machine = guarded();
    let hash = |machine: &Machine, user| machine.reader.auth().password_hash(user);
    assert_eq!(hash(&machine, "ann"), Ok(bytes("hash")));
    assert_eq!(hash(&machine, "none"), Err(Refusal::AuthFailed));
    assert_eq!(hash(&machine, "bob"), Err(Refusal::NoPasswordUser));
    machine.script([
        (
            by("root", 1, change_password("ann", "not base64")),
            "NoPasswordUser",
        ),
        (by("root", 1, change_password("ann", "b3RoZXI=")), "@1"),
        // It has none, and keeps having none.
        (by("root", 1, change_password("bob", HASH)), "@1"),
    ]);
    assert_eq!(hash(&machine, "ann"), Ok(bytes("other")));
    assert_eq!(hash(&machine, "bob"), Err(Refusal::NoPasswordUser));
    machine.script([(by("root", 1, disable()), "@1")]);
    assert_eq!(hash(&machine, "ann"), Err(Refusal::AuthNotEnabled));
}

#[test]
fn everybody_may_know_its_own_roles_and_root_all() {
    let machine = guarded();
    let auth = machine.reader.auth();
    let team = vec!["team".to_owned()];
    for who in ["root", "ann"] {
        assert_eq!(auth.roles_of(who, "ann"), Ok(team.clone()));
        let permissions = auth.permissions_of(who, "team").expect("its own role");
        assert_eq!(permissions.len(), 3);
    }
    assert_eq!(auth.roles_of("root", "none"), Err(Refusal::UserNotFound));
    assert_eq!(auth.roles_of("none", "none"), Err(Refusal::UserNotFound));
    assert_eq!(auth.roles_of("", "ann"), Err(Refusal::UserNameEmpty));
    assert_eq!(auth.roles_of("ann", "bob"), Err(Refusal::PermissionDenied));
    assert_eq!(auth.list_users("ann"), Err(Refusal::PermissionDenied));
    assert_eq!(auth.list_roles("ann"), Err(Refusal::PermissionDenied));
    assert_eq!(
        auth.permissions_of("ann", "root"),
        Err(Refusal::PermissionDenied)
    );
    // Granted, but never made.
    assert_eq!(
        auth.permissions_of("root", "root"),
        Err(Refusal::RoleNotFound)
    );
    let mut machine = machine;
    machine.script([(by("root", 1, role_add("root")), "@1")]);
    let permissions = machine.reader.auth().permissions_of("root", "root");
    assert_eq!(permissions, Ok(vec![permission(Type::Readwrite, "", "\0")]));
}

#[test]
fn a_name_too_long_for_a_table_is_refused() {
    let mut machine = Machine::new();
    let (long, longest) = ("n".repeat(511), "n".repeat(510));
    machine.script([
        (user_add(&long), "RequestTooLarge"),
        (role_add(&long), "RequestTooLarge"),
        (user_add(&longest), "@1"),
        (role_add(&longest), "@1"),
        (grant_role(&longest, &longest), "@1"),
    ]);
    let before = everything(&machine);
    assert_eq!(everything(&machine.restart()), before);
}

#[test]
fn a_restarted_member_has_the_same_users_and_roles() {
    let empty = Machine::new().restart();
    assert_eq!(everything(&empty), "1 false ");
    let machine = guarded();
    let before = machine.reader.auth();
    let mut machine = machine.restart();
    assert_eq!(machine.reader.auth(), before);
    assert!(machine.reader.auth_enabled());
    machine.script([(by("root", 1, disable()), "@1")]);
    let machine = machine.restart();
    assert!(!machine.reader.auth_enabled());
    assert_eq!(machine.reader.auth().revision(), 12);
}

#[test]
fn users_and_roles_are_no_part_of_the_keys() {
    let (mut machine, mut other) = (guarded(), Machine::new());
    machine.script([(by("ann", 11, put("a", "v")), "@2")]);
    other.script([(put("a", "v"), "@2")]);
    let hash = |machine: &Machine| machine.reader.store().hash_kv(0).expect("readable");
    assert_eq!(hash(&machine), hash(&other));
}

#[test]
fn a_store_that_is_installed_brings_its_users_and_roles() {
    let (mut source, mut target) = (guarded(), Machine::new());
    target.script([(user_add("gone"), "@1")]);
    source.flusher.flush(source.position).expect("flushes");
    let export = source.reader.store().export().expect("exports");
    let import = target.flusher.begin_import().expect("begins");
    let imported = import
        .finish(export.cut(), export.tables())
        .expect("finished");
    target.flusher.install(imported).expect("installed");
    let reader = target.reader.clone();
    target.state.reload(reader.store()).expect("reloaded");
    assert!(reader.auth_enabled());
    assert_eq!(reader.auth(), source.reader.auth());
    let facts = CutFacts::read(export.tables()).expect("sound");
    let names: Vec<_> = facts.users.iter().map(|user| user.name.clone()).collect();
    assert_eq!(names, ["ann", "bob", "root"]);
    let [team] = &facts.roles[..] else {
        panic!("{:?}", facts.roles);
    };
    assert_eq!(
        (&team.name[..], team.key_permission.len()),
        (&b"team"[..], 3)
    );
    assert_eq!((facts.auth_enabled, facts.auth_revision), (true, 11));
}
