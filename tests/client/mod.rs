//! The Rust client on whole members: each test runs on Keystead and, where it can be built, on real etcd, and demands the same
//! of both. One file a part of the client. `relay` stands between a client and a member and cuts or swallows what passes.

mod deadline;
mod endpoints;
mod kill;
mod kv;
mod namespace;
mod relay;
mod scan;
mod txn;

use std::net::SocketAddr;

use keystead_client::{Client, ConnectOptions};
use keystead_tests::{Kind, Server};

/// What every test runs on.
const SERVERS: [Kind; 2] = [Kind::Keystead, Kind::Etcd];

/// Runs a test on a fresh server of each kind, at the same time. Says so where there is no etcd.
async fn on_each(test: impl AsyncFn(&mut Server)) {
    let run = async |kind| match Server::start(kind, &[], &[]).await {
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
