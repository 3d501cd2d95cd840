//! etcd's own Go client and its concurrency package (tests/oracle/concurrency) against both servers, which the Go
//! program starts and restarts itself.

use std::process::Command;

use keystead_tests::{Kind, Server, oracle};

#[test]
fn gos_locks_elections_stm_and_watches_work_over_restarts() {
    for kind in [Kind::Etcd, Kind::Keystead] {
        let Some(server) = Server::prepare(kind, &[], &[]) else {
            continue;
        };
        check(&server, &format!("http://{}", server.address()));
    }
}

#[test]
fn they_work_through_a_socket_file_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("unix://{}", directory.path().join("etcd:2379").display());
    let arguments = ["--listen-client-urls", &url];
    let server =
        Server::prepare(Kind::Keystead, &arguments, &[]).expect("only etcd may be missing");
    check(&server, &url);
}

/// Runs the Go program, which starts `server` and connects to `endpoint`.
fn check(server: &Server, endpoint: &str) {
    let Some(program) = oracle("concurrency") else {
        println!("skipped: there is no Go to build the client with");
        return;
    };
    let mut command = Command::new(&program);
    command
        .args(["--endpoint", endpoint, "--"])
        .args(server.command_line());
    let output = command.output().expect("the Go program can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let failures: Vec<&str> = log
        .lines()
        .filter(|line| line.starts_with("FAIL"))
        .collect();
    let kind = server.kind();
    assert!(
        output.status.success(),
        "{kind:?}: {failures:?}\n{said}{}",
        &log[log.len().saturating_sub(3000)..]
    );
    println!("{kind:?}\n{said}");
}
