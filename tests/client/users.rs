//! Users, roles and what they permit, administered by the client.

use keystead_client::{
    Access, Client, ConnectOptions, Credentials, KeyRange, Kind, Outcome, Permission,
};
use keystead_tests::Server;

use super::{client, on_each_with};

/// A client of `user`.
fn as_user(server: &Server, user: &str, password: &str) -> Client {
    Client::lazy(ConnectOptions {
        credentials: Some(Credentials::new(user, password)),
        ..ConnectOptions::new([format!("http://{}", server.address())])
    })
    .expect("an address is an endpoint")
}

fn may(access: Access, keys: KeyRange) -> Permission {
    Permission { access, keys }
}

/// Runs a test on servers that hash passwords cheaply.
async fn with_users(test: impl AsyncFn(&mut Server)) {
    on_each_with(&["--bcrypt-cost", "4"], test).await;
}

#[tokio::test]
async fn users_come_change_and_go() {
    with_users(async |server| {
        let client = client(server);
        client.add_user("alice", "first").await.expect("she is new");
        let certified = client.add_user_without_password("carol").await;
        certified.expect("she is new");
        let again = client.add_user("alice", "x").await.expect_err("she is not");
        assert_eq!(
            (again.kind, again.outcome, again.message.as_str()),
            (
                Kind::FailedPrecondition,
                Outcome::NotApplied,
                "etcdserver: user name already exists"
            )
        );
        let nameless = client.add_user("", "x").await.expect_err("it has no name");
        assert_eq!(nameless.message, "etcdserver: user name is empty");
        let users = client.users().await.expect("a list").users;
        assert_eq!(users, ["alice", "carol"]);

        client.add_role("reader").await.expect("it is new");
        client.add_role("writer").await.expect("it is new");
        for role in ["writer", "reader", "reader"] {
            client.grant_role("alice", role).await.expect("it is there");
        }
        let alice = client.user("alice").await.expect("she is there");
        assert_eq!(alice.roles, ["reader", "writer"]);
        let revoked = client.revoke_role("alice", "writer").await;
        revoked.expect("she has it");
        let twice = client.revoke_role("alice", "writer").await;
        assert_eq!(twice.expect_err("not now").kind, Kind::FailedPrecondition);
        let alice = client.user("alice").await.expect("she is there");
        assert_eq!(alice.roles, ["reader"]);
        client.delete_role("reader").await.expect("it is there");
        let alice = client.user("alice").await.expect("she is there");
        assert_eq!(alice.roles, [""; 0]);

        client.delete_user("carol").await.expect("she is there");
        assert_eq!(client.users().await.expect("a list").users, ["alice"]);
        for missing in [
            client.delete_user("carol").await.map(drop),
            client.user("carol").await.map(drop),
            client.change_password("carol", "x").await.map(drop),
            client.grant_role("carol", "writer").await.map(drop),
            client.grant_role("alice", "reader").await.map(drop),
            client.role("reader").await.map(drop),
            client.delete_role("reader").await.map(drop),
        ] {
            let error = missing.expect_err("there is none");
            assert_eq!(
                (error.kind, error.outcome),
                (Kind::NotFound, Outcome::NotApplied),
                "{error}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_role_permits_what_was_granted_range_by_range() {
    with_users(async |server| {
        // A namespace is the keys' own: permissions name whole keys.
        let client = client(server).namespace("elsewhere/");
        client.add_role("clerk").await.expect("it is new");
        let granted = [
            may(Access::ReadWrite, KeyRange::key("a")),
            may(Access::Read, KeyRange::prefix("b/")),
            may(Access::Write, KeyRange::between("c", "d")),
            may(Access::Read, KeyRange::from_key("x")),
        ];
        for permission in &granted {
            let done = client.grant_permission("clerk", permission.clone()).await;
            done.expect("the role is there");
        }
        let role = client.role("clerk").await.expect("it is there");
        assert_eq!(role.permissions, granted);
        assert_eq!(client.roles().await.expect("a list").roles, ["clerk"]);

        // The same range again is another right to it.
        let read = may(Access::Read, KeyRange::key("a"));
        let replaced = client.grant_permission("clerk", read.clone()).await;
        replaced.expect("the role is there");
        let gone = client.revoke_permission("clerk", KeyRange::from_key("x"));
        gone.await.expect("it was granted");
        let never = client.revoke_permission("clerk", KeyRange::prefix("x"));
        assert_eq!(
            never.await.expect_err("it was not").kind,
            Kind::FailedPrecondition
        );
        let role = client.role("clerk").await.expect("it is there");
        assert_eq!(role.permissions[0], read);
        assert_eq!(role.permissions[1..], granted[1..3]);
        let nothing = may(Access::Read, KeyRange::between("d", "c"));
        let error = client.grant_permission("clerk", nothing).await;
        assert_eq!(error.expect_err("no key").kind, Kind::InvalidArgument);
    })
    .await;
}

#[tokio::test]
async fn authentication_goes_on_and_off_under_clients() {
    with_users(async |server| {
        let anybody = client(server);
        let before = anybody.auth_status().await.expect("a status");
        assert!(!before.enabled);
        let error = anybody.enable_auth().await.expect_err("nobody is root");
        assert_eq!(error.kind, Kind::FailedPrecondition, "{error}");
        for name in ["root", "alice"] {
            anybody.add_user(name, "first").await.expect("it is new");
        }
        anybody.add_role("root").await.expect("it is new");
        anybody.add_role("clerk").await.expect("it is new");
        for (user, role) in [("root", "root"), ("alice", "clerk")] {
            anybody
                .grant_role(user, role)
                .await
                .expect("both are there");
        }
        let below = may(Access::ReadWrite, KeyRange::prefix("a/"));
        let granted = anybody.grant_permission("clerk", below).await;
        granted.expect("the role is there");
        anybody.enable_auth().await.expect("root is there");

        let root = as_user(server, "root", "first");
        root.enable_auth().await.expect("it is on already");
        let status = root.auth_status().await.expect("a status");
        assert!(status.enabled && status.auth_revision > before.auth_revision);
        let error = root.delete_user("root").await.expect_err("who would rule?");
        assert_eq!(error.kind, Kind::InvalidArgument, "{error}");

        let alice = as_user(server, "alice", "first");
        alice.put("a/k", "v").await.expect("she may");
        let error = alice.users().await.expect_err("she may not");
        assert_eq!(
            (error.kind, error.outcome),
            (Kind::PermissionDenied, Outcome::NotApplied)
        );
        let own = alice.user("alice").await.expect("she may");
        assert_eq!(own.roles, ["clerk"]);
        let changed = root.change_password("alice", "second").await;
        changed.expect("she is there");
        let stale = as_user(server, "alice", "first").get("a/k").await;
        assert_eq!(stale.expect_err("changed").kind, Kind::Unauthenticated);
        let alice = as_user(server, "alice", "second");
        alice.get("a/k").await.expect("it is the right one");

        root.disable_auth().await.expect("root may");
        anybody.put("b", "v").await.expect("nobody asks");
        assert!(!anybody.auth_status().await.expect("a status").enabled);
    })
    .await;
}
