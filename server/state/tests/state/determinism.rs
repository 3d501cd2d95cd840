//! The same log gives the same answers and the same bytes, wherever entries are flushed and members restart.

use proptest::prelude::*;

use crate::machine::Machine;
use crate::programs::{Program, programs};

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
}
