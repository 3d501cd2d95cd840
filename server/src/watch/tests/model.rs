//! A history in RAM, and what the tests read back from a stream.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::{Buf, Bytes};
use keystead_mvcc::{KeyValueRef, ReadError, Revision, Row};
use keystead_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use prost::Message;

use crate::watch::{Create, Headers, History, Hub, Limits, Publisher, Stream};

/// A change of one key: a value, or none for a deletion.
pub(super) type Change = (u8, Option<Bytes>);

#[derive(Clone, Default)]
pub(super) struct Model(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    rows: Vec<Row>,
    live: BTreeMap<Bytes, Row>,
    compacted: i64,
    revision: i64,
    reads: usize,
}

impl Model {
    pub(super) fn new() -> Self {
        Model(Rc::new(RefCell::new(Inner {
            revision: 1,
            compacted: -1,
            ..Inner::default()
        })))
    }

    /// Writes one revision. Deletions of absent keys and second changes of a key are left out.
    pub(super) fn write(&self, changes: &[Change]) -> Vec<Row> {
        let mut inner = self.0.borrow_mut();
        let main = inner.revision + 1;
        let mut written: Vec<Row> = Vec::new();
        for (letter, value) in changes {
            let key = Bytes::from(vec![*letter]);
            let previous = inner.live.get(&key).cloned();
            let again = previous
                .as_ref()
                .is_some_and(|row| row.revision.main == main);
            if again
                || (value.is_none() && previous.is_none())
                || written.iter().any(|row| kv(row).key == key)
            {
                continue;
            }
            let row = row(
                Revision::new(main, written.len() as u32),
                &key,
                value.as_deref(),
                previous.as_ref(),
            );
            match value {
                Some(_) => inner.live.insert(key, row.clone()),
                None => inner.live.remove(&key),
            };
            written.push(row);
        }
        if !written.is_empty() {
            inner.revision = main;
            inner.rows.extend(written.iter().cloned());
        }
        written
    }

    pub(super) fn compact(&self, revision: i64) {
        self.0.borrow_mut().compacted = revision;
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        self.0.borrow().rows.clone()
    }

    pub(super) fn reads(&self) -> usize {
        self.0.borrow().reads
    }

    /// The value of a key as of a revision.
    pub(super) fn value_at(&self, key: &[u8], revision: i64) -> Option<Row> {
        let inner = self.0.borrow();
        let last = inner
            .rows
            .iter()
            .rfind(|row| row.revision.main <= revision && kv(row).key == key)?;
        (!last.tombstone).then(|| last.clone())
    }
}

pub(super) fn kv(row: &Row) -> KeyValueRef<'_> {
    KeyValueRef::decode(&row.payload).expect("the model writes key-values")
}

fn row(revision: Revision, key: &[u8], value: Option<&[u8]>, previous: Option<&Row>) -> Row {
    let before = previous.map(kv);
    let payload = match value {
        None => KeyValueRef {
            key,
            ..KeyValueRef::default()
        },
        Some(value) => KeyValueRef {
            key,
            create_revision: before.map_or(revision.main, |kv| kv.create_revision),
            mod_revision: revision.main,
            version: before.map_or(0, |kv| kv.version) + 1,
            value,
            lease: 0,
        },
    };
    Row {
        revision,
        previous: previous.map(|row| row.revision),
        tombstone: value.is_none(),
        payload: payload.encode(),
    }
}

impl History for Model {
    fn revision(&self) -> i64 {
        self.0.borrow().revision
    }

    fn compacted(&self) -> i64 {
        self.0.borrow().compacted
    }

    fn events(&self, from: i64, upto: i64, max_bytes: usize) -> Result<Vec<Row>, ReadError> {
        let mut inner = self.0.borrow_mut();
        inner.reads += 1;
        if from < inner.compacted {
            return Err(ReadError::Compacted);
        }
        let mut bytes = 0;
        let mut rows: Vec<Row> = Vec::new();
        for row in inner
            .rows
            .iter()
            .filter(|row| (from..=upto).contains(&row.revision.main))
        {
            let whole = rows
                .last()
                .is_some_and(|last| last.revision.main != row.revision.main);
            if whole && bytes >= max_bytes {
                break;
            }
            bytes += row.payload.len();
            rows.push(row.clone());
        }
        Ok(rows)
    }

    fn row(&self, revision: Revision) -> Result<Option<Row>, ReadError> {
        let inner = self.0.borrow();
        let found = inner.rows.iter().find(|row| row.revision == revision);
        let superseded = |row: &&Row| {
            let newer =
                |other: &Row| other.revision > revision && other.revision.main <= inner.compacted;
            inner
                .rows
                .iter()
                .any(|other| newer(other) && kv(other).key == kv(row).key)
        };
        Ok(found.filter(|row| !superseded(row)).cloned())
    }
}

pub(super) struct PlainHeaders;

impl Headers for PlainHeaders {
    fn encode(&self, revision: i64, out: &mut Vec<u8>) {
        let header = ResponseHeader {
            revision,
            ..ResponseHeader::default()
        };
        header.encode(out).expect("a vector takes all");
    }
}

/// A hub on a model, with the applier's end of its inbox.
pub(super) struct Member {
    pub(super) model: Model,
    pub(super) publisher: Publisher,
    pub(super) hub: Rc<Hub<Model>>,
}

impl Member {
    pub(super) fn new(limits: Limits) -> Self {
        let model = Model::new();
        let (publisher, inboxes) = Publisher::new(1);
        let hub = Hub::new(
            model.clone(),
            Box::new(PlainHeaders),
            inboxes[0].clone(),
            limits,
        );
        Member {
            model,
            publisher,
            hub,
        }
    }

    /// Hands rows to the inbox.
    pub(super) fn publish(&self, rows: Vec<Row>) {
        let payload_bytes = rows.iter().map(|row| row.payload.len()).sum();
        self.publisher.publish(&rows.into(), payload_bytes);
    }

    /// Writes one revision, and has it dispatched.
    pub(super) fn put(&self, changes: &[Change]) -> i64 {
        self.publish(self.model.write(changes));
        self.hub.drain();
        self.model.revision()
    }
}

pub(super) fn put(key: u8, value: &'static str) -> Change {
    (key, Some(Bytes::from_static(value.as_bytes())))
}

/// Runs a future that has nothing to wait for.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("there was something to wait for"),
    }
}

pub(super) fn create(stream: &Stream<Model>, create: Create<'_>) {
    now(stream.create(&create));
}

/// One poll of a stream: the messages it gave, none when it is asleep or between rounds.
pub(super) fn poll(stream: &Stream<Model>) -> Vec<WatchResponse> {
    step(stream).0
}

/// Everything a stream has to give, its history included.
pub(super) fn drain(stream: &Stream<Model>) -> Vec<WatchResponse> {
    let mut all = Vec::new();
    loop {
        let (messages, more) = step(stream);
        all.extend(messages);
        if !more {
            return all;
        }
    }
}

/// One poll, and whether another one is due.
fn step(stream: &Stream<Model>) -> (Vec<WatchResponse>, bool) {
    let woken = Arc::new(Woken::default());
    match stream.poll_take(&mut Context::from_waker(&woken.clone().into())) {
        Poll::Ready(messages) => (decode(messages), true),
        Poll::Pending => (Vec::new(), woken.is_woken()),
    }
}

/// A waker that remembers whether it was used.
#[derive(Default)]
pub(super) struct Woken(AtomicBool);

impl Woken {
    pub(super) fn is_woken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn decode(mut messages: Bytes) -> Vec<WatchResponse> {
    let mut decoded = Vec::new();
    while messages.has_remaining() {
        assert_eq!(messages.get_u8(), 0, "not compressed");
        let len = messages.get_u32() as usize;
        decoded.push(WatchResponse::decode(messages.split_to(len)).expect("a WatchResponse"));
    }
    decoded
}
