//! The Rust client on whole members: each test runs on Keystead and, where it can be built, on real etcd, and demands the same
//! of both. One file a part of the client. `relay` stands between a client and a member and cuts or swallows what passes.

mod auth;
mod cache;
mod deadline;
mod election;
mod endpoints;
mod faults;
mod go;
mod kill;
mod kv;
mod leftovers;
mod life;
mod lock;
mod lock_oracle;
mod maintenance;
mod namespace;
mod once;
mod pause;
mod recipes;
mod registry;
mod relay;
mod scan;
mod session;
mod stm;
mod telemetry;
mod tls;
mod txn;
mod unix;
mod users;
mod watch;

use std::net::SocketAddr;
use std::time::Duration;

use keystead_client::{Client, ConnectOptions, KeyRange, Range};
use keystead_tests::{Kind, Server, eventually};

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What every test runs on.
const SERVERS: [Kind; 2] = [Kind::Keystead, Kind::Etcd];

/// Runs a test on a fresh server of each kind, at the same time. Says so where there is no etcd.
async fn on_each(test: impl AsyncFn(&mut Server)) {
    on_each_with(&[], test).await;
}

/// The same with more arguments for the servers.
async fn on_each_with(arguments: &[&str], test: impl AsyncFn(&mut Server)) {
    let run = async |kind| match Server::start(kind, arguments, &[]).await {
        Some(mut server) => test(&mut server).await,
        None => println!("skipped on {kind:?}: there is none"),
    };
    futures::future::join_all(SERVERS.map(run)).await;
}

/// A client of one server.
fn client(server: &Server) -> Client {
    client_of([server.address()])
}

/// A client of several addresses.
fn client_of<const N: usize>(addresses: [SocketAddr; N]) -> Client {
    let endpoints = addresses.map(|address| format!("http://{address}"));
    Client::lazy(ConnectOptions::new(endpoints)).expect("addresses are endpoints")
}

/// How many keys begin with `prefix`.
async fn keys_below(client: &Client, prefix: &'static str) -> i64 {
    let count = Range {
        count_only: true,
        ..Range::new(KeyRange::prefix(prefix))
    };
    client.range(count).await.expect("a read").count
}

/// Reads a counter and writes it back, blindly: only who is alone does not lose one.
async fn increment(client: &Client, key: &'static str) {
    let now = number(client, key).await;
    client
        .put(key, (now + 1).to_string())
        .await
        .expect("a write");
}

/// The number that a key holds.
async fn number(client: &Client, key: &'static str) -> u64 {
    let kv = client.get(key).await.expect("a read");
    kv.map_or(0, |kv| {
        String::from_utf8_lossy(&kv.value)
            .parse()
            .expect("a number")
    })
}
