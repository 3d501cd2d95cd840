//! Random programs: writers, slow and fast readers, creates at any revision, cancels, compactions,
//! lost batches; each stream is then judged by the checker.

use bytes::Bytes;
use keystead_mvcc::Row;
use keystead_proto::etcdserverpb::WatchResponse;
use proptest::prelude::*;

use super::checker::{Asked, check};
use super::model::{Change, Member, Model, create, drain, now, poll};
use crate::watch::{History, Limits, Stream};

#[derive(Clone, Debug)]
enum Step {
    /// Writes a revision; the hub hears of it later.
    Write(Vec<Change>),
    /// Writes that many revisions of one key.
    Burst(u8, u16),
    /// Hands the hub what was written, in batches of so many revisions.
    Publish(usize),
    /// What was written never reaches the hub: its inbox overflowed.
    Lose,
    Open,
    Create(usize, Asked),
    Cancel(usize, i64),
    Progress(usize),
    Tick(usize),
    /// Takes what a stream has, once.
    Take(usize),
    Compact(u8),
    Close(usize),
    /// The hub may rest until somebody asks for something.
    Rest,
}

fn asked() -> impl Strategy<Value = Asked> {
    let end = prop_oneof![
        Just(vec![]),
        Just(vec![0]),
        (3u8..9).prop_map(|end| vec![end])
    ];
    let flags = any::<(bool, bool, bool, bool, bool)>();
    (1u8..6, end, prop_oneof![Just(0i64), 1i64..40], flags).prop_map(
        |(key, end, start_revision, flags)| {
            let (no_put, no_delete, filtered, prev_kv, fragment) = flags;
            let range_end = if end.first().is_some_and(|end| *end != 0 && *end <= key) {
                vec![]
            } else {
                end
            };
            let (no_put, no_delete) = (filtered && no_put, filtered && no_delete);
            Asked {
                key: vec![key],
                range_end,
                start_revision,
                no_put,
                no_delete,
                prev_kv,
                fragment,
            }
        },
    )
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let value = proptest::option::weighted(
        0.7,
        (0usize..120).prop_map(|len| Bytes::from(vec![b'v'; len])),
    );
    proptest::collection::vec((1u8..7, value), 1..5)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => changes().prop_map(Step::Write),
        1 => (1u8..7, 1u16..1500).prop_map(|(key, count)| Step::Burst(key, count)),
        6 => (1usize..6).prop_map(Step::Publish),
        1 => Just(Step::Lose),
        2 => Just(Step::Open),
        6 => (0usize..4, asked()).prop_map(|(stream, asked)| Step::Create(stream, asked)),
        2 => (0usize..4, 0i64..6).prop_map(|(stream, id)| Step::Cancel(stream, id)),
        3 => (0usize..4).prop_map(Step::Progress),
        2 => (0usize..4).prop_map(Step::Tick),
        6 => (0usize..4).prop_map(Step::Take),
        1 => any::<u8>().prop_map(Step::Compact),
        1 => (0usize..4).prop_map(Step::Close),
        3 => Just(Step::Rest),
    ]
}

struct Client {
    stream: Stream<Model>,
    asked: Vec<Asked>,
    messages: Vec<WatchResponse>,
}

struct Program {
    member: Member,
    written: Vec<Vec<Row>>,
    clients: Vec<Client>,
    closed: Vec<(Vec<Asked>, Vec<WatchResponse>)>,
}

impl Program {
    fn new(limits: Limits) -> Self {
        Program {
            member: Member::new(limits),
            written: Vec::new(),
            clients: Vec::new(),
            closed: Vec::new(),
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Write(changes) => self.write(&changes),
            Step::Burst(key, count) => {
                (0..count).for_each(|_| self.write(&[(key, Some(Bytes::from_static(b"burst")))]));
            }
            Step::Publish(revisions) => self.publish(revisions),
            Step::Lose => self.written.clear(),
            Step::Open => {
                let stream = self.member.hub.open();
                self.clients.push(Client {
                    stream,
                    asked: Vec::new(),
                    messages: Vec::new(),
                });
            }
            Step::Create(client, asked) => {
                if self.settle(client) {
                    let client = &mut self.clients[client];
                    create(&client.stream, asked.create());
                    client.asked.push(asked);
                }
            }
            Step::Cancel(client, id) => {
                if self.settle(client) {
                    now(self.clients[client].stream.cancel(id));
                }
            }
            Step::Progress(client) => {
                if self.settle(client) {
                    now(self.clients[client].stream.progress());
                }
            }
            Step::Tick(client) => {
                if let Some(client) = self.clients.get(client) {
                    client.stream.tick();
                }
            }
            Step::Take(client) => {
                if let Some(client) = self.clients.get_mut(client) {
                    client.messages.extend(poll(&client.stream));
                }
            }
            Step::Compact(share) => {
                let model = &self.member.model;
                let revision = model.revision() * i64::from(share) / 255;
                if revision > model.compacted() {
                    model.compact(revision);
                }
            }
            Step::Close(client) => {
                if client < self.clients.len() {
                    let client = self.clients.remove(client);
                    self.closed.push((client.asked, client.messages));
                }
            }
            Step::Rest => self.member.hub.rest(),
        }
    }

    fn write(&mut self, changes: &[Change]) {
        let rows = self.member.model.write(changes);
        if !rows.is_empty() {
            self.written.push(rows);
        }
    }

    fn publish(&mut self, revisions: usize) {
        for batch in std::mem::take(&mut self.written).chunks(revisions) {
            self.member.publish(batch.concat());
        }
        self.member.hub.drain();
    }

    /// Requests wait until the hub is where the history is; here, what is missing comes at once.
    fn settle(&mut self, client: usize) -> bool {
        if client >= self.clients.len() || !self.clients[client].stream.is_roomy() {
            return false;
        }
        self.publish(1);
        // After lost batches it takes another one to tell the hub that there were any.
        self.write(&[(0, Some(Bytes::new()))]);
        self.publish(1);
        true
    }

    fn judge(mut self) {
        self.write(&[(0, Some(Bytes::new()))]);
        self.publish(1);
        for client in &mut self.clients {
            client.messages.extend(drain(&client.stream));
        }
        for client in &self.clients {
            check(&self.member.model, &client.asked, &client.messages, true);
        }
        for (asked, messages) in &self.closed {
            check(&self.member.model, asked, messages, false);
        }
        self.clients.clear();
        assert_eq!(
            self.member.hub.counts(),
            crate::watch::hub::Counts::default()
        );
    }
}

fn tiny() -> Limits {
    Limits {
        outbox_bytes: 600,
        outbox_floor_bytes: 100,
        shard_bytes: 1000,
        message_bytes: 200,
        fragment_bytes: 150,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_stream_of_a_random_program_keeps_the_rules(
        steps in proptest::collection::vec(step(), 1..80),
        small in any::<bool>(),
    ) {
        let mut program = Program::new(if small { tiny() } else { Limits::new(1 << 20) });
        program.run(Step::Open);
        steps.into_iter().for_each(|step| program.run(step));
        program.judge();
    }
}
