//! Sets of seeds, as the test command runs them. What they print is not captured: the seeds, what they went through, and for one
//! that fails the command that runs it again.

use std::process::{Command, ExitStatus};

const SIMULATION: &str = env!("CARGO_BIN_EXE_keystead-simulation");

fn simulate(arguments: &[&str]) -> ExitStatus {
    let status = Command::new(SIMULATION).args(arguments).status();
    status.expect("the simulation is built with its tests")
}

#[test]
fn a_seed_run_twice_is_the_same_run() {
    for seed in ["3", "4"] {
        let run = || {
            let output = Command::new(SIMULATION).args(["--seed", seed]).output();
            String::from_utf8(output.expect("it is built").stdout).expect("it prints text")
        };
        let first = run();
        assert!(first.contains(" trace="), "{first}");
        assert_eq!(run(), first);
    }
}

/// What tests/seeded demands to be red with a bug in it.
#[test]
fn a_few_seeds_keep_the_rules() {
    assert!(simulate(&["--fixed", "8", "--fresh", "0", "--stop"]).success());
}

#[test]
fn fifty_fixed_seeds_and_some_fresh_ones_keep_the_rules_and_go_through_everything() {
    let fresh = match std::env::var_os("KEYSTEAD_TEST_LONG") {
        Some(_) => "1000",
        None => "10",
    };
    assert!(simulate(&["--fixed", "50", "--fresh", fresh]).success());
}
