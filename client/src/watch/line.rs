//! One stream for all watches of a client, and the task that owns it: it opens the stream, creates the watches on it, sorts what
//! comes, asks a silent stream for its progress, and starts again when it ends. It waits for nobody who reads: see `feed.rs`.
//!
//! A watch that has to be asked for its progress, as that of a cache, has a line of its own (`Lines::lone`).
//!
//! The task lives as long as there are watches. What the watchers change (a new watch, room again, no interest any more) is a
//! list of feeds to look at, each at most once in it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{RangeRequest, WatchCreateRequest, WatchResponse};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::feed::{Feed, Wishes};
use super::joiner::Joiner;
use super::notice::ResetCause;
use super::refusal::{passes, reason};
use super::stream::{Check, Stream, checked};
use crate::backoff::ATTEMPTS;
use crate::channel::{Channel, Effect, Failure, rpc};
use crate::error::{Error, Result};
use crate::header::Header;
use crate::options::{CallOptions, ConnectOptions};
use crate::telemetry::{WatchChange, WatchEvent};

/// So many creations may be unanswered: what is sent is kept until the server takes it.
const CREATIONS_ON_THE_WAY: usize = 128;
/// A stream that lasted less counts as a failure, so that one which ends at once is not opened without a pause.
const SETTLED: Duration = Duration::from_secs(1);
/// The id in answers about the whole stream.
const NO_WATCH: i64 = -1;

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

/// The task.
struct Conductor {
    line: Arc<Line>,
    slots: HashMap<u64, Slot>,
    /// Watches to create.
    queue: VecDeque<u64>,
    /// When a stream may be opened, after failures.
    not_before: Option<Instant>,
    /// In a row.
    failures: u32,
    /// Why there is no stream.
    failure: Option<Error>,
    /// The cluster that all members must be of; 0 until one has answered.
    cluster: u64,
    /// The highest term that was seen in it.
    term: u64,
    /// Endpoints that spoke for another cluster, and for which.
    strangers: HashMap<String, u64>,
    /// A linearizable read has just shown that the cluster lost nothing: the next member is merely behind.
    lenient: bool,
    /// It has ended by itself, and another task may have taken its place.
    done: bool,
}

struct Slot {
    feed: Arc<Feed>,
    /// It waits in the queue.
    queued: bool,
    /// Its id on the stream, and what joins what comes.
    on: Option<(i64, Joiner)>,
}

/// Why a stream is left.
enum End {
    /// No watch is left.
    Idle,
    /// The client was closed.
    Closed,
    /// It ended, or must.
    Broken(Error),
    /// What the member says is behind what was shown.
    Suspect,
    /// The member is of this other cluster.
    Stranger(u64),
    /// The watch of a lone line begins again.
    Used,
}

impl Conductor {
    fn new(line: Arc<Line>) -> Conductor {
        Conductor {
            line,
            slots: HashMap::new(),
            queue: VecDeque::new(),
            not_before: None,
            failures: 0,
            failure: None,
            cluster: 0,
            term: 0,
            strangers: HashMap::new(),
            lenient: false,
            done: false,
        }
    }

    async fn run(mut self) {
        while self.has_watches() {
            let Some(mut stream) = self.open().await else {
                continue;
            };
            let end = self.serve(&mut stream).await;
            self.leave(stream, end).await;
        }
    }

    /// Looks at what the watchers changed. False when no watch is left; the task must end then.
    fn has_watches(&mut self) -> bool {
        self.look(None);
        let mut registry = self.line.registry.lock();
        if registry.closed {
            drop(registry);
            self.end_all(&closed());
            registry = self.line.registry.lock();
        }
        let any = !self.slots.is_empty() || !registry.touched.is_empty();
        registry.running = any;
        self.done = !any;
        any
    }

    fn look(&mut self, mut stream: Option<&mut Stream>) {
        let touched = std::mem::take(&mut self.line.registry.lock().touched);
        for feed in touched {
            feed.touched.store(false, Ordering::Release);
            if feed.has_ended() {
                let slot = self.slots.remove(&feed.number);
                if let (Some(stream), Some((id, _))) =
                    (stream.as_deref_mut(), slot.and_then(|slot| slot.on))
                {
                    stream.cancel(id);
                }
                continue;
            }
            if stream.is_none()
                && let Some(failure) = &self.failure
            {
                feed.off_stream(Some(failure));
            }
            let slot = self.slots.entry(feed.number).or_insert_with(|| Slot {
                feed,
                queued: false,
                on: None,
            });
            slot.enqueue(&mut self.queue);
        }
    }

    /// Opens a stream; `None` when that failed, or when the watchers changed something meanwhile.
    async fn open(&mut self) -> Option<Stream> {
        let line = self.line.clone();
        let open = async {
            if let Some(when) = self.not_before {
                sleep_until(when).await;
            }
            line.channel.open(&rpc::WATCH, &line.call).await
        };
        let opened = tokio::select! {
            opened = open => opened,
            () = line.changed.notified() => return None,
        };
        match opened {
            Ok((requests, answers)) => Some(Stream::new(requests, answers)),
            Err(error) => {
                self.failed(error);
                None
            }
        }
    }

    /// Runs the stream until it is to be left.
    async fn serve(&mut self, stream: &mut Stream) -> End {
        let line = self.line.clone();
        let timer = sleep_until(Instant::now());
        tokio::pin!(timer);
        loop {
            if let Some(end) = self.create(stream) {
                return end;
            }
            tokio::select! {
                // What has come is looked at before any patience is at its end.
                biased;
                answer = stream.answers.next() => {
                    let end = match answer {
                        Ok(Some(answer)) => self.answer(stream, answer),
                        Ok(None) => Some(End::Broken(ended(stream))),
                        Err(error) => Some(End::Broken(error)),
                    };
                    if let Some(end) = end {
                        return end;
                    }
                }
                () = line.changed.notified() => {
                    self.look(Some(stream));
                    if line.registry.lock().closed {
                        return End::Closed;
                    }
                    if self.slots.is_empty() {
                        return End::Idle;
                    }
                }
                () = line.nudged.notified(), if stream.is_settled() => stream.ask(),
                checked = checked(&mut stream.check) => {
                    if let Some(end) = self.checked(stream, checked) {
                        return end;
                    }
                }
                () = &mut timer => {
                    match self.overdue(stream) {
                        Ok(next) => timer.as_mut().reset(next),
                        Err(end) => return end,
                    }
                }
            }
        }
    }

    /// What follows the end of a stream.
    async fn leave(&mut self, stream: Stream, end: End) {
        let settled = stream.opened.elapsed() >= SETTLED;
        if settled {
            self.failures = 0;
        }
        match end {
            End::Idle => {}
            End::Closed => self.end_all(&closed()),
            End::Broken(error) => {
                self.lenient = false;
                self.failed(error);
                if settled {
                    self.not_before = None;
                }
            }
            End::Suspect => {
                drop(stream);
                self.take_off(None);
                self.verify().await;
            }
            End::Stranger(cluster) => self.met(&stream, cluster),
            End::Used => self.take_off(None),
        }
    }

    /// There is no stream because of `error`.
    fn failed(&mut self, error: Error) {
        if !passes(&error) {
            self.end_all(&error);
            return;
        }
        self.take_off(Some(&error));
        if self.failure.is_none() {
            self.report(WatchEvent::Disconnected, &error.message);
        }
        self.failure = Some(error);
        self.failures = self.failures.saturating_add(1);
        // The endpoint that failed is ejected for about as long as this would wait: there is another one to go to at once.
        let others = (self.failures as usize) < self.line.channel.endpoints();
        self.not_before = (!others).then(|| Instant::now() + ATTEMPTS.after(self.failures));
    }

    fn report(&self, event: WatchEvent, reason: &str) {
        if let Some(sink) = self.line.channel.sink() {
            sink.get().watch(&WatchChange {
                event,
                watches: self.slots.len(),
                reason,
            });
        }
    }

    fn take_off(&mut self, error: Option<&Error>) {
        self.queue.clear();
        for slot in self.slots.values_mut() {
            slot.on = None;
            slot.queued = false;
            slot.feed.off_stream(error);
            slot.enqueue(&mut self.queue);
        }
    }

    fn end_all(&mut self, error: &Error) {
        self.queue.clear();
        for (_, slot) in self.slots.drain() {
            slot.feed.end(error.clone());
        }
    }

    /// A member was behind what was shown. That is nothing when it lags, and a loss when the whole cluster is.
    async fn verify(&mut self) {
        let shown = self.slots.values().map(|slot| slot.feed.shown()).max();
        let Some(key) = self.slots.values().next().map(|slot| slot.feed.key()) else {
            return;
        };
        match read(self.line.clone(), key.clone()).await {
            Ok(header) if header.cluster_id != self.cluster => {
                self.failed(stranger(header.cluster_id, ""));
            }
            Ok(header) => {
                if header.revision < shown.unwrap_or(0) || header.raft_term < self.term {
                    self.restored(header);
                }
                self.lenient = true;
            }
            Err(error) => self.failed(error),
        }
    }

    fn restored(&mut self, header: Header) {
        tracing::warn!(
            revision = header.revision,
            "the cluster is behind what was shown: it was restored"
        );
        self.term = header.raft_term;
        for slot in self.slots.values() {
            slot.feed.gap(ResetCause::Restored);
        }
        self.queue.retain(|number| {
            self.slots
                .get(number)
                .is_some_and(|slot| slot.feed.wants_stream())
        });
        for slot in self.slots.values_mut() {
            slot.queued &= slot.feed.wants_stream();
        }
    }

    /// A member of another cluster is left. When every endpoint speaks for the same other one, ours is no more: it was restored.
    fn met(&mut self, stream: &Stream, cluster: u64) {
        let endpoint = stream.answers.endpoint();
        self.strangers.insert(endpoint.to_owned(), cluster);
        let agreeing = self.strangers.values().filter(|&&id| id == cluster);
        if agreeing.count() < self.line.channel.endpoints() {
            stream.answers.blame();
            self.failed(stranger(cluster, endpoint));
            return;
        }
        self.strangers.clear();
        self.cluster = cluster;
        self.take_off(None);
        self.restored(Header::default());
        self.lenient = true;
    }

    /// Sends the creations that wait, as many as may be on the way.
    fn create(&mut self, stream: &mut Stream) -> Option<End> {
        while stream.unanswered.len() < CREATIONS_ON_THE_WAY {
            let number = self.queue.pop_front()?;
            let Some(slot) = self.slots.get_mut(&number) else {
                continue;
            };
            slot.queued = false;
            if slot.on.is_some() || !slot.feed.wants_stream() {
                continue;
            }
            if self.line.lone && stream.newest_id > 0 {
                return Some(End::Used);
            }
            stream.newest_id += 1;
            let id = stream.newest_id;
            let (request, joiner) = slot.feed.request(id);
            slot.on = Some((id, joiner));
            stream.ids.insert(id, number);
            if stream.unanswered.is_empty() {
                stream.creating = Instant::now();
            }
            stream.unanswered.push_back(id);
            stream.send(RequestUnion::CreateRequest(request));
        }
        None
    }

    fn answer(&mut self, stream: &mut Stream, answer: WatchResponse) -> Option<End> {
        stream.heard = Instant::now();
        let asked = stream.asked.take();
        let header = Header::from(answer.header);
        if header.cluster_id != 0 && self.cluster != 0 && header.cluster_id != self.cluster {
            return Some(End::Stranger(header.cluster_id));
        }
        if (1..self.term).contains(&header.raft_term) && !self.lenient {
            return Some(End::Suspect);
        }
        if header.cluster_id != 0 {
            self.cluster = header.cluster_id;
        }
        self.term = self.term.max(header.raft_term);
        if answer.created {
            return self.created(stream, answer, header);
        }
        if answer.watch_id == NO_WATCH {
            // Of a lone line many questions may be on the way.
            let newest = if self.line.lone {
                stream.newest_id
            } else {
                stream.asked_for.take()?
            };
            let when = asked.unwrap_or(stream.heard);
            for (_, number) in stream.ids.iter().filter(|&(&id, _)| id <= newest) {
                if let Some(slot) = self.slots.get(number) {
                    slot.feed.progress(header.revision, when);
                }
            }
            return None;
        }
        // What comes for a watch that has left the stream is of no interest.
        let number = *stream.ids.get(&answer.watch_id)?;
        if answer.canceled {
            return self.cancelled(stream, number, answer.watch_id, &answer);
        }
        let slot = self.slots.get_mut(&number)?;
        let (id, joiner) = slot.on.as_mut()?;
        if answer.events.is_empty() && !answer.fragment && joiner.is_empty() {
            slot.feed.progress(header.revision, stream.heard);
            return None;
        }
        let pieces = joiner.push(answer.events, answer.fragment);
        if !slot.feed.accept(pieces) {
            let id = *id;
            slot.on = None;
            stream.cancel(id);
            // Its watcher may have made room since.
            slot.enqueue(&mut self.queue);
        }
        None
    }

    /// The answer to the oldest creation that has none.
    fn created(
        &mut self,
        stream: &mut Stream,
        answer: WatchResponse,
        header: Header,
    ) -> Option<End> {
        let id = stream.unanswered.pop_front()?;
        stream.creating = stream.heard;
        if self.failure.take().is_some() {
            self.report(WatchEvent::Resumed, "");
        }
        self.strangers.remove(stream.answers.endpoint());
        let number = *stream.ids.get(&id)?;
        if answer.canceled {
            return self.cancelled(stream, number, id, &answer);
        }
        let slot = self.slots.get_mut(&number)?;
        if answer.watch_id != id {
            // Something between us and the server gives ids of its own.
            stream.ids.remove(&id);
            stream.ids.insert(answer.watch_id, number);
            if let Some((id, _)) = &mut slot.on {
                *id = answer.watch_id;
            }
        }
        if header.revision < slot.feed.shown() && !self.lenient {
            return Some(End::Suspect);
        }
        slot.feed.created(header.revision);
        None
    }

    /// The server has cancelled a watch, or never begun it.
    fn cancelled(
        &mut self,
        stream: &mut Stream,
        number: u64,
        id: i64,
        answer: &WatchResponse,
    ) -> Option<End> {
        stream.ids.remove(&id);
        let slot = self.slots.get_mut(&number)?;
        slot.on = None;
        if answer.compact_revision > 0 {
            slot.feed.gap(ResetCause::Compacted {
                revision: answer.compact_revision,
            });
        } else {
            let (code, message) = reason(&answer.cancel_reason, answer.created);
            let error = stream.answers.refusal(Failure::Status { code, message });
            if passes(&error) {
                return Some(End::Broken(error));
            }
            slot.feed.end(error);
        }
        if slot.feed.has_ended() {
            self.slots.remove(&number);
        }
        self.slots.is_empty().then_some(End::Idle)
    }

    /// The timer has fired: what is due, and when to look again.
    fn overdue(&self, stream: &mut Stream) -> Result<Instant, End> {
        let now = Instant::now();
        let patience = self.line.patience;
        if stream.check.is_some() {
            return Ok(now + patience.silence);
        }
        if !stream.unanswered.is_empty() {
            let due = stream.creating + self.line.call.deadline;
            if now < due {
                return Ok(due.min(now + patience.silence));
            }
            return Err(hung(stream));
        }
        if stream.ids.is_empty() {
            return Ok(now + patience.silence);
        }
        let Some(asked) = stream.asked else {
            let due = stream.heard + patience.silence;
            if now < due {
                return Ok(due);
            }
            stream.ask();
            return Ok(now + patience.progress);
        };
        let due = asked + patience.progress;
        if now < due {
            return Ok(due);
        }
        // No answer may mean that a watch begins above the store's revision, as every watch of an idle store does once it
        // has resumed. Then there is nothing to tell, which the store can say.
        if let Some(slot) = self.slots.values().find(|slot| slot.on.is_some()) {
            let read = read(self.line.clone(), slot.feed.key().clone());
            stream.check = Some(Check {
                sent: now,
                read: Box::pin(read),
            });
        }
        Ok(now + patience.silence)
    }

    /// The store has said how far it is, while the stream said nothing.
    fn checked(&mut self, stream: &mut Stream, checked: Result<Header>) -> Option<End> {
        let sent = stream.check.take()?.sent;
        let silent = stream.asked.take().is_some();
        let header = checked.ok()?;
        if !silent || header.cluster_id != self.cluster {
            return None;
        }
        let mut idle = false;
        for slot in self.slots.values().filter(|slot| slot.on.is_some()) {
            slot.feed.prove(header.revision, sent);
            let next = slot.feed.next_revision();
            idle |= next.is_none_or(|next| next > header.revision);
        }
        stream.heard = Instant::now();
        (!idle).then(|| hung(stream))
    }
}

impl Drop for Conductor {
    /// The runtime may end under the task.
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.end_all(&closed());
        let mut registry = self.line.registry.lock();
        registry.running = false;
        for feed in registry.touched.drain(..) {
            feed.end(closed());
        }
    }
}

impl Slot {
    /// Has it created when it wants to be.
    fn enqueue(&mut self, queue: &mut VecDeque<u64>) {
        if self.on.is_none() && !self.queued && self.feed.wants_stream() {
            self.queued = true;
            queue.push_back(self.feed.number);
        }
    }
}

/// A stream that should have said something and did not.
fn hung(stream: &Stream) -> End {
    stream.answers.blame();
    let failure = Failure::Broken("the watch stream has fallen silent".to_owned());
    End::Broken(Error::new(failure, Effect::Read, stream.answers.endpoint()))
}

fn ended(stream: &Stream) -> Error {
    let failure = Failure::Broken("the server ended the watch stream".to_owned());
    Error::new(failure, Effect::Read, stream.answers.endpoint())
}

fn stranger(cluster: u64, endpoint: &str) -> Error {
    let text = format!("the member belongs to another cluster, {cluster:x}");
    Error::new(Failure::Unreachable(text), Effect::Read, endpoint)
}

fn closed() -> Error {
    Error::new(Failure::Closed, Effect::Read, "")
}

/// How far the cluster is, by a linearizable read of a key that the user may read.
async fn read(line: Arc<Line>, key: Bytes) -> Result<Header> {
    let request = RangeRequest {
        // A watch may begin at the empty key, a range may not.
        key: if key.is_empty() {
            Bytes::from_static(b"\0")
        } else {
            key
        },
        limit: 1,
        keys_only: true,
        ..Default::default()
    };
    let answer = line.channel.call(&rpc::RANGE, &request, &line.call).await?;
    Ok(answer.header.into())
}
