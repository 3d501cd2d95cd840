//! One shard's hub: its streams, their watchers, and the delivery of live batches.
//!
//! A hub belongs to one thread and is driven by that shard's runtime; nothing in it is locked. It
//! knows revisions and encoded messages, and neither gRPC nor Raft. It never waits for a stream:
//! whoever reads slowly falls behind and catches up from history (`catch_up.rs`).
//!
//! # The invariant of delivery
//!
//! Let P be `published`, the last revision this hub has dispatched, and let every watcher have a
//! cursor: all its events below the cursor (from its start on) are in its stream's outbox or beyond,
//! none at or above it is.
//!
//! * A watcher is **behind** exactly when its cursor is <= P. It takes no live events; it alone moves
//!   its cursor, by reading history up to P.
//! * Otherwise it is **live**: it has nothing to ask of history, and its cursor is the larger of the
//!   stored one and P + 1. The dispatch that moves P over a revision hands that revision's events to
//!   every live watcher whose cursor is not above it, or leaves the watcher behind at that revision.
//!
//! P moves only in `dispatch`, which runs without a pause; so a watcher that has read history up to P
//! is live at the next instruction, and each revision reaches it by exactly one of the two ways.
//! A progress message tells P, and only while no watcher of the stream is behind: every event <= P is
//! ahead of it in the same outbox.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use keystead_mvcc::Row;
use slab::Slab;
use tokio::sync::Notify;

use super::event::{Events, key_of};
use super::history::History;
use super::inbox::{Inbox, Posts};
use super::message::{Head, fragments};
use super::registry::Registry;
use super::stream::Stream;
use super::wait::{Changes, Waits};

/// Writes the ResponseHeader of watch messages.
pub trait Headers {
    /// Appends the encoded header that tells `revision`.
    fn encode(&self, revision: i64, out: &mut Vec<u8>);
}

/// The sizes at which a hub stops queueing.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes in a stream's outbox at which its watchers fall behind: a burst that a reading client
    /// takes within milliseconds.
    pub outbox_bytes: usize,
    /// The bytes that every stream may queue even when the shard's total is used up.
    pub outbox_floor_bytes: usize,
    /// Bytes in all outboxes of the shard at which only the floor is left to each.
    pub shard_bytes: usize,
    /// A message takes further revisions while it is smaller than this.
    pub message_bytes: usize,
    /// The size from which a message is cut into fragments for watchers that asked for it:
    /// etcd's `max-request-bytes` + 512 KiB.
    pub fragment_bytes: usize,
}

impl Limits {
    /// The limits of a member that takes requests of up to `max_request_bytes`.
    pub fn new(max_request_bytes: usize) -> Self {
        Limits {
            outbox_bytes: 256 << 10,
            outbox_floor_bytes: 16 << 10,
            shard_bytes: 32 << 20,
            message_bytes: 256 << 10,
            fragment_bytes: max_request_bytes + (512 << 10),
        }
    }
}

/// The hub of one shard.
pub struct Hub<H> {
    inbox: Arc<Inbox>,
    advanced: Notify,
    pub(super) core: RefCell<Core<H>>,
}

impl<H: History> Hub<H> {
    /// A hub that takes batches from `inbox`. The publisher of the inbox must be at work already, so
    /// that no batch after the history's present revision is missed.
    pub fn new(
        history: H,
        headers: Box<dyn Headers>,
        inbox: Arc<Inbox>,
        limits: Limits,
    ) -> Rc<Self> {
        let published = history.revision();
        let core = Core {
            published,
            history,
            headers,
            limits,
            streams: Slab::new(),
            watchers: Slab::new(),
            registry: Registry::new(),
            waits: Waits::new(),
            queued: 0,
            events: Events::default(),
            hits: Vec::new(),
            header: HeaderBytes::default(),
        };
        Rc::new(Hub {
            inbox,
            advanced: Notify::new(),
            core: RefCell::new(core),
        })
    }

    /// Opens a stream without watchers.
    pub fn open(self: &Rc<Self>) -> Stream<H> {
        let slot = self
            .core
            .borrow_mut()
            .streams
            .insert(StreamState::default()) as u32;
        Stream::new(self.clone(), slot)
    }

    /// A handle that waits for changes through this hub.
    pub fn changes(&self) -> Changes {
        Changes::new(self.inbox.clone())
    }

    /// Takes what arrives in the inbox, for ever. One task per shard runs this.
    pub async fn run(&self) {
        loop {
            self.drain();
            let more = {
                let core = &mut *self.core.borrow_mut();
                core.waits.catch_up(&core.history, core.published)
            };
            if more {
                tokio::task::yield_now().await;
            } else {
                self.rest();
                self.inbox.arrived().await;
            }
        }
    }

    /// Dispatches what the inbox holds now.
    pub fn drain(&self) {
        let Posts {
            batches,
            orders,
            resting: rested,
            gap,
            ..
        } = self.inbox.take();
        if batches.is_empty() && orders.is_empty() && !rested && !gap {
            return;
        }
        let mut core = self.core.borrow_mut();
        if rested || gap {
            core.pass_over();
        }
        for batch in &batches {
            core.dispatch(batch);
        }
        for order in orders {
            let published = core.published;
            core.waits.take_order(order, published);
        }
        drop(core);
        self.advanced.notify_waiters();
    }

    /// Rests while nobody watches: what is published meanwhile is passed over, and wakes no shard. The
    /// next [`Hub::drain`], which comes before every request of a stream, ends the rest.
    pub(super) fn rest(&self) {
        let mut core = self.core.borrow_mut();
        if core.watchers.is_empty() && core.waits.is_empty() && self.inbox.rest() {
            core.pass_over();
            drop(core);
            // Who settles waits for a revision that will not come as a batch now.
            self.advanced.notify_waiters();
        }
    }

    /// Returns once everything that history shows now has been dispatched here: what follows can't
    /// tell a client an older revision than it has already seen.
    pub async fn settle(&self) {
        let target = self.core.borrow().history.revision();
        loop {
            let advanced = self.advanced.notified();
            self.drain();
            if self.core.borrow().published >= target {
                return;
            }
            advanced.await;
        }
    }
}

/// What a hub holds, for tests.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) streams: usize,
    pub(super) watchers: usize,
    /// Watchers that read history.
    pub(super) behind: usize,
    /// Bytes in outboxes.
    pub(super) queued_bytes: usize,
}

#[cfg(test)]
impl<H: History> Hub<H> {
    pub(super) fn counts(&self) -> Counts {
        let core = self.core.borrow();
        Counts {
            streams: core.streams.len(),
            watchers: core.watchers.len(),
            behind: core
                .streams
                .iter()
                .map(|(_, stream)| stream.behind.len())
                .sum(),
            queued_bytes: core.queued,
        }
    }
}

/// The hub's state. `create.rs`, `catch_up.rs` and `progress.rs` hold the rest of its verbs.
pub(super) struct Core<H> {
    pub(super) published: i64,
    pub(super) history: H,
    headers: Box<dyn Headers>,
    pub(super) limits: Limits,
    pub(super) streams: Slab<StreamState>,
    pub(super) watchers: Slab<Watcher>,
    pub(super) registry: Registry,
    waits: Waits,
    queued: usize,
    pub(super) events: Events,
    /// Scratch: (watcher, row) pairs of the slice being delivered.
    hits: Vec<Hit>,
    header: HeaderBytes,
}

/// A watcher's slot and the index of a row that it gets.
pub(super) type Hit = (u32, u32);

/// Pairs at which a dispatch is delivered in slices, cut between revisions: bounds the scratch.
const SLICE_HITS: usize = 64 << 10;

#[derive(Default)]
pub(super) struct StreamState {
    /// Whole messages, in order, not yet taken by the connection.
    outbox: Vec<u8>,
    pub(super) waker: Option<Waker>,
    pub(super) watchers: BTreeMap<i64, u32>,
    pub(super) next_id: i64,
    /// (cursor, slot) of the watchers that are behind.
    pub(super) behind: BTreeSet<(i64, u32)>,
    /// The cursor from which the next catch-up round is taken.
    pub(super) turn: i64,
    /// (start, slot) of the watchers that may start after the published revision.
    pub(super) future: BTreeSet<(i64, u32)>,
}

pub(super) struct Watcher {
    pub(super) stream: u32,
    pub(super) id: i64,
    /// The start the client asked for; 0 for "from now on".
    pub(super) start: i64,
    pub(super) cursor: i64,
    pub(super) behind: bool,
    pub(super) no_put: bool,
    pub(super) no_delete: bool,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    pub(super) progress_notify: bool,
    /// Nothing was sent since the last progress tick.
    pub(super) quiet: bool,
}

impl Watcher {
    /// Whether `row`, of a key that it watches, is still to be sent to it.
    pub(super) fn wants(&self, row: &Row) -> bool {
        row.revision.main >= self.cursor
            && !(if row.tombstone {
                self.no_delete
            } else {
                self.no_put
            })
    }
}

/// Which revision the header of event messages tells.
#[derive(Clone, Copy)]
pub(super) enum Told {
    /// Live: that of the message's last event.
    LastEvent,
    /// Catch-up: the published one, which may lie beyond the events.
    Published,
}

impl<H: History> Core<H> {
    /// Moves the published revision over `rows` and hands them to the live watchers.
    pub(super) fn dispatch(&mut self, rows: &[Row]) {
        let mut rows = &rows[rows.partition_point(|row| row.revision.main <= self.published)..];
        let Some(first) = rows.first() else {
            return;
        };
        if first.revision.main > self.published + 1 {
            self.skip(first.revision.main - 1);
        }
        while !rows.is_empty() {
            let (slice, rest) = rows.split_at(self.match_live(rows));
            self.deliver_live(slice);
            rows = rest;
        }
    }

    /// Collects the hits of as many whole revisions as one slice takes, and answers their row count.
    fn match_live(&mut self, rows: &[Row]) -> usize {
        self.hits.clear();
        let mut revision = 0;
        for (index, row) in rows.iter().enumerate() {
            if row.revision.main != revision {
                if self.hits.len() >= SLICE_HITS {
                    return index;
                }
                revision = row.revision.main;
            }
            let key = key_of(row);
            let (watchers, hits) = (&self.watchers, &mut self.hits);
            self.registry.stab(key, &mut |slot| {
                let watcher = &watchers[slot as usize];
                if !watcher.behind && watcher.wants(row) {
                    hits.push((slot, index as u32));
                }
            });
            self.waits.offer(row, key);
        }
        rows.len()
    }

    fn deliver_live(&mut self, rows: &[Row]) {
        let mut hits = std::mem::take(&mut self.hits);
        if rows.len() > 1 {
            hits.sort_unstable();
        }
        self.start_messages(rows.len());
        for group in hits.chunk_by(|a, b| a.0 == b.0) {
            let slot = group[0].0;
            if let Some(unsent) = self.deliver(slot, group, rows, Told::LastEvent) {
                self.leave_behind(slot, unsent);
            }
        }
        self.hits = hits;
        if let Some(last) = rows.last() {
            self.published = last.revision.main;
        }
        self.waits.answer();
    }

    /// Moves the published revision to `missed` without events: they are left to history.
    fn skip(&mut self, missed: i64) {
        let next = self.published + 1;
        let late = |watcher: &Watcher| !watcher.behind && watcher.cursor <= missed;
        let slots: Vec<u32> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| late(watcher))
            .map(|(slot, _)| slot as u32)
            .collect();
        for slot in slots {
            let cursor = self.watchers[slot as usize].cursor.max(next);
            self.leave_behind(slot, cursor);
        }
        self.waits.skip(self.published, missed);
        self.published = missed;
    }

    /// Moves the published revision to where history is, with nobody to tell of what lies between. The inbox
    /// has dropped nothing that history does not show: an entry is published to readers first.
    fn pass_over(&mut self) {
        let revision = self.history.revision();
        if revision > self.published {
            self.skip(revision);
        }
    }

    fn leave_behind(&mut self, slot: u32, cursor: i64) {
        let watcher = &mut self.watchers[slot as usize];
        watcher.cursor = cursor;
        watcher.behind = true;
        let stream = &mut self.streams[watcher.stream as usize];
        stream.behind.insert((cursor, slot));
        wake(stream);
    }

    /// Prepares for messages about `count` rows.
    pub(super) fn start_messages(&mut self, count: usize) {
        self.events.start(count);
        self.header.revision = None;
    }

    /// Queues a watcher's events as messages of whole revisions, while its stream has room. Answers the
    /// first revision that found none.
    pub(super) fn deliver(
        &mut self,
        slot: u32,
        hits: &[Hit],
        rows: &[Row],
        told: Told,
    ) -> Option<i64> {
        let Watcher {
            stream, prev_kv, ..
        } = self.watchers[slot as usize];
        let revision_of = |hit: &Hit| rows[hit.1 as usize].revision.main;
        let mut rest = hits;
        while let Some(first) = rest.first() {
            if !self.is_roomy(stream) {
                return Some(revision_of(first));
            }
            let mut taken = 0;
            let mut size = 0;
            for revision in rest.chunk_by(|a, b| revision_of(a) == revision_of(b)) {
                if taken > 0 && size >= self.limits.message_bytes {
                    break;
                }
                for hit in revision {
                    size += self.events.prepare(&self.history, rows, hit.1, prev_kv);
                }
                taken += revision.len();
            }
            let (message, later) = rest.split_at(taken);
            let revision = match told {
                Told::LastEvent => message.last().map_or(self.published, revision_of),
                Told::Published => self.published,
            };
            self.put_events(slot, message, size, revision);
            rest = later;
        }
        None
    }

    fn put_events(&mut self, slot: u32, hits: &[Hit], size: usize, revision: i64) {
        self.header.tell(&*self.headers, revision);
        let watcher = &mut self.watchers[slot as usize];
        watcher.quiet = false;
        let (number, prev_kv) = (watcher.stream, watcher.prev_kv);
        let head = Head {
            header: &self.header.bytes,
            watch_id: watcher.id,
            ..Head::default()
        };
        let stream = &mut self.streams[number as usize];
        let before = stream.outbox.len();
        let mut put = |fragment: bool, hits: &[Hit], size: usize| {
            Head { fragment, ..head }.put(&mut stream.outbox, size);
            for hit in hits {
                stream
                    .outbox
                    .extend_from_slice(self.events.piece(hit.1, prev_kv));
            }
        };
        if !watcher.fragment || hits.len() < 2 || head.len() + size < self.limits.fragment_bytes {
            put(false, hits, size);
        } else {
            let sizes: Vec<usize> = hits
                .iter()
                .map(|hit| self.events.piece(hit.1, prev_kv).len())
                .collect();
            let mut at = 0;
            for count in fragments(head.len(), &sizes, self.limits.fragment_bytes) {
                let part = at..at + count;
                put(
                    part.end < hits.len(),
                    &hits[part.clone()],
                    sizes[part.clone()].iter().sum(),
                );
                at = part.end;
            }
        }
        self.queued += stream.outbox.len() - before;
        wake(stream);
    }

    /// Queues a message without events. The header tells `revision`.
    pub(super) fn put_message(&mut self, stream: u32, revision: i64, head: Head<'_>) {
        self.header.revision = None;
        self.header.tell(&*self.headers, revision);
        let stream = &mut self.streams[stream as usize];
        let before = stream.outbox.len();
        Head {
            header: &self.header.bytes,
            ..head
        }
        .put(&mut stream.outbox, 0);
        self.queued += stream.outbox.len() - before;
        wake(stream);
    }

    /// Whether the stream may queue another message.
    pub(super) fn is_roomy(&self, stream: u32) -> bool {
        let queued = self.streams[stream as usize].outbox.len();
        queued < self.limits.outbox_floor_bytes
            || queued < self.limits.outbox_bytes && self.queued < self.limits.shard_bytes
    }

    /// Takes the queued messages of a stream.
    pub(super) fn take(&mut self, stream: u32) -> Option<Bytes> {
        let outbox = std::mem::take(&mut self.streams[stream as usize].outbox);
        self.queued -= outbox.len();
        (!outbox.is_empty()).then(|| outbox.into())
    }

    /// Forgets a watcher.
    pub(super) fn remove_watcher(&mut self, slot: u32) -> Watcher {
        let watcher = self.watchers.remove(slot as usize);
        self.registry.remove(slot);
        let stream = &mut self.streams[watcher.stream as usize];
        stream.watchers.remove(&watcher.id);
        stream.behind.remove(&(watcher.cursor, slot));
        stream.future.remove(&(watcher.start, slot));
        watcher
    }

    /// Forgets a stream, its watchers and what it had queued.
    pub(super) fn close(&mut self, stream: u32) {
        let slots: Vec<u32> = self.streams[stream as usize]
            .watchers
            .values()
            .copied()
            .collect();
        for slot in slots {
            self.remove_watcher(slot);
        }
        self.take(stream);
        self.streams.remove(stream as usize);
    }
}

fn wake(stream: &mut StreamState) {
    if let Some(waker) = stream.waker.take() {
        waker.wake();
    }
}

/// The header last encoded: all messages of a batch tell the same few revisions.
#[derive(Default)]
struct HeaderBytes {
    revision: Option<i64>,
    bytes: Vec<u8>,
}

impl HeaderBytes {
    fn tell(&mut self, headers: &dyn Headers, revision: i64) {
        if self.revision != Some(revision) {
            self.bytes.clear();
            headers.encode(revision, &mut self.bytes);
            self.revision = Some(revision);
        }
    }
}
