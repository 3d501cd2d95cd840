//! etcd's own Go client and its concurrency package (tests/oracle/concurrency) against both servers, which the Go
//! program starts and restarts itself.

use std::process::Command;

use keystead_tests::{Kind, Server, oracle};

#[test]
fn gos_locks_elections_stm_and_watches_work_over_restarts() {
    let Some(program) = oracle("concurrency") else {
        println!("skipped: there is no Go to build the client with");
        return;
    };
    for kind in [Kind::Etcd, Kind::Keystead] {
        let server =
            Server::prepare(kind, &[], &[]).expect("where the client was built, etcd was too");
        let endpoint = format!("http://{}", server.address());
        let mut command = Command::new(&program);
        command
            .args(["--endpoint", &endpoint, "--"])
            .args(server.command_line());
        let output = command.output().expect("the Go program can be run");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let failures: Vec<&str> = log
            .lines()
            .filter(|line| line.starts_with("FAIL"))
            .collect();
        assert!(
            output.status.success(),
            "{kind:?}: {failures:?}\n{said}{}",
            &log[log.len().saturating_sub(3000)..]
        );
        println!("{kind:?}\n{said}");
    }
}
