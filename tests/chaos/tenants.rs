//! Tenants: clients that take leases, hang keys on them, keep them alive through any member, and give them up, let them run out
//! or leave them for good. What they were told of the leases they write down beside their operations on keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use keystead_proto::etcdserverpb::LeaseGrantRequest;
use keystead_tests::{Random, Unary, keep_alive};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

use super::clients::{ANSWER_LIMIT, send, surely_refused};
use super::history::{Ending, Op, Operation, Request};
use super::leases::{Renewal, Tenancy};
use super::sights::Sights;

const TENANTS: usize = 4;
/// Two keys of one lease each.
const FIRST_KEY: &str = "l/";
const END_KEY: &str = "l0";
/// A lease may run out within a fault.
const MOST_TTL_SECS: u64 = 3;
const MOST_KEEPALIVES: u64 = 12;
/// One that nobody keeps alive and that outlives the run.
const LASTING_SECS: i64 = 100_000;

/// All tenants of a run, at work until they are stopped.
pub struct Tenants {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Tenant>>,
}

impl Tenants {
    /// Begins; `clock` is the beginning of all times. They go by numbers from `first` on.
    pub fn start(
        channels: &[Channel],
        clock: Instant,
        first: usize,
        random: &mut Random,
        sights: &Arc<Sights>,
    ) -> Tenants {
        let stop = Arc::new(AtomicBool::new(false));
        let tenant = |number: usize| {
            let tenant = Tenant {
                number: first + number,
                channels: channels.to_vec(),
                member: number % channels.len(),
                clock,
                random: Random::new(random.bits()),
                done: Vec::new(),
                tenancies: Vec::new(),
                sights: sights.clone(),
            };
            tokio::spawn(tenant.work(stop.clone()))
        };
        let tasks = (0..TENANTS).map(tenant).collect();
        Tenants { stop, tasks }
    }

    /// Lets every tenant finish what it waits for; gives all that was written down. Nothing is kept alive any more.
    pub async fn finish(self) -> (Vec<Operation>, Vec<Tenancy>) {
        self.stop.store(true, Relaxed);
        let (mut operations, mut tenancies) = (Vec::new(), Vec::new());
        for task in self.tasks {
            let tenant = task.await.expect("a tenant does not panic");
            operations.extend(tenant.done);
            tenancies.extend(tenant.tenancies);
        }
        (operations, tenancies)
    }
}

struct Tenant {
    number: usize,
    channels: Vec<Channel>,
    member: usize,
    clock: Instant,
    random: Random,
    done: Vec<Operation>,
    tenancies: Vec<Tenancy>,
    sights: Arc<Sights>,
}

impl Tenant {
    async fn work(mut self, stop: Arc<AtomicBool>) -> Tenant {
        while !stop.load(Relaxed) {
            let Some(mut tenancy) = self.grant().await else {
                continue;
            };
            for key in 0..2 {
                self.put(key, tenancy.id).await;
            }
            if !tenancy.lasting {
                self.live(&mut tenancy, &stop).await;
                if self.random.one_in(3) {
                    self.ask(Request::Revoke(tenancy.id)).await;
                }
            }
            self.tenancies.push(tenancy);
        }
        self
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// A lease that the tenant knows to have. One whose grant was not answered may be there, too.
    async fn grant(&mut self) -> Option<Tenancy> {
        let lasting = self.random.one_in(8);
        let ttl = 1 + self.random.below(MOST_TTL_SECS) as i64;
        let id = (self.random.bits() >> 1) as i64;
        let request = LeaseGrantRequest {
            ttl: if lasting { LASTING_SECS } else { ttl },
            id,
        };
        let sent = self.now();
        let answered = self.within(request.send(self.channel())).await;
        let renewals = match &answered {
            Some(granted) => vec![Renewal {
                sent,
                returned: self.now(),
                ttl_secs: granted.ttl,
            }],
            None => vec![],
        };
        let tenancy = Tenancy {
            id,
            lasting,
            renewals,
        };
        if answered.is_none() {
            self.tenancies.push(tenancy);
            return None;
        }
        Some(tenancy)
    }

    async fn put(&mut self, key: u64, lease: i64) {
        let key = format!("{FIRST_KEY}{}/{key}", self.number);
        let value = format!("{lease:x}-{}", self.done.len());
        self.ask(Request::Alone(Op::Put {
            key: key.into(),
            value: value.into(),
            lease,
        }))
        .await;
    }

    /// Keeps the lease alive for a while, and looks at the keys.
    async fn live(&mut self, tenancy: &mut Tenancy, stop: &AtomicBool) {
        for _ in 0..self.random.below(MOST_KEEPALIVES) {
            sleep(Duration::from_millis(50 + self.random.below(600))).await;
            if stop.load(Relaxed) {
                return;
            }
            self.member = self.random.below(self.channels.len() as u64) as usize;
            let sent = self.now();
            let answered = self.within(keep_alive(self.channel(), tenancy.id)).await;
            if let Some(ttl_secs) = answered {
                let returned = self.now();
                self.sights.saw_keepalive(self.member);
                tenancy.renewals.push(Renewal {
                    sent,
                    returned,
                    ttl_secs,
                });
            }
            if self.random.one_in(2) {
                let all = Op::Get {
                    key: FIRST_KEY.into(),
                    range_end: Bytes::from(END_KEY),
                };
                self.ask(Request::Alone(all)).await;
            }
            if answered == Some(0) {
                return;
            }
        }
    }

    fn channel(&self) -> Channel {
        self.channels[self.member].clone()
    }

    async fn ask(&mut self, request: Request) {
        let (called, member) = (self.now(), self.member);
        let answer = timeout(ANSWER_LIMIT, send(&request, self.channel())).await;
        let ending = match answer {
            Ok(Ok(answer)) => Ending::Answered(answer),
            Ok(Err(status)) if surely_refused(&status) => Ending::Refused,
            _ => Ending::Unknown,
        };
        self.done.push(Operation {
            client: self.number,
            member,
            called,
            returned: self.now(),
            request,
            ending,
        });
        if !matches!(self.done.last(), Some(it) if matches!(it.ending, Ending::Answered(_))) {
            self.leave().await;
        }
    }

    /// What a member answers, if it does in time.
    async fn within<T>(&mut self, answer: impl Future<Output = Result<T, Status>>) -> Option<T> {
        match timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(answer)) => Some(answer),
            _ => {
                self.leave().await;
                None
            }
        }
    }

    /// To another member, a little later: one that is gone refuses connections at once.
    async fn leave(&mut self) {
        self.member = self.random.below(self.channels.len() as u64) as usize;
        sleep(Duration::from_millis(20)).await;
    }
}
