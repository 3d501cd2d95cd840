//! One stream for all watches of a client, and the task that owns it (`conductor.rs`, which doubts what servers say and leave unsaid in
//! `doubt.rs`). It waits for nobody who reads: see `feed.rs`.
//!
//! A watch that has to be asked for its progress, as that of a cache, has a line of its own (`Lines::lone`).
//!
//! The task lives as long as there are watches. What the watchers change (a new watch, room again, no interest any more) is a
//! list of feeds to look at, each at most once in it.

mod conductor;
mod doubt;
mod stream;

use std::sync::{Arc, Weak};
use std::time::Duration;

use keystead_proto::etcdserverpb::WatchCreateRequest;
use tokio::sync::Notify;

use self::conductor::Conductor;
use super::feed::{Feed, Wishes};
use crate::channel::{Channel, Effect, Failure};
use crate::error::{Error, Result};
use crate::locks::Mutex;
use crate::options::{CallOptions, ConnectOptions};

/// When a silent stream is doubted.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// After so much silence it is asked for its progress.
    pub silence: Duration,
    /// So long that may go unanswered before the store is asked whether there was anything to tell.
    pub progress: Duration,
}

/// The lines of a client: one with and one without a leader being required, which is the whole stream's choice, and those of
/// watches that are alone.
pub(crate) struct Lines {
    strict: Arc<Line>,
    lax: Arc<Line>,
    lone: Mutex<Vec<Weak<Line>>>,
}

impl Lines {
    pub(crate) fn new(channel: &Channel, options: &ConnectOptions) -> Lines {
        let line = |requires_leader| {
            let call = CallOptions {
                requires_leader,
                ..options.call
            };
            let patience = Patience {
                silence: options.keepalive_interval,
                progress: options.keepalive_timeout,
            };
            Arc::new(Line::new(channel.clone(), call, patience, false))
        };
        Lines {
            strict: line(true),
            lax: line(false),
            lone: Mutex::default(),
        }
    }

    pub(super) fn get(&self, requires_leader: bool) -> Arc<Line> {
        let line = if requires_leader {
            &self.strict
        } else {
            &self.lax
        };
        line.clone()
    }

    /// A line for one watch.
    pub(super) fn lone(&self, requires_leader: bool) -> Arc<Line> {
        let Line {
            channel,
            call,
            patience,
            ..
        } = &*self.get(requires_leader);
        let line = Arc::new(Line::new(channel.clone(), *call, *patience, true));
        let mut lone = self.lone.lock();
        lone.retain(|line| line.strong_count() > 0);
        lone.push(Arc::downgrade(&line));
        line
    }

    /// Ends every watch.
    pub(crate) fn close(&self) {
        self.strict.close();
        self.lax.close();
        for line in self.lone.lock().drain(..) {
            if let Some(line) = line.upgrade() {
                line.close();
            }
        }
    }
}

/// The way from the watchers to the task.
pub(crate) struct Line {
    channel: Channel,
    call: CallOptions,
    patience: Patience,
    /// It has one watch, and no stream of it ever has another: so an answer about progress can't be one to a question from before
    /// the watch began.
    lone: bool,
    registry: Mutex<Registry>,
    changed: Notify,
    /// The stream is to be asked for its progress.
    nudged: Notify,
}

#[derive(Default)]
struct Registry {
    /// Feeds for the task to look at.
    touched: Vec<Arc<Feed>>,
    newest: u64,
    running: bool,
    closed: bool,
}

impl Line {
    fn new(channel: Channel, call: CallOptions, patience: Patience, lone: bool) -> Line {
        Line {
            channel,
            call,
            patience,
            lone,
            registry: Mutex::default(),
            changed: Notify::new(),
            nudged: Notify::new(),
        }
    }

    /// A new watch. A task is started unless there is one.
    ///
    /// # Errors
    /// `Closed`.
    pub(super) fn add(
        self: &Arc<Self>,
        request: WatchCreateRequest,
        wishes: Wishes,
        state_first: bool,
    ) -> Result<Arc<Feed>> {
        let mut registry = self.registry.lock();
        if registry.closed {
            return Err(closed());
        }
        registry.newest += 1;
        let feed = Arc::new(Feed::new(registry.newest, request, wishes, state_first));
        feed.touch();
        registry.touched.push(feed.clone());
        if !std::mem::replace(&mut registry.running, true) {
            tokio::spawn(Conductor::new(self.clone()).run());
        }
        drop(registry);
        self.changed.notify_one();
        Ok(feed)
    }

    /// The watcher of `feed` changed something. Never waits.
    pub(super) fn touch(&self, feed: &Arc<Feed>) {
        if feed.touch() {
            self.registry.lock().touched.push(feed.clone());
            self.changed.notify_one();
        }
    }

    /// Has a lone stream asked for its progress, now or when its watch is on it. Never waits.
    pub(super) fn nudge(&self) {
        if self.lone {
            self.nudged.notify_one();
        }
    }

    fn close(&self) {
        self.registry.lock().closed = true;
        self.changed.notify_one();
    }
}

fn closed() -> Error {
    Error::new(Failure::Closed, Effect::Read, "")
}
