//! The keys of a cache at one revision, and who is told of changes. Everything is changed under one lock, so that no reader sees half
//! of a revision, and no subscriber a state and a change that do not fit together. No I/O.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use keystead_proto::mvccpb::KeyValue;
use tokio::sync::watch;

use super::CacheView;
use super::subscription::Inbox;
use crate::error::{Error, Result};
use crate::key_range::KeyRange;
use crate::locks::RwLock;
use crate::watch::notice::{Event, EventKind};

/// What every reader shares.
#[derive(Default)]
pub(super) struct Kept {
    state: RwLock<State>,
    reached: watch::Sender<Reached>,
}

/// How far the keys are. Told after they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// 0 until there are keys.
    pub revision: i64,
    /// How often they changed.
    pub version: u64,
    /// How often the cluster was restored.
    pub restores: u64,
    /// Nothing more comes.
    pub ended: bool,
}

#[derive(Default)]
struct State {
    keys: Keys,
    revision: i64,
    /// Why nothing more comes.
    ended: Option<Error>,
    /// Why nothing comes at the moment.
    trouble: Option<Error>,
    inboxes: Vec<Weak<Inbox>>,
}

/// Keys in their order.
#[derive(Default)]
pub(super) struct Keys {
    by_key: BTreeMap<Bytes, KeyValue>,
    bytes: usize,
}

/// The keys, and the revision that they are of.
pub(super) struct View<'a>(&'a State);

impl View<'_> {
    pub(super) fn revision(&self) -> i64 {
        self.0.revision
    }

    pub(super) fn len(&self) -> usize {
        self.0.keys.by_key.len()
    }

    pub(super) fn get(&self, key: &Bytes) -> Option<KeyValue> {
        self.0.keys.by_key.get(key).cloned()
    }

    pub(super) fn range(&self, keys: &KeyRange) -> Vec<KeyValue> {
        if keys.is_single() {
            return self.get(&keys.key).into_iter().collect();
        }
        let end = match &keys.end[..] {
            [0] => Bound::Unbounded,
            end if end <= &keys.key[..] => return Vec::new(),
            _ => Bound::Excluded(keys.end.clone()),
        };
        let within = (Bound::Included(keys.key.clone()), end);
        let within = self.0.keys.by_key.range(within);
        within.map(|(_, kv)| kv.clone()).collect()
    }
}

impl Kept {
    /// # Errors
    /// Why it has ended.
    pub(super) fn read<T>(&self, read: impl FnOnce(View<'_>) -> T) -> Result<T> {
        let state = self.state.read();
        match &state.ended {
            Some(error) => Err(error.clone()),
            None => Ok(read(View(&state))),
        }
    }

    pub(super) fn reached(&self) -> Reached {
        *self.reached.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Reached> {
        self.reached.subscribe()
    }

    /// Why nothing comes at the moment, if that is known.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.state.read().trouble.clone()
    }

    /// Tells `inbox` of every change from now on, and gives the keys before it; none before the first state.
    pub(super) fn subscribe(&self, inbox: &Arc<Inbox>) -> Result<CacheView> {
        let mut state = self.state.write();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        let inboxes = &mut state.inboxes;
        inboxes.retain(|other| other.strong_count() > 0);
        if !inboxes
            .iter()
            .any(|other| other.as_ptr() == Arc::as_ptr(inbox))
        {
            inboxes.push(Arc::downgrade(inbox));
        }
        inbox.empty();
        Ok(CacheView {
            revision: state.revision,
            kvs: state.keys.by_key.values().cloned().collect(),
        })
    }

    /// What one revision changed; gives how many bytes the keys take. Nothing is kept of what comes after the end.
    pub(super) fn apply(&self, events: Vec<Event>, revision: i64) -> usize {
        let mut state = self.state.write();
        if state.ended.is_some() {
            return 0;
        }
        let told = events.into_iter().map(|event| state.keys.apply(event));
        let told = told.collect();
        state.revision = revision;
        state.tell(told);
        self.tell(&state, true, false);
        state.keys.bytes
    }

    /// Nothing else happened up to `revision`.
    pub(super) fn progress(&self, revision: i64) {
        let mut state = self.state.write();
        state.revision = state.revision.max(revision);
        self.tell(&state, false, false);
    }

    /// Another state, which may be of a past that the cluster was restored to. Nothing is kept of what comes after the end.
    pub(super) fn replace(&self, keys: Keys, revision: i64, restored: bool) {
        let mut state = self.state.write();
        if state.ended.is_some() {
            return;
        }
        let before = std::mem::replace(&mut state.keys, keys);
        let changes = before.difference(&state.keys, revision);
        state.revision = revision;
        state.trouble = None;
        let changed = !changes.is_empty();
        state.tell(changes);
        self.tell(&state, changed, restored);
    }

    /// The watch is cut off because of an error, or is not any more.
    pub(super) fn troubled(&self, error: Option<Error>) {
        self.state.write().trouble = error;
    }

    /// Nothing more comes; the keys are given up. What ended it first stands.
    pub(super) fn end(&self, error: Error) {
        let mut state = self.state.write();
        if state.ended.is_some() {
            return;
        }
        state.keys = Keys::default();
        state.ended = Some(error);
        for inbox in std::mem::take(&mut state.inboxes) {
            if let Some(inbox) = inbox.upgrade() {
                inbox.wake();
            }
        }
        drop(state);
        self.reached.send_modify(|reached| reached.ended = true);
    }

    fn tell(&self, state: &State, changed: bool, restored: bool) {
        self.reached.send_modify(|reached| {
            reached.revision = state.revision;
            reached.version += u64::from(changed);
            reached.restores += u64::from(restored);
        });
    }
}

impl State {
    /// Tells the subscribers; those that have gone are forgotten.
    fn tell(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let revision = self.revision;
        let events: Arc<[Event]> = events.into();
        self.inboxes.retain(|inbox| {
            let inbox = inbox.upgrade();
            if let Some(inbox) = &inbox {
                inbox.push(revision, &events);
            }
            inbox.is_some()
        });
    }
}

impl Keys {
    /// What they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a key there, and gives what it was before.
    pub(super) fn put(&mut self, kv: KeyValue) -> Option<KeyValue> {
        self.bytes += size_bytes(&kv);
        let before = self.by_key.insert(kv.key.clone(), kv);
        self.bytes -= before.as_ref().map_or(0, size_bytes);
        before
    }

    fn remove(&mut self, key: &Bytes) -> Option<KeyValue> {
        let before = self.by_key.remove(key);
        self.bytes -= before.as_ref().map_or(0, size_bytes);
        before
    }

    /// The event as subscribers are told of it: with what was there before, and in memory of its own.
    fn apply(&mut self, event: Event) -> Event {
        let kv = own(event.kv);
        let prev_kv = match event.kind {
            EventKind::Put => self.put(kv.clone()),
            EventKind::Delete => self.remove(&kv.key),
        };
        Event {
            kv,
            prev_kv,
            ..event
        }
    }

    /// What leads from here to `later`, in the order of the keys.
    fn difference(self, later: &Keys, revision: i64) -> Vec<Event> {
        let mut gone = self.by_key;
        let mut events = Vec::new();
        for (key, kv) in &later.by_key {
            let before = gone.remove(key);
            if before.as_ref() != Some(kv) {
                events.push(Event {
                    kind: EventKind::Put,
                    kv: kv.clone(),
                    prev_kv: before,
                });
            }
        }
        events.extend(gone.into_iter().map(|(key, before)| Event {
            kind: EventKind::Delete,
            kv: KeyValue {
                key,
                mod_revision: revision,
                ..Default::default()
            },
            prev_kv: Some(before),
        }));
        events.sort_by(|one, other| one.kv.key.cmp(&other.kv.key));
        events
    }
}

/// A key in memory of its own: what came shares that of a whole answer.
pub(super) fn own(kv: KeyValue) -> KeyValue {
    let mut value = Bytes::from([&kv.key[..], &kv.value].concat());
    KeyValue {
        key: value.split_to(kv.key.len()),
        value,
        ..kv
    }
}

/// About what a key costs besides its name and its value: its place in the tree, which is two thirds full, and what the allocator adds.
const KEY_BYTES: usize = size_of::<(Bytes, KeyValue)>() * 3 / 2 + 16;

fn size_bytes(kv: &KeyValue) -> usize {
    kv.key.len() + kv.value.len() + KEY_BYTES
}
