//! The unary workloads: what each client asks for next, and what it keeps of the answer.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use clap::ValueEnum;
use keystead_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keystead_proto::etcdserverpb::request_op::Request as Operation;
use keystead_proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
};
use prost::Message;

use crate::wire::{Rpc, frame};

/// Keys of a `list` page.
const PAGE_KEYS: i64 = 500;
/// Of ten operations of `mixed`, this many read.
const MIXED_READS_OF_TEN: u64 = 8;
/// Everything that the generator writes lies below this prefix; its last byte plus one ends the range.
const PREFIX: &[u8] = b"bench/";
const PREFIX_END: &[u8] = b"bench0";

/// What a client does, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Puts of random keys.
    Put,
    /// Puts of every key once, in order: fills a store.
    Load,
    /// Linearizable reads of one random key.
    Range,
    /// Serializable reads of one random key.
    RangeSerializable,
    /// A compare of the key's revision, and a put when it holds.
    Cas,
    /// Eight linearizable reads to two puts.
    Mixed,
    /// A page of 500 keys from a random start.
    List,
    /// The first key of the whole range (and so its count).
    LimitOne,
    /// The count of the whole range.
    Count,
}

impl Workload {
    /// The name by which the command line and the report know it.
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// The sizes that all clients of a run share.
#[derive(Clone)]
pub struct Shape {
    pub keys: u64,
    pub value: Bytes,
}

/// The three RPCs that unary workloads use.
pub struct Rpcs {
    put: Rpc,
    range: Rpc,
    txn: Rpc,
}

impl Rpcs {
    pub fn new(server: SocketAddr) -> Result<Rpcs> {
        Ok(Rpcs {
            put: Rpc::new(server, "/etcdserverpb.KV/Put")?,
            range: Rpc::new(server, "/etcdserverpb.KV/Range")?,
            txn: Rpc::new(server, "/etcdserverpb.KV/Txn")?,
        })
    }
}

/// One client's state.
pub struct Caller {
    workload: Workload,
    shape: Shape,
    random: u64,
    /// `load`: the next key; `cas`: the client's own key.
    position: u64,
    stride: u64,
    /// `cas`: the revision that the key was last seen at.
    revision: i64,
}

impl Caller {
    /// Client `index` of `clients`.
    pub fn new(workload: Workload, shape: Shape, index: usize, clients: usize) -> Caller {
        let seed = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Caller {
            workload,
            shape,
            random: seed,
            position: index as u64,
            stride: clients as u64,
            revision: 0,
        }
    }

    /// The next call. `load` gives `None` when its share of the keys is written.
    pub fn request<'a>(&mut self, rpcs: &'a Rpcs) -> Option<(&'a Rpc, Bytes)> {
        Some(match self.workload {
            Workload::Put => (&rpcs.put, self.put_random()),
            Workload::Load => {
                let position = self.position;
                if position >= self.shape.keys {
                    return None;
                }
                self.position += self.stride;
                (&rpcs.put, self.put(key(position)))
            }
            Workload::Range => (&rpcs.range, self.read_random(false)),
            Workload::RangeSerializable => (&rpcs.range, self.read_random(true)),
            Workload::Cas => (&rpcs.txn, self.compare_and_put()),
            Workload::Mixed => {
                if self.random() % 10 < MIXED_READS_OF_TEN {
                    (&rpcs.range, self.read_random(false))
                } else {
                    (&rpcs.put, self.put_random())
                }
            }
            Workload::List => (&rpcs.range, self.page()),
            Workload::LimitOne => (
                &rpcs.range,
                whole(RangeRequest {
                    limit: 1,
                    ..Default::default()
                }),
            ),
            Workload::Count => (
                &rpcs.range,
                whole(RangeRequest {
                    count_only: true,
                    ..Default::default()
                }),
            ),
        })
    }

    /// Takes in the answer to the last request.
    pub fn answered(&mut self, answer: Bytes) {
        if self.workload != Workload::Cas {
            return;
        }
        if let Ok(answer) = TxnResponse::decode(answer) {
            // A failed compare means that an earlier run left the key: go on from the revision it has.
            self.revision = if answer.succeeded {
                revision(&answer)
            } else {
                found(answer)
            };
        }
    }

    fn put_random(&mut self) -> Bytes {
        let key = self.random_key();
        self.put(key)
    }

    fn put(&self, key: Bytes) -> Bytes {
        frame(&PutRequest {
            key,
            value: self.shape.value.clone(),
            ..Default::default()
        })
    }

    fn read_random(&mut self, serializable: bool) -> Bytes {
        frame(&RangeRequest {
            key: self.random_key(),
            serializable,
            ..Default::default()
        })
    }

    fn page(&mut self) -> Bytes {
        let last_start = self.shape.keys.saturating_sub(PAGE_KEYS as u64).max(1);
        let start = key(self.random() % last_start);
        whole(RangeRequest {
            key: start,
            limit: PAGE_KEYS,
            ..Default::default()
        })
    }

    fn compare_and_put(&self) -> Bytes {
        let key = key(self.position);
        let compare = Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Mod as i32,
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(self.revision)),
            ..Default::default()
        };
        let put = PutRequest {
            key: key.clone(),
            value: self.shape.value.clone(),
            ..Default::default()
        };
        let read = RangeRequest {
            key,
            ..Default::default()
        };
        frame(&TxnRequest {
            compare: vec![compare],
            success: vec![RequestOp {
                request: Some(Operation::RequestPut(put)),
            }],
            failure: vec![RequestOp {
                request: Some(Operation::RequestRange(read)),
            }],
        })
    }

    fn random_key(&mut self) -> Bytes {
        let position = self.random() % self.shape.keys;
        key(position)
    }

    /// xorshift64*: enough to spread keys, and free.
    fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }
}

/// The key at a position: 18 bytes, in the order of the positions.
pub fn key(position: u64) -> Bytes {
    let mut key = *b"bench/000000000000";
    let mut rest = position;
    for digit in key[PREFIX.len()..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    Bytes::copy_from_slice(&key)
}

fn whole(request: RangeRequest) -> Bytes {
    let start = if request.key.is_empty() {
        Bytes::from_static(PREFIX)
    } else {
        request.key.clone()
    };
    frame(&RangeRequest {
        key: start,
        range_end: Bytes::from_static(PREFIX_END),
        ..request
    })
}

fn revision(answer: &TxnResponse) -> i64 {
    answer.header.as_ref().map_or(0, |header| header.revision)
}

/// The mod revision in the read that the failed branch made.
fn found(answer: TxnResponse) -> i64 {
    use keystead_proto::etcdserverpb::response_op::Response;
    match answer
        .responses
        .into_iter()
        .next()
        .and_then(|operation| operation.response)
    {
        Some(Response::ResponseRange(range)) => range.kvs.first().map_or(0, |kv| kv.mod_revision),
        _ => 0,
    }
}
