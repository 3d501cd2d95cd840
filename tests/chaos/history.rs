//! What clients asked and were told, and what the cluster says in the end that happened. Pure data and its meaning: `linear`
//! and `watched` judge it, `clients` and `watchers` record it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use bytes::Bytes;
use keystead_proto::mvccpb::event::EventType;
use keystead_proto::mvccpb::{Event, KeyValue};

/// Everything stored at one revision.
pub type Content = BTreeMap<Bytes, KeyValue>;

/// A single operation on keys. A `range_end` is etcd's; an empty one means the key alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A lease of 0 is none.
    Put {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    Delete {
        key: Bytes,
        range_end: Bytes,
    },
    Get {
        key: Bytes,
        range_end: Bytes,
    },
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Alone(Op),
    /// A read that any member answers as far as it has come.
    Serializable(Op),
    /// The end of a lease, and of all keys that it has.
    Revoke(i64),
    /// `then`, if the key's last revision is still `expected` (0: it is not there), else `otherwise`.
    Txn {
        key: Bytes,
        expected: i64,
        then: Vec<Op>,
        otherwise: Vec<Op>,
    },
}

/// The answer to one [`Op`]: what was there before a put or a delete, or what was read.
pub type Found = Vec<KeyValue>;

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub revision: i64,
    pub succeeded: bool,
    pub found: Vec<Found>,
}

/// How an operation ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Answered(Answer),
    /// With an error that promises that nothing was written.
    Refused,
    /// Nobody knows whether it happened, or whether it will.
    Unknown,
}

/// One operation of one client. Times are nanoseconds of one clock; an unknown operation never ends.
#[derive(Clone)]
pub struct Operation {
    pub client: usize,
    pub member: usize,
    pub called: u64,
    pub returned: u64,
    pub request: Request,
    pub ending: Ending,
}

impl fmt::Debug for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |nanos: u64| nanos as f64 / 1e6;
        write!(
            out,
            "client {} at member {} from {:.3} to {:.3} ms: {:?} => {:?}",
            self.client,
            self.member,
            millis(self.called),
            millis(self.returned),
            self.request,
            self.ending
        )
    }
}

/// What a request does to a content, by etcd's rules.
#[derive(Debug, PartialEq, Eq)]
pub struct Effect {
    pub succeeded: bool,
    pub found: Vec<Found>,
    pub events: Vec<Event>,
}

/// The effect of a request that finds `content` and would be given `revision` if it writes.
pub fn effect(request: &Request, content: &Content, revision: i64) -> Effect {
    let mut content = content.clone();
    let (succeeded, ops) = match request {
        Request::Revoke(lease) => {
            return Effect {
                succeeded: true,
                found: vec![],
                events: end_of_lease(*lease, &content, revision),
            };
        }
        Request::Alone(op) | Request::Serializable(op) => (true, std::slice::from_ref(op)),
        Request::Txn {
            key,
            expected,
            then,
            otherwise,
        } => {
            let holds = content.get(key).map_or(0, |kv| kv.mod_revision) == *expected;
            (holds, if holds { &then[..] } else { &otherwise[..] })
        }
    };
    let mut events = Vec::new();
    let found = ops
        .iter()
        .map(|op| run(op, &mut content, revision, &mut events))
        .collect();
    Effect {
        succeeded,
        found,
        events,
    }
}

/// The removals that the end of a lease is, at this revision.
pub fn end_of_lease(lease: i64, content: &Content, revision: i64) -> Vec<Event> {
    let attached = content.values().filter(|kv| kv.lease == lease);
    attached.map(|kv| removal(&kv.key, revision)).collect()
}

fn removal(key: &Bytes, revision: i64) -> Event {
    let tombstone = KeyValue {
        key: key.clone(),
        mod_revision: revision,
        ..Default::default()
    };
    event(EventType::Delete, tombstone)
}

fn run(op: &Op, content: &mut Content, revision: i64, events: &mut Vec<Event>) -> Found {
    match op {
        Op::Put { key, value, lease } => {
            let before = content.get(key).cloned();
            let kv = KeyValue {
                key: key.clone(),
                value: value.clone(),
                create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
                mod_revision: revision,
                version: before.as_ref().map_or(0, |kv| kv.version) + 1,
                lease: *lease,
            };
            content.insert(key.clone(), kv.clone());
            events.push(event(EventType::Put, kv));
            before.into_iter().collect()
        }
        Op::Delete { key, range_end } => {
            let gone = within(content, key, range_end);
            for kv in &gone {
                content.remove(&kv.key);
                events.push(removal(&kv.key, revision));
            }
            gone
        }
        Op::Get { key, range_end } => within(content, key, range_end),
    }
}

fn event(kind: EventType, kv: KeyValue) -> Event {
    Event {
        r#type: kind.into(),
        kv: Some(kv),
        prev_kv: None,
    }
}

/// Whether etcd's `[key, range_end)` has `candidate`.
pub fn covers(key: &Bytes, range_end: &Bytes, candidate: &Bytes) -> bool {
    match &range_end[..] {
        [] => candidate == key,
        [0] => candidate >= key,
        _ => candidate >= key && candidate < range_end,
    }
}

fn within(content: &Content, key: &Bytes, range_end: &Bytes) -> Found {
    let from = (Bound::Included(key.clone()), Bound::Unbounded);
    let candidates = content.range(from);
    candidates
        .filter(|(candidate, _)| covers(key, range_end, candidate))
        .map(|(_, kv)| kv.clone())
        .collect()
}

/// The changes after a revision whose content is known, as a watch of everything told them once all was over.
pub struct Truth {
    /// The content before the first change and after each; the base revision is the place of the first.
    contents: Vec<Content>,
    changes: Vec<Vec<Event>>,
    base: i64,
}

impl Truth {
    /// Fails when the changes are no possible history: a revision that changes nothing or is missing, a key changed twice in
    /// one, a deletion of nothing, a create revision or version that does not follow from what was before.
    pub fn new(base: i64, content: Content, events: &[Event]) -> Result<Truth, String> {
        let mut truth = Truth {
            contents: vec![content],
            changes: Vec::new(),
            base,
        };
        let revision_of = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        for change in events.chunk_by(|one, next| revision_of(one) == revision_of(next)) {
            truth.add(revision_of(&change[0]), change)?;
        }
        Ok(truth)
    }

    fn add(&mut self, revision: i64, change: &[Event]) -> Result<(), String> {
        let next = self.last() + 1;
        if revision != next {
            return Err(format!("revision {revision} follows {}", self.last()));
        }
        let before = self.content(self.last());
        let mut after = before.clone();
        let mut changed = Vec::new();
        for event in change {
            let kv = event.kv.clone().unwrap_or_default();
            if changed.contains(&kv.key) {
                return Err(format!("revision {revision} changes {:?} twice", kv.key));
            }
            let op = if event.r#type() == EventType::Put {
                Op::Put {
                    key: kv.key.clone(),
                    value: kv.value.clone(),
                    lease: kv.lease,
                }
            } else {
                Op::Delete {
                    key: kv.key.clone(),
                    range_end: Bytes::new(),
                }
            };
            let expected = effect(&Request::Alone(op.clone()), before, revision).events;
            let told = Event {
                prev_kv: None,
                ..event.clone()
            };
            if expected != [told] {
                return Err(format!(
                    "revision {revision} tells {event:?} where {expected:?} is due"
                ));
            }
            run(&op, &mut after, revision, &mut Vec::new());
            changed.push(kv.key);
        }
        self.contents.push(after);
        self.changes.push(change.to_vec());
        Ok(())
    }

    /// The revision whose content was known.
    pub fn base(&self) -> i64 {
        self.base
    }

    /// The last revision.
    pub fn last(&self) -> i64 {
        self.base + self.changes.len() as i64
    }

    /// What is stored at a revision from the base to the last.
    pub fn content(&self, revision: i64) -> &Content {
        &self.contents[(revision - self.base) as usize]
    }

    /// What a revision after the base changed, in the order of its transaction.
    pub fn change(&self, revision: i64) -> &[Event] {
        &self.changes[(revision - self.base - 1) as usize]
    }
}
