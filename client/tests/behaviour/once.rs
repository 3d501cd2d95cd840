//! Transactions that run once, against a member that runs them, and loses requests, answers, and the time in between: a copy may come
//! when its transaction has long been answered by another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use keystead_client::{Compare, Op, Put, Txn};
use keystead_proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use keystead_proto::etcdserverpb::request_op::Request;
use keystead_proto::etcdserverpb::response_op::Response;
use keystead_proto::etcdserverpb::{
    LeaseGrantResponse, PutResponse, RangeResponse, ResponseHeader, ResponseOp, TxnRequest,
    TxnResponse,
};
use keystead_proto::mvccpb::KeyValue;

use crate::member::{Call, Member, Reply, say};

const SEEDS: u64 = 6;
const TRANSACTIONS: usize = 16;
/// None takes longer, however many of its answers are lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store as far as such transactions need one.
#[derive(Default)]
struct Store {
    revision: i64,
    keys: BTreeMap<Bytes, KeyValue>,
    /// Requests whose sender hears no more of them, and which have yet to arrive.
    late: Vec<TxnRequest>,
}

impl Store {
    fn run(&mut self, txn: &TxnRequest) -> TxnResponse {
        self.revision += 1;
        self.branch(txn)
    }

    fn branch(&mut self, txn: &TxnRequest) -> TxnResponse {
        let succeeded = txn.compare.iter().all(|compare| {
            let stored = self.keys.get(&compare.key);
            match (&compare.target_union, compare.result()) {
                (Some(TargetUnion::CreateRevision(0)), CompareResult::Equal) => stored.is_none(),
                (Some(TargetUnion::CreateRevision(0)), CompareResult::Greater) => stored.is_some(),
                (Some(TargetUnion::Value(value)), CompareResult::Less) => {
                    stored.is_some_and(|kv| kv.value < *value)
                }
                other => panic!("nobody compares like this: {other:?}"),
            }
        });
        let ops = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let responses = ops.iter().map(|op| ResponseOp {
            response: op.request.as_ref().map(|request| self.op(request)),
        });
        TxnResponse {
            responses: responses.collect(),
            header: self.header(),
            succeeded,
        }
    }

    fn op(&mut self, request: &Request) -> Response {
        match request {
            Request::RequestPut(put) => {
                let revision = self.revision;
                let kv = self.keys.entry(put.key.clone()).or_insert(KeyValue {
                    key: put.key.clone(),
                    create_revision: revision,
                    ..Default::default()
                });
                kv.value = put.value.clone();
                kv.mod_revision = revision;
                kv.version += 1;
                Response::ResponsePut(PutResponse {
                    header: self.header(),
                    prev_kv: None,
                })
            }
            Request::RequestRange(range) => Response::ResponseRange(RangeResponse {
                kvs: self.keys.get(&range.key).cloned().into_iter().collect(),
                ..Default::default()
            }),
            Request::RequestTxn(txn) => Response::ResponseTxn(self.branch(txn)),
            other => panic!("nobody asks for this: {other:?}"),
        }
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision: self.revision,
            ..Default::default()
        })
    }

    /// What becomes of one request: it, its answer, or both are lost, or neither.
    fn fate(&mut self, txn: TxnRequest, random: &mut fastrand::Rng) -> Reply {
        if !self.late.is_empty() && random.bool() {
            let late = self.late.swap_remove(random.usize(..self.late.len()));
            self.run(&late);
        }
        // For this the client does not leave the member, as it does for a reset.
        let lost = Reply::Fail(4, "context deadline exceeded");
        match random.u8(..16) {
            0 => Reply::Reset,
            1 => lost,
            2 | 3 => {
                self.late.push(txn);
                lost
            }
            4..7 => {
                self.run(&txn);
                lost
            }
            _ => say(&self.run(&txn)),
        }
    }
}

/// Writes a key of its own, whichever way it goes.
fn mark(number: usize) -> Txn {
    let put = Op::Put(Put::new(key(number), "ran"));
    let compare = match number % 2 {
        0 => Compare::missing("never"),
        _ => Compare::present("never"),
    };
    Txn::when([compare]).then([put.clone()]).otherwise([put])
}

fn key(number: usize) -> String {
    format!("mark/{number}")
}

#[tokio::test]
async fn each_runs_once_whichever_way_it_goes_and_whatever_becomes_of_its_copies() {
    join_all((0..SEEDS).map(run)).await;
}

async fn run(seed: u64) {
    let store = Arc::new(Mutex::new(Store::default()));
    let stored = store.clone();
    let random = Mutex::new(fastrand::Rng::with_seed(seed));
    let member = Member::start(move |call: &Call| match call.method.as_str() {
        "LeaseGrant" => say(&LeaseGrantResponse {
            id: 0x2a,
            ttl: 600,
            ..Default::default()
        }),
        "Txn" => {
            let mut random = random.lock().expect("no test panics there");
            let mut store = stored.lock().expect("no test panics there");
            store.fate(call.read(), &mut random)
        }
        _ => Reply::Silence,
    })
    .await;
    let client = member.client().with_deadline(PATIENCE);
    let runs = (0..TRANSACTIONS).map(|number| {
        let once = client.once(mark(number));
        async move { once.run().await }
    });
    let told = join_all(runs).await;
    let mut store = store.lock().expect("no test panics there");
    // Whatever is still on its way comes now.
    for late in std::mem::take(&mut store.late) {
        store.run(&late);
    }
    for (number, told) in told.into_iter().enumerate() {
        let told = told.expect("it is known in the end");
        let stored = &store.keys[key(number).as_bytes()];
        assert_eq!(
            (stored.version, stored.mod_revision, number % 2 == 0),
            (1, told.header.revision, told.succeeded),
            "seed {seed}, transaction {number}"
        );
    }
}
