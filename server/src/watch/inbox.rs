//! The way of an applied batch from the core's thread to a shard's hub.
//!
//! The applier publishes; each shard has one inbox. Publishing never blocks and never waits for a
//! shard: when a shard is so far behind that its inbox is full, the inbox forgets the older batches.
//! The hub sees the gap and its watchers read the missing revisions from history. A hub that nobody
//! watches through rests: its inbox takes no batches, and an applied entry wakes it not.

use std::collections::VecDeque;
use std::sync::Arc;

use keystead_mvcc::Row;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::wait::Order;

/// The rows of one applied entry: whole revisions, in order.
pub type Batch = Arc<[Row]>;

/// Batches that an inbox holds at most, and their payload. They share their bytes with the store's ring
/// of recent events, which they would keep alive beyond its own bound.
const INBOX_BATCHES: usize = 4096;
const INBOX_BYTES: usize = 16 << 20;

/// The applier's end: hands each batch to every shard.
#[derive(Clone, Default)]
pub struct Publisher {
    inboxes: Arc<[Arc<Inbox>]>,
}

impl Publisher {
    /// A publisher and the inboxes of `shards` hubs.
    pub fn new(shards: usize) -> (Publisher, Vec<Arc<Inbox>>) {
        let inboxes: Vec<Arc<Inbox>> = (0..shards).map(|_| Arc::default()).collect();
        (
            Publisher {
                inboxes: inboxes.clone().into(),
            },
            inboxes,
        )
    }

    /// Hands `rows`, whose payloads have so many bytes, to every shard that does not rest, with one wake for a shard
    /// that was idle. Readers see their revisions already.
    pub fn publish(&self, rows: &Batch, payload_bytes: usize) {
        if rows.is_empty() {
            return;
        }
        for inbox in self.inboxes.iter() {
            inbox.push_batch(rows, payload_bytes);
        }
    }

    /// The history went on without batches: every hub looks where it is.
    pub fn pass_over(&self) {
        for inbox in self.inboxes.iter() {
            inbox.push_gap();
        }
    }
}

/// What other threads have for a hub.
#[derive(Default)]
pub struct Inbox {
    posts: Mutex<Posts>,
    arrived: Notify,
}

#[derive(Default)]
pub(super) struct Posts {
    pub(super) batches: VecDeque<Batch>,
    bytes: usize,
    pub(super) orders: Vec<Order>,
    /// The hub rests: batches are not kept. Those that came meanwhile are in the history that it reads
    /// after it took the posts.
    pub(super) resting: bool,
    /// The history has more than the batches tell.
    pub(super) gap: bool,
}

impl Posts {
    fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.orders.is_empty() && !self.gap
    }
}

impl Inbox {
    fn push_batch(&self, batch: &Batch, payload_bytes: usize) {
        let mut posts = self.posts.lock();
        if posts.resting {
            return;
        }
        let idle = posts.is_empty();
        if posts.batches.len() >= INBOX_BATCHES || posts.bytes >= INBOX_BYTES {
            posts.batches.clear();
            posts.bytes = 0;
        }
        posts.bytes += payload_bytes;
        posts.batches.push_back(batch.clone());
        drop(posts);
        if idle {
            self.arrived.notify_one();
        }
    }

    fn push_gap(&self) {
        self.posts.lock().gap = true;
        self.arrived.notify_one();
    }

    pub(super) fn push_order(&self, order: Order) {
        let mut posts = self.posts.lock();
        let idle = posts.is_empty();
        posts.orders.push(order);
        drop(posts);
        if idle {
            self.arrived.notify_one();
        }
    }

    /// Takes no batches until the hub takes its posts again. False when some have come already.
    pub(super) fn rest(&self) -> bool {
        let mut posts = self.posts.lock();
        posts.resting |= posts.is_empty();
        posts.resting
    }

    /// What has come; the hub rests no longer.
    pub(super) fn take(&self) -> Posts {
        std::mem::take(&mut *self.posts.lock())
    }

    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}
