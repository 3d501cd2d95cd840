//! Users, passwords and tokens, on real etcd: Keystead has no authentication yet.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use keystead_client::{
    Client, ConnectOptions, Credentials, KeyRange, Kind, Notice, Outcome, Watch,
};
use keystead_tests::{Kind as Program, Server, oracle};

use tokio::time::timeout;

use super::client;

/// A client of alice, who may read and write below `a/`.
fn alice(address: SocketAddr, password: &str) -> Client {
    Client::lazy(ConnectOptions {
        credentials: Some(Credentials::new("alice", password)),
        ..ConnectOptions::new([format!("http://{address}")])
    })
    .expect("an address is an endpoint")
}

fn etcdctl(address: SocketAddr, words: &str) {
    let etcdctl = oracle("etcdctl").expect("it is built with etcd");
    let done = Command::new(etcdctl)
        .args(["--endpoints", &address.to_string()])
        .args(words.split(' '))
        .output()
        .expect("etcdctl runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "etcdctl {words}: {said}");
}

/// An etcd with the users root and alice; its authentication is not on yet.
async fn etcd(arguments: &[&str]) -> Option<Server> {
    let server = Server::start(Program::Etcd, arguments, &[]).await?;
    for words in [
        "user add root:rootpw",
        "user add alice:alicepw",
        "role add writer",
        "role grant-permission writer readwrite a/ a0",
        "user grant-role root root",
        "user grant-role alice writer",
    ] {
        etcdctl(server.address(), words);
    }
    Some(server)
}

#[tokio::test]
async fn tokens_are_had_renewed_and_refused_as_etcd_does() {
    let Some(mut server) = etcd(&[]).await else {
        println!("skipped: there is no etcd");
        return;
    };
    let address = server.address();
    let alice = alice(address, "alicepw");
    alice
        .put("a/before", "v")
        .await
        .expect("nobody asks who it is");
    etcdctl(address, "auth enable");
    // The client learns now that a token is wanted.
    alice.put("a/k", "1").await.expect("she may");
    let error = alice.put("b/k", "1").await.expect_err("she may not");
    assert_eq!(
        (error.kind, error.outcome),
        (Kind::PermissionDenied, Outcome::NotApplied)
    );
    let nobody = client(&server)
        .put("a/k", "2")
        .await
        .expect_err("who is it?");
    assert_eq!(
        (nobody.kind, nobody.outcome),
        (Kind::Unauthenticated, Outcome::NotApplied)
    );
    let wrong = self::alice(address, "guess").put("a/k", "2").await;
    let wrong = wrong.expect_err("the password is wrong");
    assert_eq!(
        (wrong.kind, wrong.outcome),
        (Kind::Unauthenticated, Outcome::NotApplied)
    );
    let watch = Watch::new(KeyRange::prefix("a/"));
    // A client of its own, so that nobody else gets its token anew.
    let watching = self::alice(address, "alicepw");
    let watcher = watching.watch(watch).await.expect("she may");
    // etcd forgets its tokens when it restarts.
    server.kill();
    server.launch();
    let deadline = Duration::from_secs(60);
    let read = alice
        .with_deadline(deadline)
        .get("a/k")
        .await
        .expect("another token");
    assert_eq!(read.expect("it is there").value, "1");
    alice.put("a/k", "3").await.expect("she may");
    // The watch has gone on over it, with another token.
    let seen = timeout(deadline, async {
        loop {
            let notice = watcher.next().await.expect("it goes on");
            match notice.expect("nobody cancelled it") {
                Notice::Events { events, .. } => return events,
                _ => continue,
            }
        }
    });
    let seen = format!("{:?}", seen.await.expect("the put is seen"));
    assert!(seen.contains("b\"3\""), "{seen}");
}

#[tokio::test]
async fn a_role_that_changes_makes_no_call_fail() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let key = directory.path().join("key");
    std::fs::write(&key, "a secret that only this test has").expect("it can be written");
    let token = format!("jwt,sign-method=HS256,ttl=10m,priv-key={}", key.display());
    let Some(server) = etcd(&["--auth-token", &token]).await else {
        println!("skipped: there is no etcd");
        return;
    };
    let address = server.address();
    etcdctl(address, "auth enable");
    let alice = alice(address, "alicepw");
    for letter in ["b", "c", "d"] {
        alice.put("a/k", "v").await.expect("she may");
        let next = char::from(letter.as_bytes()[0] + 1);
        let grant = format!("role grant-permission writer readwrite {letter}/ {next}");
        // Every token of before is of an old revision now.
        etcdctl(address, &format!("--user root:rootpw {grant}"));
        alice.get("a/k").await.expect("she may");
        alice
            .put(format!("{letter}/k"), "v")
            .await
            .expect("she may now");
    }
}
