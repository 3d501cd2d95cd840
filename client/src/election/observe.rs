//! Observe: who leads, as it changes, and that nobody does.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use keystead_proto::mvccpb::KeyValue;

use super::Election;
use crate::client::Client;
use crate::error::Result;
use crate::key_range::KeyRange;
use crate::lock::queue;
use crate::watch::Watch;
use crate::watch::notice::{Event, EventKind, Notice};
use crate::watch::watcher::Watcher;

/// What an observer is told.
#[derive(Clone, Debug, PartialEq)]
pub enum LeaderEvent {
    /// This one leads, and this is what it proclaimed last. The term is the key's create revision.
    Leader(KeyValue),
    /// Nobody leads.
    NoLeader,
    /// There is no connection, so what was told last may no longer be so. Who leads is told again when there is one.
    Disconnected,
}

/// Tells who leads. It goes on through everything that passes by itself; dropping it ends it.
pub struct Observer {
    client: Client,
    keys: KeyRange,
    /// Begins with the candidates as they are; none until the first question, and after an error.
    watcher: Option<Watcher>,
    /// By key, as of what was taken from `watcher`.
    candidates: HashMap<Bytes, KeyValue>,
    /// What was seen and not told yet: at most what one notice had.
    news: VecDeque<LeaderEvent>,
    /// The newest of all that was seen.
    seen: Option<LeaderEvent>,
}

impl Election {
    /// Tells who leads now, then every change: each value that a leader proclaims, each new leader, and when there is none. What changed
    /// and changed again in a history that was compacted meanwhile is not told.
    pub fn observe(&self) -> Observer {
        Observer {
            client: self.client.clone(),
            keys: KeyRange::prefix(queue(&self.name)),
            watcher: None,
            candidates: HashMap::new(),
            news: VecDeque::new(),
            seen: None,
        }
    }
}

impl Observer {
    /// Waits for the next news. Loses nothing when it is dropped.
    ///
    /// # Errors
    /// `PermissionDenied`, `Closed` and the like: what does not pass by itself. Asking again begins anew.
    pub async fn next(&mut self) -> Result<LeaderEvent> {
        loop {
            if let Some(news) = self.news.pop_front() {
                return Ok(news);
            }
            match self.notice().await {
                Ok(Some(notice)) => self.take(notice),
                // It has ended; the next one begins with the state.
                Ok(None) => self.watcher = None,
                Err(error) => {
                    self.watcher = None;
                    return Err(error);
                }
            }
        }
    }

    async fn notice(&mut self) -> Result<Option<Notice>> {
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => {
                let state_and_changes = Watch {
                    state_first: true,
                    ..Watch::new(self.keys.clone())
                };
                none.insert(self.client.watch(state_and_changes).await?)
            }
        };
        watcher.next().await
    }

    fn take(&mut self, notice: Notice) {
        match notice {
            Notice::Events { events, last, .. } | Notice::Diff { events, last, .. } => {
                events.into_iter().for_each(|event| self.apply(event));
                // What one transaction did is seen as one.
                if last {
                    self.look();
                }
            }
            Notice::Reset {
                page, kvs, last, ..
            } => {
                if page == 0 {
                    self.candidates.clear();
                }
                let kvs = kvs.into_iter().map(|kv| (kv.key.clone(), kv));
                self.candidates.extend(kvs);
                if last {
                    self.look();
                }
            }
            Notice::Disconnected { .. } => self.see(LeaderEvent::Disconnected),
            Notice::Resumed { .. } => self.look(),
            Notice::Progress { .. } => {}
        }
    }

    fn apply(&mut self, event: Event) {
        match event.kind {
            EventKind::Put => self.candidates.insert(event.kv.key.clone(), event.kv),
            EventKind::Delete => self.candidates.remove(&event.kv.key),
        };
    }

    fn look(&mut self) {
        let first = self.candidates.values().min_by_key(|kv| kv.create_revision);
        self.see(first.map_or(LeaderEvent::NoLeader, |kv| LeaderEvent::Leader(kv.clone())));
    }

    fn see(&mut self, event: LeaderEvent) {
        if self.seen.as_ref() != Some(&event) {
            self.seen = Some(event.clone());
            self.news.push_back(event);
        }
    }
}
