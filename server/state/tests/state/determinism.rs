//! The same log gives the same answers and the same bytes, wherever entries are flushed and members restart.

use keystead_proto::authpb::permission::Type;
use keystead_proto::internal::Record;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::auth_records::*;
use crate::machine::Machine;
use crate::programs::{Program, programs};
use crate::records::put;

/// What a member says of its state: everything that others would compare.
fn bytes_of(machine: &mut Machine) -> String {
    machine.flusher.flush(machine.position).expect("flushes");
    let store = machine.reader.store();
    format!(
        "{} {:?}",
        store.hash().expect("the store is readable"),
        store.hash_kv(0).expect("the store is readable")
    )
}

fn apply(machine: &mut Machine, program: &Program) -> Vec<String> {
    let applied = program
        .iter()
        .map(|(entry, _)| format!("{:?}", machine.entry(entry)));
    applied.collect()
}

/// A record that manages users and roles, or writes, asked for by a user as of one revision or another.
fn a_guarded_record() -> impl Strategy<Value = Record> {
    let name = || prop::sample::select(vec!["root", "u", "v"]);
    let key = || prop::sample::select(vec!["a", "b", "c"]);
    let right = prop::sample::select(vec![Type::Read, Type::Write, Type::Readwrite]);
    let managed = prop_oneof![
        2 => Just(enable()),
        1 => Just(disable()),
        2 => name().prop_map(|user| log_in(user, "token")),
        4 => name().prop_map(user_add),
        1 => name().prop_map(user_without_password),
        1 => name().prop_map(user_delete),
        1 => name().prop_map(|user| change_password(user, HASH)),
        4 => (name(), name()).prop_map(|(user, role)| grant_role(user, role)),
        1 => (name(), name()).prop_map(|(user, role)| revoke_role(user, role)),
        4 => name().prop_map(role_add),
        1 => name().prop_map(role_delete),
        6 => (name(), right, key()).prop_map(|(role, right, key)| {
            grant_permission(role, right, key, "d")
        }),
        2 => (name(), key()).prop_map(|(role, key)| revoke_permission(role, key, "d")),
        8 => key().prop_map(|key| put(key, "v")),
    ];
    let asker = prop_oneof![4 => Just("root"), 1 => Just(""), 2 => Just("u"), 1 => Just("v")];
    let revision = prop_oneof![1 => 0..20u64, 3 => Just(1000)];
    (asker, revision, managed).prop_map(|(user, revision, record)| by(user, revision, record))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_same_log_gives_the_same_bytes(programs in programs()) {
        let (mut steady, mut restarted) = (Machine::new(), Machine::new());
        for program in programs {
            prop_assert_eq!(apply(&mut steady, &program), apply(&mut restarted, &program));
            restarted = restarted.restart();
            prop_assert_eq!(bytes_of(&mut steady), bytes_of(&mut restarted));
        }
    }
    #[test]
    fn the_same_log_gives_the_same_users_and_roles(parts in vec(vec(a_guarded_record(), 1..24), 1..4)) {
        let (mut steady, mut restarted) = (Machine::new(), Machine::new());
        for records in parts {
            let (one, other) = (steady.entry(&records), restarted.entry(&records));
            prop_assert_eq!(one.outcomes, other.outcomes);
            prop_assert_eq!(one.auth_changes, other.auth_changes);
            restarted = restarted.restart();
            prop_assert_eq!(steady.reader.auth(), restarted.reader.auth());
            prop_assert_eq!(steady.reader.auth_enabled(), restarted.reader.auth_enabled());
            prop_assert_eq!(bytes_of(&mut steady), bytes_of(&mut restarted));
        }
    }
}
