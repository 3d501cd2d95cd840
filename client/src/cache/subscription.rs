//! Subscriptions: the state of a cache and then its changes, for one reader who may be slow. What waits for it is bounded; when that is
//! too much, it is thrown away and the reader gets the state anew, which the cache has anyway.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use super::{Cache, CacheView};
use crate::error::Result;
use crate::locks::Mutex;
use crate::watch::notice::Event;

/// So many changes wait for a reader at most.
const MOST_EVENTS: usize = 10_000;

/// What a subscriber is told.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CacheNotice {
    /// All keys as they are: at first, and again when the reader was so slow that it would have missed changes.
    State(CacheView),
    /// What has changed since.
    Changes {
        /// The revision of the changes; or of the state that they lead to, where history was compacted or the cluster was restored.
        revision: i64,
        /// The changes, each with the key as it was before. After a gap they are in the order of their keys, one for each.
        events: Vec<Event>,
    },
}

/// The news of a cache. It keeps the cache; dropping it ends it. Its verbs may be called from any number of tasks; each thing
/// goes to one of them.
pub struct Subscription {
    cache: Cache,
    inbox: Arc<Inbox>,
}

/// What waits for one subscriber.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

struct Waiting {
    changes: VecDeque<(i64, Arc<[Event]>)>,
    events: usize,
    /// It has to be given the state: nothing waits until then.
    behind: bool,
    /// It wants nothing any more.
    cancelled: bool,
}

impl Default for Waiting {
    fn default() -> Waiting {
        Waiting {
            changes: VecDeque::new(),
            events: 0,
            behind: true,
            cancelled: false,
        }
    }
}

impl Subscription {
    pub(super) fn new(cache: Cache) -> Subscription {
        Subscription {
            cache,
            inbox: Arc::default(),
        }
    }

    /// Waits for the next thing; `None` when it was cancelled. Loses nothing when it is dropped.
    ///
    /// # Errors
    /// The cache has ended with it.
    pub async fn next(&self) -> Result<Option<CacheNotice>> {
        loop {
            let changed = self.inbox.changed.notified();
            let notice = self.take()?;
            if notice.is_some() || self.inbox.standing().1 {
                return Ok(notice);
            }
            changed.await;
        }
    }

    /// The same, with as much as has come already, up to `most` changes or little more.
    ///
    /// # Errors
    /// See [`Subscription::next`].
    pub async fn next_batch(&self, most: usize) -> Result<Option<Vec<CacheNotice>>> {
        let Some(first) = self.next().await? else {
            return Ok(None);
        };
        let mut changes = first.changes();
        let mut batch = vec![first];
        while changes < most
            && let Ok(Some(notice)) = self.take()
        {
            changes += notice.changes();
            batch.push(notice);
        }
        Ok(Some(batch))
    }

    /// Ends it: nothing more comes, not even what waits. Never waits itself.
    pub fn cancel(&self) {
        *self.inbox.waiting.lock() = Waiting {
            cancelled: true,
            ..Waiting::default()
        };
        self.inbox.wake();
    }

    fn take(&self) -> Result<Option<CacheNotice>> {
        let kept = self.cache.follower().kept();
        let (behind, cancelled) = self.inbox.standing();
        if cancelled {
            return Ok(None);
        }
        if behind {
            return Ok(Some(CacheNotice::State(kept.subscribe(&self.inbox)?)));
        }
        let taken = self.inbox.pop();
        if taken.is_none() {
            kept.read(|_| ())?;
        }
        Ok(taken.map(|(revision, events)| CacheNotice::Changes {
            revision,
            events: events.to_vec(),
        }))
    }
}

impl CacheNotice {
    fn changes(&self) -> usize {
        match self {
            CacheNotice::State(view) => view.kvs.len(),
            CacheNotice::Changes { events, .. } => events.len(),
        }
    }
}

impl Inbox {
    /// Nothing was missed from here on.
    pub(super) fn empty(&self) {
        let mut waiting = self.waiting.lock();
        *waiting = Waiting {
            behind: false,
            cancelled: waiting.cancelled,
            ..Waiting::default()
        };
    }

    /// Whether it is behind, and whether it was cancelled.
    fn standing(&self) -> (bool, bool) {
        let waiting = self.waiting.lock();
        (waiting.behind, waiting.cancelled)
    }

    /// A change for the reader, or one too many.
    pub(super) fn push(&self, revision: i64, events: &Arc<[Event]>) {
        let mut waiting = self.waiting.lock();
        if waiting.behind || waiting.cancelled {
            return;
        }
        if waiting.events + events.len() > MOST_EVENTS {
            *waiting = Waiting::default();
        } else {
            waiting.events += events.len();
            waiting.changes.push_back((revision, events.clone()));
        }
        drop(waiting);
        self.wake();
    }

    /// There is something to look at.
    pub(super) fn wake(&self) {
        self.changed.notify_waiters();
    }

    fn pop(&self) -> Option<(i64, Arc<[Event]>)> {
        let mut waiting = self.waiting.lock();
        let (revision, events) = waiting.changes.pop_front()?;
        waiting.events -= events.len();
        Some((revision, events))
    }
}
