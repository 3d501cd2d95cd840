//! Tokens: had, shared, and had anew for whatever reason a server refuses one, streams included.

use std::net::SocketAddr;
use std::time::Duration;

use keystead_client::{
    Access, Client, ConnectOptions, Credentials, KeyRange, Kind, Notice, Outcome, Permission,
    Watch, Watcher,
};
use keystead_tests::Server;
use tokio::time::timeout;

use super::{client, eventually, on_each_with};

/// Nothing that must come may take longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// A client of `user`.
fn as_user(address: SocketAddr, user: &str, password: &str) -> Client {
    Client::lazy(ConnectOptions {
        credentials: Some(Credentials::new(user, password)),
        ..ConnectOptions::new([format!("http://{address}")])
    })
    .expect("an address is an endpoint")
}

/// A client of alice, who may read and write below `a/`.
fn alice(address: SocketAddr, password: &str) -> Client {
    as_user(address, "alice", password)
}

async fn permit(root: &Client, prefix: &'static str) {
    let permission = Permission {
        access: Access::ReadWrite,
        keys: KeyRange::prefix(prefix),
    };
    let granted = root.grant_permission("writer", permission).await;
    granted.expect("the role is there");
}

/// Adds the users root and alice; authentication is not on yet.
async fn add_users(server: &Server) {
    let anybody = client(server);
    for (name, password) in [("root", "rootpw"), ("alice", "alicepw")] {
        let added = anybody.add_user(name, password).await;
        added.expect("the user is new");
    }
    anybody.add_role("writer").await.expect("it is new");
    permit(&anybody, "a/").await;
    for (user, role) in [("root", "root"), ("alice", "writer")] {
        let granted = anybody.grant_role(user, role).await;
        granted.expect("both are there");
    }
}

/// The value of the next put that a watcher sees.
async fn next_put(watcher: &Watcher) -> String {
    let seen = timeout(DEADLINE, async {
        loop {
            let notice = watcher.next().await.expect("it goes on");
            match notice.expect("nobody cancelled it") {
                Notice::Events { events, .. } => return events,
                _ => continue,
            }
        }
    });
    format!("{:?}", seen.await.expect("the put is seen"))
}

#[tokio::test]
async fn tokens_are_had_renewed_and_refused() {
    on_each_with(&["--bcrypt-cost", "4"], async |server| {
        add_users(server).await;
        let address = server.address();
        let alice = alice(address, "alicepw");
        alice
            .put("a/before", "v")
            .await
            .expect("nobody asks who it is");
        let enabled = client(server).enable_auth().await;
        enabled.expect("root is there");
        // The client learns now that a token is wanted.
        alice.put("a/k", "1").await.expect("she may");
        let error = alice.put("b/k", "1").await.expect_err("she may not");
        assert_eq!(
            (error.kind, error.outcome),
            (Kind::PermissionDenied, Outcome::NotApplied)
        );
        let nobody = client(server)
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
        // A server may forget its tokens when it restarts.
        server.kill();
        server.launch();
        let read = alice
            .with_deadline(DEADLINE)
            .get("a/k")
            .await
            .expect("another token");
        assert_eq!(read.expect("it is there").value, "1");
        alice.put("a/k", "3").await.expect("she may");
        // The watch has gone on over it, with another token.
        let seen = next_put(&watcher).await;
        assert!(seen.contains("b\"3\""), "{seen}");
    })
    .await;
}

#[tokio::test]
async fn a_password_that_was_changed_back_is_a_token_lost_and_no_more() {
    on_each_with(&["--bcrypt-cost", "4"], async |server| {
        add_users(server).await;
        let enabled = client(server).enable_auth().await;
        enabled.expect("root is there");
        let address = server.address();
        let root = as_user(address, "root", "rootpw");
        let alice = alice(address, "alicepw");
        alice.put("a/k", "1").await.expect("she may");
        let lease = alice
            .grant(Duration::from_secs(60))
            .await
            .expect("granted")
            .lease;
        // Every token of hers is dropped.
        let changed = root.change_password("alice", "alicepw").await;
        changed.expect("she is there");
        let kept = alice.keep_alive_once(lease).await;
        assert_eq!(kept.expect("another token"), Duration::from_secs(60));
        let changed = root.change_password("alice", "alicepw").await;
        changed.expect("she is there");
        let watch = Watch::new(KeyRange::prefix("a/"));
        let watcher = alice.watch(watch).await.expect("another token");
        alice.put("a/k", "2").await.expect("she may");
        let seen = next_put(&watcher).await;
        assert!(seen.contains("b\"2\""), "{seen}");
    })
    .await;
}

#[tokio::test]
async fn a_role_that_changes_makes_no_call_fail() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let key = directory.path().join("key");
    std::fs::write(&key, "a secret that only this test has").expect("it can be written");
    let token = format!("jwt,sign-method=HS256,ttl=10m,priv-key={}", key.display());
    let arguments = ["--bcrypt-cost", "4", "--auth-token", &token];
    on_each_with(&arguments, async |server| {
        add_users(server).await;
        let enabled = client(server).enable_auth().await;
        enabled.expect("root is there");
        let address = server.address();
        let root = as_user(address, "root", "rootpw");
        let alice = alice(address, "alicepw");
        let watch = Watch::new(KeyRange::prefix("a/k"));
        let watcher = alice.watch(watch).await.expect("she may");
        let session = alice.session(Duration::from_secs(9)).await;
        let session = session.expect("any user may");
        session.put_ephemeral("a/here", "v").await.expect("she may");
        for prefix in ["b/", "c/", "d/"] {
            alice.put("a/k", prefix).await.expect("she may");
            let seen = next_put(&watcher).await;
            assert!(seen.contains(prefix), "{seen}");
            // Every token of before is of an old revision now.
            permit(&root, prefix).await;
            alice.get("a/k").await.expect("she may");
            let key = format!("{prefix}k");
            alice.put(key, "v").await.expect("she may now");
        }
        // A renewal goes through: only that gives it more time.
        let mut last = session.remaining();
        eventually("a renewal", async || {
            let before = std::mem::replace(&mut last, session.remaining());
            (last > before).then_some(())
        })
        .await;
        let here = alice.get("a/here").await.expect("she may");
        assert_eq!(here.expect("the session lives").value, "v");
        session.close().await.expect("she may");
    })
    .await;
}
