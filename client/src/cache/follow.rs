//! The task of a cache: takes what the watch tells and puts it into the keys, a whole revision or a whole state at a time. It
//! ends with the watch.

use std::sync::Arc;

use tonic::Code;

use super::kept::{Kept, Keys, own};
use crate::error::{Error, Kind, Result};
use crate::watch::notice::{Event, Notice, ResetCause};
use crate::watch::watcher::Watcher;

/// The watch of a cache, and what came of it.
pub(super) struct Follower {
    watcher: Watcher,
    kept: Kept,
    most_bytes: usize,
}

/// What has come of a state or of a revision, and is not whole yet.
#[derive(Default)]
struct Parts {
    state: Keys,
    events: Vec<Event>,
    events_bytes: usize,
}

impl Follower {
    /// A watch that begins with the state, and no keys yet.
    pub(super) fn new(watcher: Watcher, most_bytes: usize) -> Arc<Follower> {
        Arc::new(Follower {
            watcher,
            kept: Kept::default(),
            most_bytes,
        })
    }

    pub(super) fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Runs until the watch ends, or the keys are too many.
    pub(super) async fn run(self: Arc<Self>) {
        let mut parts = Parts::default();
        let error = loop {
            let taken = match self.watcher.next().await {
                Ok(Some(notice)) => self.take(notice, &mut parts),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                break error;
            }
        };
        tracing::warn!(%error, "a cache has ended");
        self.watcher.cancel();
        self.kept.end(error);
    }

    /// # Errors
    /// `TooLarge`.
    fn take(&self, notice: Notice, parts: &mut Parts) -> Result<()> {
        match notice {
            Notice::Reset {
                cause,
                revision,
                page,
                kvs,
                last,
            } => {
                if page == 0 {
                    *parts = Parts::default();
                }
                kvs.into_iter()
                    .for_each(|kv| drop(parts.state.put(own(kv))));
                self.bounded(parts.state.bytes())?;
                if last {
                    let restored = cause == ResetCause::Restored;
                    let state = std::mem::take(&mut parts.state);
                    self.kept.replace(state, revision, restored);
                }
            }
            Notice::Events {
                revision,
                events,
                last,
            }
            | Notice::Diff {
                revision,
                events,
                last,
                ..
            } => {
                let bytes: usize = events.iter().map(Event::size_bytes).sum();
                parts.events_bytes += bytes;
                parts.events.extend(events);
                self.bounded(parts.events_bytes)?;
                if last {
                    parts.events_bytes = 0;
                    let events = std::mem::take(&mut parts.events);
                    self.bounded(self.kept.apply(events, revision))?;
                }
            }
            Notice::Progress { revision } => self.kept.progress(revision),
            Notice::Resumed { .. } => self.kept.troubled(None),
            Notice::Disconnected { error } => self.kept.troubled(Some(error)),
        }
        Ok(())
    }

    fn bounded(&self, bytes: usize) -> Result<()> {
        if bytes <= self.most_bytes {
            return Ok(());
        }
        let message = format!(
            "the keys take more than the cache's {} bytes",
            self.most_bytes
        );
        Err(Error::local(
            Kind::TooLarge,
            Code::ResourceExhausted,
            message,
        ))
    }
}
