//! The watcher: what a user holds of a watch.

use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout_at};

use super::feed::{Feed, Idle, Wishes};
use super::line::Line;
use super::notice::{Lag, Notice};
use super::resync::{Part, Resync};
use super::tracked::Tracked;
use super::{OnGap, Watch};
use crate::backoff::ATTEMPTS;
use crate::channel::Effect;
use crate::client::Client;
use crate::error::{Error, Kind, Result};
use crate::locks::Mutex;

/// A running watch. It goes on through everything that passes by itself, and ends when it is cancelled or dropped, which never waits.
///
/// What it hands out is everything that happened to its keys, in order, each change once, a revision at a time; where history is
/// missing it says so, and what the state is. Its verbs may be called from any number of tasks; each thing goes to one of them.
pub struct Watcher {
    client: Client,
    line: Arc<Line>,
    feed: Arc<Feed>,
    watch: Watch,
    /// What was handed out, for those who want differences.
    tracked: Option<Mutex<Tracked>>,
    /// One task at a time reads the state.
    resync: tokio::sync::Mutex<Option<Resync>>,
}

impl Client {
    /// Watches keys. When it returns, the watch has begun: whatever is written from then on will be told.
    ///
    /// ```no_run
    /// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
    /// # use keystead_client::{EventKind, KeyRange, Notice, Watch};
    /// let watcher = client.watch(Watch::new(KeyRange::prefix("config/"))).await?;
    /// while let Some(notice) = watcher.next().await? {
    ///     match notice {
    ///         Notice::Events { revision, events, .. } => {
    ///             for event in events {
    ///                 match event.kind {
    ///                     EventKind::Put => println!("{revision}: {:?} = {:?}", event.kv.key, event.kv.value),
    ///                     EventKind::Delete => println!("{revision}: {:?} is gone", event.kv.key),
    ///                 }
    ///             }
    ///         }
    ///         // History was compacted while nobody was connected, or the cluster was restored: start over with this.
    ///         Notice::Reset { page, kvs, .. } => println!("page {page} of the state: {} keys", kvs.len()),
    ///         Notice::Disconnected { error } => println!("cut off for now: {error}"),
    ///         Notice::Resumed { .. } => println!("back, and nothing was missed"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument`, `PermissionDenied`: the watch was refused. `TooLarge`: the keys' names take more than 1 MiB. `Unavailable`, `DeadlineExceeded`: no member could begin it
    /// within the deadline. Later on none of these ends it but a refusal.
    pub async fn watch(&self, watch: Watch) -> Result<Watcher> {
        let line = self.watches().get(self.call_options().requires_leader);
        self.watch_on(line, watch).await
    }

    /// The same on a stream of its own, which can be asked for its progress.
    pub(crate) async fn watch_alone(&self, watch: Watch) -> Result<Watcher> {
        let line = self.watches().lone(self.call_options().requires_leader);
        self.watch_on(line, watch).await
    }

    async fn watch_on(&self, line: Arc<Line>, watch: Watch) -> Result<Watcher> {
        watch.check()?;
        let options = self.call_options();
        let wishes = Wishes {
            buffer_bytes: watch.buffer_bytes(),
            progress: watch.progress,
            fail_on_gap: watch.on_gap == OnGap::Fail,
        };
        let feed = line.add(watch.request(self.keys()), wishes, watch.state_first)?;
        let tracked = match watch.on_gap {
            OnGap::Diff { most_keys } => Some(Mutex::new(Tracked::new(most_keys as usize))),
            OnGap::Reset | OnGap::Fail => None,
        };
        let watcher = Watcher {
            client: self.clone(),
            line,
            feed,
            watch,
            tracked,
            resync: tokio::sync::Mutex::new(None),
        };
        let deadline = Instant::now() + options.deadline;
        match timeout_at(deadline, watcher.feed.begun()).await {
            Ok(begun) => begun.map(|()| watcher),
            Err(_) => {
                let failure = watcher.feed.failure();
                Err(failure.unwrap_or_else(|| Error::new(self.channel().late(), Effect::Read, "")))
            }
        }
    }
}

impl Watcher {
    /// Waits for the next thing; `None` when the watch has ended. Loses nothing when it is dropped.
    ///
    /// # Errors
    /// Why the watch ended, once: what it was refused for, or what [`OnGap::Fail`] says. What had come before was handed out.
    pub async fn next(&self) -> Result<Option<Notice>> {
        loop {
            let changed = self.feed.changed();
            if let Some(notice) = self.take() {
                return Ok(Some(notice));
            }
            match self.feed.idle() {
                Idle::Take => {}
                Idle::Ended(None) => return Ok(None),
                Idle::Ended(Some(error)) => return Err(error),
                Idle::Wait => changed.await,
                Idle::ReadState => {
                    let read = tokio::select! {
                        notice = self.read_state() => notice,
                        // It may have been cancelled meanwhile, or the gap be another one.
                        () = changed => None,
                    };
                    if let Some(notice) = read {
                        return Ok(Some(notice));
                    }
                }
            }
        }
    }

    /// The same, with as much as has come already, up to `most` changes or little more; `None` when the watch has ended.
    ///
    /// # Errors
    /// See [`Watcher::next`].
    pub async fn next_batch(&self, most: usize) -> Result<Option<Vec<Notice>>> {
        let Some(first) = self.next().await? else {
            return Ok(None);
        };
        let mut changes = first.changes();
        let mut batch = vec![first];
        while changes < most
            && let Some(notice) = self.take()
        {
            changes += notice.changes();
            batch.push(notice);
        }
        Ok(Some(batch))
    }

    /// Ends the watch: nothing more comes, not even what waits. Never waits itself.
    pub fn cancel(&self) {
        self.feed.cancel();
        self.line.touch(&self.feed);
    }

    /// Asks the server for its progress, if the watch is alone on its stream: a watch beside it that begins above the store's revision,
    /// as one does that waits for what comes next, would keep the answer back.
    pub(crate) fn nudge(&self) {
        self.line.nudge();
    }

    /// How far behind it is.
    pub fn lag(&self) -> Lag {
        self.feed.lag()
    }

    /// What is watched.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    fn take(&self) -> Option<Notice> {
        // Noted in the order of taking.
        let mut tracked = self.tracked.as_ref().map(Mutex::lock);
        let (notice, roomy) = self.feed.take()?;
        if roomy {
            self.line.touch(&self.feed);
        }
        let notice = notice.strip(self.client.keys());
        if let Some(tracked) = &mut tracked {
            tracked.note(&notice);
        }
        Some(notice)
    }

    /// A part of the state, or that it can't be had for now; `None` when there is something else to look at.
    async fn read_state(&self) -> Option<Notice> {
        let mut resync = self.resync.lock().await;
        let mut failures = 0;
        loop {
            let cause = self.feed.open_gap()?;
            if resync.as_ref().is_some_and(|resync| resync.cause != cause) {
                *resync = None;
            }
            let reading = resync.get_or_insert_with(|| {
                let tracked = self.tracked.as_ref();
                let known = tracked.is_some_and(|tracked| tracked.lock().is_whole());
                Resync::new(&self.client, self.watch.keys.clone(), cause, known)
            });
            let error = match reading.next(self.tracked.as_ref()).await {
                Ok(Part { notice, closed_at }) => {
                    if let Some(revision) = closed_at {
                        *resync = None;
                        self.feed.gap_closed(revision);
                        self.line.touch(&self.feed);
                    }
                    return Some(notice);
                }
                Err(error) => error,
            };
            failures += 1;
            if error.kind == Kind::Compacted {
                *resync = None;
            } else if !error.retryable {
                self.feed.end(error);
                return None;
            } else if self.feed.gap_cut_off() {
                return Some(Notice::Disconnected { error });
            }
            sleep(ATTEMPTS.after(failures)).await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.cancel();
    }
}
