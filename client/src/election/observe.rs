//! Observe: who leads, as it changes, and that nobody does.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use keystead_proto::mvccpb::event::EventType;
use keystead_proto::mvccpb::{Event, KeyValue};
use tokio::time::sleep;

use super::Election;
use crate::backoff::ATTEMPTS;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::key_range::KeyRange;
use crate::kv::range::Range;
use crate::lock::changes::{Change, Changes};
use crate::lock::queue;
use crate::lock::ticket::passes;

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
    /// By key, as of what was read from `changes`.
    candidates: HashMap<Bytes, KeyValue>,
    /// None until the candidates were read, and when they have to be read again.
    changes: Option<Changes>,
    /// Reads and streams that failed, in a row.
    failures: u32,
    /// What was seen and not told yet: at most what one message of the server had.
    news: VecDeque<LeaderEvent>,
    /// The newest of all that was seen.
    seen: Option<LeaderEvent>,
}

impl Election {
    /// Tells who leads now, then every change: each value that a leader proclaims, each new leader, and when there is none. What changed
    /// and changed again while there was no connection is not told.
    pub fn observe(&self) -> Observer {
        Observer {
            client: self.client.clone(),
            keys: KeyRange::prefix(queue(&self.name)),
            candidates: HashMap::new(),
            changes: None,
            failures: 0,
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
            let went = match &mut self.changes {
                None => self.begin().await,
                Some(changes) => match changes.next().await {
                    Ok(Change::Events(events)) => {
                        self.failures = 0;
                        self.apply(events);
                        Ok(())
                    }
                    Ok(Change::Compacted) => {
                        self.changes = None;
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = went {
                self.failed(error).await?;
            }
        }
    }

    /// Reads the candidates and follows them from there.
    async fn begin(&mut self) -> Result<()> {
        let read = self.client.range(Range::new(self.keys.clone())).await?;
        let from = read.header.revision + 1;
        let changes = Changes::open(&self.client, self.keys.clone(), from, &[]).await?;
        self.changes = Some(changes);
        let candidates = read.kvs.into_iter();
        self.candidates = candidates.map(|kv| (kv.key.clone(), kv)).collect();
        self.look();
        Ok(())
    }

    /// Waits before the next attempt, if there is to be one.
    async fn failed(&mut self, error: Error) -> Result<()> {
        self.changes = None;
        if !passes(&error) {
            return Err(error);
        }
        self.see(LeaderEvent::Disconnected);
        self.failures = self.failures.saturating_add(1);
        if self.failures > 1 {
            sleep(ATTEMPTS.after(self.failures)).await;
        }
        Ok(())
    }

    fn apply(&mut self, events: Vec<Event>) {
        let mut events = events.into_iter().peekable();
        while let Some(event) = events.next() {
            let removed = event.r#type() == EventType::Delete;
            let Some(kv) = event.kv else {
                continue;
            };
            let revision = kv.mod_revision;
            if removed {
                self.candidates.remove(&kv.key);
            } else {
                self.candidates.insert(kv.key.clone(), kv);
            }
            // What one transaction did is seen as one.
            let more = events.peek().and_then(|next| next.kv.as_ref());
            if more.is_none_or(|next| next.mod_revision != revision) {
                self.look();
            }
        }
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
