//! Random programs: nested txns, ranges with every option, puts with leases, deletes, compactions and watches, equal
//! answer by answer, event by event and in HashKV. `KEYSTEAD_SEED` replays one program; `KEYSTEAD_PROGRAMS` and
//! `KEYSTEAD_STEPS` make longer runs.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use keystead_proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use keystead_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest,
};
use keystead_tests::{Random, Session, on_both};

use super::requests::{compare, everything, op, txn, watch};

/// Few keys, so that operations meet: in Go sorts of up to twelve elements are stable, and so are ties here.
const KEYS: [&str; 10] = [
    "a",
    "ab",
    "abc",
    "b",
    "b\0",
    "ba",
    "c",
    "d",
    "\u{7f}",
    "k/long/key/with/a/path",
];
const ENDS: [&str; 6] = ["", "\0", "b", "c", "d", "a"];
const LEASES: [i64; 3] = [101, 102, 103];

#[tokio::test]
async fn random_programs_leave_the_same_answers_events_and_hash() {
    let number = |name: &str| {
        env::var(name)
            .ok()
            .and_then(|value| value.parse::<u64>().ok())
    };
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_millis() as u64;
    let first = number("KEYSTEAD_SEED").unwrap_or(clock);
    let programs = if number("KEYSTEAD_SEED").is_some() {
        1
    } else {
        number("KEYSTEAD_PROGRAMS").unwrap_or(3)
    };
    let steps = number("KEYSTEAD_STEPS").unwrap_or(300);
    for seed in first..first + programs {
        println!("program of {steps} steps: KEYSTEAD_SEED={seed}");
        on_both(async |s| Program::new(seed).run(s, steps).await).await;
    }
}

/// What a program knows while it is made: both servers are asked the same, so both give it the same knowledge.
struct Program {
    random: Random,
    revision: i64,
    compacted: i64,
    values: u64,
}

impl Program {
    fn new(seed: u64) -> Program {
        Program {
            random: Random::new(seed),
            revision: 1,
            compacted: 0,
            values: 0,
        }
    }

    async fn run(mut self, s: &mut Session, steps: u64) {
        let mut live = s.watch();
        live.create(
            s,
            WatchCreateRequest {
                prev_kv: true,
                ..watch("\0", "\0", 0)
            },
        );
        live.next(s).await;
        for _ in 0..steps {
            self.step(s).await;
        }
        let last = s
            .call(everything())
            .await
            .expect("a range of everything answers");
        let revision = last.header.expect("a header").revision;
        s.call(HashKvRequest { revision: 0 }).await.ok();
        s.note("events as they happened");
        live.events_until(s, revision).await;
        let mut history = s.watch();
        let start = self.compacted.max(1);
        history.create(
            s,
            WatchCreateRequest {
                prev_kv: true,
                ..watch("\0", "\0", start)
            },
        );
        history.next(s).await;
        history.events_until(s, revision).await;
    }

    async fn step(&mut self, s: &mut Session) {
        match self.random.below(20) {
            0..6 => {
                let put = self.put();
                self.learn(s.call(put).await.ok().and_then(|answer| answer.header));
            }
            6..8 => {
                let delete = self.delete();
                self.learn(s.call(delete).await.ok().and_then(|answer| answer.header));
            }
            8..12 => {
                let range = self.range();
                s.call(range).await.ok();
            }
            12..16 => {
                let txn = self.txn(3);
                self.learn(s.call(txn).await.ok().and_then(|answer| answer.header));
            }
            16 => self.compact(s).await,
            17 => {
                let revision = self.some_revision();
                s.call(HashKvRequest { revision }).await.ok();
            }
            _ => self.lease(s).await,
        }
    }

    fn learn(&mut self, header: Option<keystead_proto::etcdserverpb::ResponseHeader>) {
        if let Some(header) = header {
            self.revision = header.revision;
        }
    }

    async fn compact(&mut self, s: &mut Session) {
        // Mostly a sensible revision, so that some history stays readable.
        let span = (self.revision - self.compacted).max(1) as u64;
        let revision = match self.random.below(6) {
            0 => self.some_revision(),
            _ => self.compacted + self.random.below(span.div_ceil(3)) as i64,
        };
        // After a compaction at 0 etcd answers every HashKV of "now" with the hash that it kept then.
        let revision = revision.max(1);
        if s.call(CompactionRequest {
            revision,
            physical: true,
        })
        .await
        .is_ok()
        {
            self.compacted = revision;
        }
    }

    async fn lease(&mut self, s: &mut Session) {
        let id = *self.random.pick(&LEASES);
        match self.random.below(4) {
            0 | 1 => drop(s.call(LeaseGrantRequest { ttl: 5000, id }).await),
            2 => {
                let answer = s.call(LeaseRevokeRequest { id }).await;
                self.learn(answer.ok().and_then(|answer| answer.header));
            }
            _ => drop(s.call(LeaseTimeToLiveRequest { id, keys: true }).await),
        }
    }

    fn put(&mut self) -> PutRequest {
        self.values += 1;
        let ignore_value = self.random.one_in(8);
        let ignore_lease = self.random.one_in(8);
        let value = if ignore_value {
            String::new()
        } else {
            format!("value-{}", self.values)
        };
        let lease = if !ignore_lease && self.random.one_in(3) {
            *self.random.pick(&LEASES)
        } else {
            0
        };
        let (key, prev_kv) = (self.key(), self.random.one_in(2));
        PutRequest {
            key: key.into(),
            value: value.into(),
            lease,
            prev_kv,
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let range_end = if self.random.one_in(2) {
            self.end()
        } else {
            ""
        };
        DeleteRangeRequest {
            key: self.key().into(),
            range_end: range_end.into(),
            prev_kv: self.random.one_in(2),
        }
    }

    /// Not from a key on: etcd's check for keys written twice overlooks such a delete, and etcd then dies of a put that
    /// keeps the value which the same txn deleted.
    fn bounded_delete(&mut self) -> DeleteRangeRequest {
        let delete = self.delete();
        let range_end = if delete.range_end == "\0" {
            "d".into()
        } else {
            delete.range_end
        };
        DeleteRangeRequest {
            range_end,
            ..delete
        }
    }

    fn range(&mut self) -> RangeRequest {
        let mut sometimes = |bound: u64| {
            if self.random.one_in(4) {
                self.random.below(bound) as i64
            } else {
                0
            }
        };
        let around = 60;
        let (min_mod_revision, max_mod_revision) = (sometimes(around), sometimes(around));
        let (min_create_revision, max_create_revision) = (sometimes(around), sometimes(around));
        let (limit, sort_order, sort_target) =
            (sometimes(6), sometimes(3) as i32, sometimes(5) as i32);
        RangeRequest {
            key: self.key().into(),
            range_end: self.end().into(),
            limit,
            revision: if self.random.one_in(2) {
                self.some_revision()
            } else {
                0
            },
            sort_order,
            sort_target,
            serializable: self.random.one_in(3),
            keys_only: self.random.one_in(5),
            count_only: self.random.one_in(8),
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
        }
    }

    fn txn(&mut self, depth: u64) -> TxnRequest {
        let compares = (0..self.random.below(3)).map(|_| self.compare()).collect();
        let success = (0..self.random.below(4))
            .map(|_| self.operation(depth))
            .collect();
        let failure = (0..self.random.below(4))
            .map(|_| self.operation(depth))
            .collect();
        txn(compares, success, failure)
    }

    fn operation(&mut self, depth: u64) -> RequestOp {
        match self.random.below(8) {
            0..3 => op(self.put()),
            3 => op(self.bounded_delete()),
            4 if depth > 0 => op(self.txn(depth - 1)),
            _ => op(self.range()),
        }
    }

    fn compare(&mut self) -> Compare {
        let results = [
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ];
        let result = *self.random.pick(&results);
        let target = match self.random.below(5) {
            0 => TargetUnion::Version(self.random.below(4) as i64),
            1 => TargetUnion::CreateRevision(self.some_revision()),
            2 => TargetUnion::ModRevision(self.some_revision()),
            3 => TargetUnion::Value(format!("value-{}", self.random.below(self.values + 1)).into()),
            _ => TargetUnion::Lease(*self.random.pick(&LEASES)),
        };
        let range_end = if self.random.one_in(4) {
            self.end()
        } else {
            ""
        };
        Compare {
            range_end: range_end.into(),
            ..compare(self.key(), result, target)
        }
    }

    fn key(&mut self) -> &'static str {
        KEYS[self.random.below(KEYS.len() as u64) as usize]
    }

    fn end(&mut self) -> &'static str {
        ENDS[self.random.below(ENDS.len() as u64) as usize]
    }

    /// From a little below the compacted revision to a little above the newest.
    fn some_revision(&mut self) -> i64 {
        let span = (self.revision - self.compacted + 4).max(1) as u64;
        (self.compacted - 1 + self.random.below(span) as i64).max(-1)
    }
}
