//! What must end the process ends it, and says why: a child process, this test binary again, is the member.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};

use keystead_proto::internal::Record;

use super::{config, propose, start};

/// What the child is to die of; a process without it is a run of the tests.
const CAUSE: &str = "KEYSTEAD_TEST_ENDS_BY";
const SIGABRT: i32 = 6;

/// Runs the test `name` alone in a child that knows its cause.
fn child(name: &str, cause: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([&format!("tests::ending::{name}"), "--exact", "--nocapture"])
        .env(CAUSE, cause)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}

fn is_child() -> bool {
    let log = || tracing_subscriber::fmt().with_ansi(false).init();
    std::env::var_os(CAUSE).map(|_| log()).is_some()
}

#[test]
fn a_panic_on_any_thread_aborts_the_process_with_a_log_line() {
    if is_child() {
        crate::abort_on_panic();
        let caught = std::thread::spawn(|| panic!("of this test")).join();
        unreachable!("the process outlived the panic: {caught:?}");
    }
    let ended = child(
        "a_panic_on_any_thread_aborts_the_process_with_a_log_line",
        "panic",
    );
    assert_eq!(ended.status.signal(), Some(SIGABRT), "{ended:?}");
    let log = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(log.contains("a thread panicked"), "{log}");
    assert!(log.contains("of this test"), "{log}");
}

#[test]
fn an_entry_that_stops_the_core_exits_the_process_with_a_log_line() {
    if is_child() {
        let tmp = tempfile::tempdir().unwrap();
        let (consensus, _) = start(config(tmp.path()));
        let unknown = Record {
            kind: 99,
            ..Default::default()
        };
        propose(&consensus, vec![unknown]);
        std::thread::sleep(std::time::Duration::from_secs(20));
        unreachable!("the process outlived its core");
    }
    let ended = child(
        "an_entry_that_stops_the_core_exits_the_process_with_a_log_line",
        "core",
    );
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let log = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(log.contains("this member can not go on"), "{log}");
    assert!(log.contains("unknown kind 99"), "{log}");
}
