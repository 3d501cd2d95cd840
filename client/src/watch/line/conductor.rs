//! The task of a line: it opens the stream, creates the watches on it, sorts what comes, and starts again when it ends.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keystead_proto::etcdserverpb::WatchResponse;
use tokio::time::{Instant, sleep_until};

use super::stream::{Stream, checked};
use super::{Line, closed};
use crate::backoff::ATTEMPTS;
use crate::channel::{Effect, Failure, rpc};
use crate::error::Error;
use crate::header::Header;
use crate::telemetry::{WatchChange, WatchEvent};
use crate::watch::feed::Feed;
use crate::watch::joiner::Joiner;
use crate::watch::notice::ResetCause;
use crate::watch::refusal::{passes, reason};

/// So many creations may be unanswered: what is sent is kept until the server takes it.
const CREATIONS_ON_THE_WAY: usize = 128;
/// A stream that lasted less counts as a failure, so that one which ends at once is not opened without a pause.
const SETTLED: Duration = Duration::from_secs(1);
/// The id in answers about the whole stream.
const NO_WATCH: i64 = -1;

/// The task, with the watches that it looks after.
pub(super) struct Conductor {
    pub(super) line: Arc<Line>,
    pub(super) slots: HashMap<u64, Slot>,
    /// Watches to create.
    pub(super) queue: VecDeque<u64>,
    /// When a stream may be opened, after failures.
    not_before: Option<Instant>,
    /// In a row.
    failures: u32,
    /// Why there is no stream.
    failure: Option<Error>,
    /// The cluster that all members must be of; 0 until one has answered.
    pub(super) cluster: u64,
    /// The highest term that was seen in it.
    pub(super) term: u64,
    /// Endpoints that spoke for another cluster, and for which.
    pub(super) strangers: HashMap<String, u64>,
    /// A linearizable read has just shown that the cluster lost nothing: the next member is merely behind.
    pub(super) lenient: bool,
    /// It has ended by itself, and another task may have taken its place.
    done: bool,
}

pub(super) struct Slot {
    pub(super) feed: Arc<Feed>,
    /// It waits in the queue.
    pub(super) queued: bool,
    /// Its id on the stream, and what joins what comes.
    pub(super) on: Option<(i64, Joiner)>,
    /// It left the stream, which the server has yet to answer. etcd sends a watch's history whole, however long, if it has read it before
    /// it comes to say that the watch was created; once it has answered this, it has sent all that was before.
    leaving: bool,
}

/// Why a stream is left.
pub(super) enum End {
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
    pub(super) fn new(line: Arc<Line>) -> Conductor {
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

    pub(super) async fn run(mut self) {
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
                leaving: false,
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
    pub(super) fn failed(&mut self, error: Error) {
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

    pub(super) fn take_off(&mut self, error: Option<&Error>) {
        self.queue.clear();
        for slot in self.slots.values_mut() {
            slot.on = None;
            slot.leaving = false;
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
            stream.create(number, request);
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
        if answer.canceled
            && let Some(number) = stream.leaving.remove(&answer.watch_id)
        {
            stream.owing = stream.heard;
            let slot = self.slots.get_mut(&number)?;
            slot.leaving = false;
            // Its watcher may have made room since.
            slot.enqueue(&mut self.queue);
            return None;
        }
        // What else comes for a watch that has left the stream is of no interest.
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
            slot.leaving = true;
            stream.leave(id, number);
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
        stream.owing = stream.heard;
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
        if self.on.is_none() && !self.leaving && !self.queued && self.feed.wants_stream() {
            self.queued = true;
            queue.push_back(self.feed.number);
        }
    }
}

fn ended(stream: &Stream) -> Error {
    let failure = Failure::Broken("the server ended the watch stream".to_owned());
    Error::new(failure, Effect::Read, stream.answers.endpoint())
}
