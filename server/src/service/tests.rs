//! A whole member, asked over its port: what the services answer once consensus, state and store stand behind them.

mod calls;
mod discovery;
mod election;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod port;
mod start;
mod watch;

use std::net::SocketAddr;

use keystead_proto::etcdserverpb::{
    PutRequest, PutResponse, RangeRequest, RequestOp, ResponseHeader, request_op::Request,
};
use tempfile::TempDir;

use crate::config::{ListenAddress, Storage};
use crate::testing::Client;
use crate::{Config, Node, StartError};

const MEMBER: u64 = 0x8e9e_05c5_2164_694d;
const CLUSTER: u64 = 0xcdf8_1819_4e3a_8c32;

/// A member on a directory of its own.
struct Running {
    node: Option<Node>,
    dir: TempDir,
}

impl Running {
    fn start() -> Self {
        Self::start_with(|_| {})
    }

    fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = config(&dir);
        change(&mut config);
        Self {
            node: Some(start(config).expect("the member starts")),
            dir,
        }
    }

    fn address(&self) -> SocketAddr {
        let node = self.node.as_ref().expect("it runs");
        let ListenAddress::Tcp(address) = node.client_addresses()[0] else {
            panic!("it listens on a port")
        };
        address
    }

    async fn client(&self) -> Client {
        Client::connect(self.address()).await
    }

    fn restart(&mut self) {
        self.stop();
        self.node = Some(start(config(&self.dir)).expect("the member starts again"));
    }

    fn stop(&mut self) {
        if let Some(node) = self.node.take() {
            std::thread::spawn(|| node.shutdown())
                .join()
                .expect("it stops without a panic");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts a member on a thread of its own: it blocks, as stopping does, and these tests run on a runtime.
fn start(config: Config) -> Result<Node, StartError> {
    std::thread::spawn(|| Node::start(config, tokio::sync::watch::channel(false).1))
        .join()
        .expect("it starts without a panic")
}

fn config(dir: &TempDir) -> Config {
    Config {
        data_dir: dir.path().join("data"),
        listen_client: vec![ListenAddress::Tcp(([127, 0, 0, 1], 0).into())],
        listen_peer: vec![ListenAddress::Tcp(([127, 0, 0, 1], 0).into())],
        shards: 2,
        storage: Storage {
            wal_segment_bytes: 4 << 20,
            unflushed_limit_bytes: 4 << 20,
            ..Storage::default()
        },
        ..Config::default()
    }
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        ..RangeRequest::default()
    }
}

fn everything() -> RangeRequest {
    RangeRequest {
        range_end: "\0".into(),
        ..get("\0")
    }
}

fn put_op(key: String) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestPut(put(&key, ""))),
    }
}

async fn do_put(client: &Client, key: &str, value: &str) -> PutResponse {
    client
        .unary("/etcdserverpb.KV/Put", &put(key, value))
        .await
        .expect("the put is taken")
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: CLUSTER,
        member_id: MEMBER,
        revision,
        raft_term: 1,
    })
}
