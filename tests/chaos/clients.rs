//! Clients that write, swap, remove and read a few keys through all members, and write down what they asked and were told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use keystead_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keystead_proto::etcdserverpb::request_op::Request as AnyRequest;
use keystead_proto::etcdserverpb::response_op::Response as AnyResponse;
use keystead_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, LeaseRevokeRequest, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest,
};
use keystead_tests::{Random, Unary};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::history::{Answer, Ending, Found, Op, Operation, Request};
use super::sights::Sights;

/// How many there are.
pub const CLIENTS: usize = 12;
/// Few, so that clients get into each other's way.
const KEYS: u64 = 5;
const FIRST_KEY: &str = "k/";
/// Ends the range of all of them.
const END_KEY: &str = "k0";
/// A client waits so long for an answer. What comes later is of unknown outcome.
pub const ANSWER_LIMIT: Duration = Duration::from_millis(1200);
/// Enough that a member which misses some hundred writes is behind the log that the others keep, and that what it is sent
/// then takes more than one message.
const VALUE_BYTES: usize = 3000;
/// Between two operations of one client.
const MOST_PAUSE_MILLIS: u64 = 24;

/// All clients of a run, at work until they are stopped.
pub struct Clients {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<Operation>>>,
}

impl Clients {
    /// Begins; `clock` is the beginning of all times.
    pub fn start(
        channels: &[Channel],
        clock: Instant,
        random: &mut Random,
        sights: &Arc<Sights>,
    ) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |number: usize| {
            let client = Client {
                number,
                tag: random.bits(),
                channels: channels.to_vec(),
                member: number % channels.len(),
                clock,
                random: Random::new(random.bits()),
                known: HashMap::new(),
                done: Vec::new(),
                sights: sights.clone(),
            };
            tokio::spawn(client.work(stop.clone()))
        };
        let tasks = (0..CLIENTS).map(client).collect();
        Clients { stop, tasks }
    }

    /// Lets every client finish what it waits for; gives all that was written down.
    pub async fn finish(self) -> Vec<Operation> {
        self.stop.store(true, Relaxed);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.expect("a client does not panic"));
        }
        all
    }
}

struct Client {
    number: usize,
    /// Makes its values its own.
    tag: u64,
    channels: Vec<Channel>,
    member: usize,
    clock: Instant,
    random: Random,
    /// The last revision of each key that it has seen, 0 for one that was not there.
    known: HashMap<Bytes, i64>,
    done: Vec<Operation>,
    sights: Arc<Sights>,
}

impl Client {
    async fn work(mut self, stop: Arc<AtomicBool>) -> Vec<Operation> {
        while !stop.load(Relaxed) {
            let request = self.choose();
            let called = self.now();
            let ending = self.ask(&request).await;
            self.learn(&request, &ending);
            self.done.push(Operation {
                client: self.number,
                member: self.member,
                called,
                returned: self.now(),
                request,
                ending,
            });
            sleep(Duration::from_millis(self.random.below(MOST_PAUSE_MILLIS))).await;
        }
        self.done
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn choose(&mut self) -> Request {
        let key: Bytes = format!("{FIRST_KEY}{}", self.random.below(KEYS)).into();
        let alone = || Bytes::new();
        let end = || Bytes::from(END_KEY);
        match self.random.below(100) {
            0..30 => Request::Alone(self.put(key, 'p')),
            30..50 => self.swap(key),
            50..58 => Request::Alone(Op::Delete {
                key,
                range_end: alone(),
            }),
            58..60 => Request::Alone(Op::Delete {
                key,
                range_end: end(),
            }),
            60..80 => Request::Alone(Op::Get {
                key,
                range_end: alone(),
            }),
            80..90 => Request::Alone(Op::Get {
                key: FIRST_KEY.into(),
                range_end: end(),
            }),
            _ => Request::Serializable(Op::Get {
                key: FIRST_KEY.into(),
                range_end: end(),
            }),
        }
    }

    fn put(&self, key: Bytes, kind: char) -> Op {
        let unique = format!("{:016x}-{}-{kind}", self.tag, self.done.len());
        let value = format!("{unique:-<VALUE_BYTES$}");
        Op::Put {
            key,
            value: value.into(),
            lease: 0,
        }
    }

    /// Over two keys, so that half a transaction would be seen.
    fn swap(&mut self, key: Bytes) -> Request {
        let other: Bytes = format!("{FIRST_KEY}pair").into();
        let expected = self.known.get(&key).copied().unwrap_or(0);
        let get = |key: &Bytes| Op::Get {
            key: key.clone(),
            range_end: Bytes::new(),
        };
        let mut then = vec![self.put(key.clone(), 't'), get(&key)];
        if self.random.one_in(2) {
            then.push(self.put(other, 'o'));
        } else {
            then.push(Op::Delete {
                key: other,
                range_end: Bytes::new(),
            });
        }
        Request::Txn {
            expected,
            then,
            otherwise: vec![get(&key)],
            key,
        }
    }

    async fn ask(&mut self, request: &Request) -> Ending {
        let channel = self.channels[self.member].clone();
        let answer = timeout(ANSWER_LIMIT, send(request, channel)).await;
        match answer {
            Ok(Ok(answer)) => Ending::Answered(answer),
            Ok(Err(status)) => {
                self.leave();
                // A member that is gone refuses connections at once.
                sleep(Duration::from_millis(20)).await;
                if surely_refused(&status) {
                    Ending::Refused
                } else {
                    Ending::Unknown
                }
            }
            Err(_) => {
                self.leave();
                Ending::Unknown
            }
        }
    }

    /// Mostly to another member; some stay, for whom the member has to come back.
    fn leave(&mut self) {
        if !self.random.one_in(4) {
            self.member = self.random.below(self.channels.len() as u64) as usize;
        }
    }

    fn learn(&mut self, request: &Request, ending: &Ending) {
        let Ending::Answered(answer) = ending else {
            return;
        };
        let wrote = match request {
            Request::Alone(Op::Put { key, .. }) => Some(key),
            Request::Txn { key, .. } if answer.succeeded => Some(key),
            _ => None,
        };
        if let Some(key) = wrote {
            self.known.insert(key.clone(), answer.revision);
            self.sights.saw_write(self.member);
            return;
        }
        if let Request::Txn { key, .. } = request {
            self.known.insert(key.clone(), 0);
        }
        for kv in answer.found.iter().flatten() {
            self.known.insert(kv.key.clone(), kv.mod_revision);
        }
    }
}

/// etcd gives these codes before it proposes anything.
pub fn surely_refused(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::ResourceExhausted | Code::FailedPrecondition
    )
}

/// Asks a member; the answer as the history knows it.
pub async fn send(request: &Request, channel: Channel) -> Result<Answer, Status> {
    let (header, succeeded, found) = match request {
        Request::Revoke(lease) => {
            let answer = LeaseRevokeRequest { id: *lease }.send(channel).await?;
            (answer.header, true, vec![])
        }
        Request::Alone(op) | Request::Serializable(op) => {
            let serializable = matches!(request, Request::Serializable(_));
            match of_op(op, serializable) {
                AnyRequest::RequestPut(put) => {
                    let answer = put.send(channel).await?;
                    (answer.header, true, vec![put_found(answer)])
                }
                AnyRequest::RequestDeleteRange(delete) => {
                    let answer = delete.send(channel).await?;
                    (answer.header, true, vec![delete_found(answer)])
                }
                AnyRequest::RequestRange(range) => {
                    let answer = range.send(channel).await?;
                    (answer.header, true, vec![range_found(answer)])
                }
                AnyRequest::RequestTxn(_) => unreachable!("an operation is no transaction"),
            }
        }
        Request::Txn {
            key,
            expected,
            then,
            otherwise,
        } => {
            let answer = txn(key, *expected, then, otherwise).send(channel).await?;
            let found = answer.responses.into_iter().map(|it| match it.response {
                Some(AnyResponse::ResponsePut(it)) => put_found(it),
                Some(AnyResponse::ResponseDeleteRange(it)) => delete_found(it),
                Some(AnyResponse::ResponseRange(it)) => range_found(it),
                other => panic!("not what was asked for: {other:?}"),
            });
            (answer.header, answer.succeeded, found.collect())
        }
    };
    let revision = header.as_ref().map_or(0, |it: &ResponseHeader| it.revision);
    Ok(Answer {
        revision,
        succeeded,
        found,
    })
}

fn of_op(op: &Op, serializable: bool) -> AnyRequest {
    match op.clone() {
        Op::Put { key, value, lease } => AnyRequest::RequestPut(PutRequest {
            key,
            value,
            lease,
            prev_kv: true,
            ..Default::default()
        }),
        Op::Delete { key, range_end } => AnyRequest::RequestDeleteRange(DeleteRangeRequest {
            key,
            range_end,
            prev_kv: true,
        }),
        Op::Get { key, range_end } => AnyRequest::RequestRange(RangeRequest {
            key,
            range_end,
            serializable,
            ..Default::default()
        }),
    }
}

fn txn(key: &Bytes, expected: i64, then: &[Op], otherwise: &[Op]) -> TxnRequest {
    let ops = |ops: &[Op]| -> Vec<RequestOp> {
        let op = |op: &Op| RequestOp {
            request: Some(of_op(op, false)),
        };
        ops.iter().map(op).collect()
    };
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(expected)),
            ..Default::default()
        }],
        success: ops(then),
        failure: ops(otherwise),
    }
}

fn put_found(answer: PutResponse) -> Found {
    answer.prev_kv.into_iter().collect()
}

fn delete_found(answer: DeleteRangeResponse) -> Found {
    assert_eq!(answer.deleted, answer.prev_kvs.len() as i64, "{answer:?}");
    answer.prev_kvs
}

fn range_found(answer: RangeResponse) -> Found {
    let whole = answer.count == answer.kvs.len() as i64 && !answer.more;
    assert!(whole, "{answer:?}");
    answer.kvs
}
