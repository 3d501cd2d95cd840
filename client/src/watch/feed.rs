//! One watch, as its two sides see it: the line puts notices in and never waits, the watcher takes them out. What does not fit
//! is not kept: the watch leaves its stream and comes back with its cursor when the watcher has emptied the buffer.
//!
//! ```text
//!              created                 buffer full
//!   Wanted ──────────────► Active ──────────────────► Full ──► Wanted, when the watcher has taken everything
//!     ▲  ▲  stream ended     │  compacted, restored
//!     │  └───────────────────┼──────────────────────► Gap ───► Wanted, when the watcher has read the state
//!     │                      │  refused
//!     └── at first           └──────────────────────► Ended
//! ```

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use keystead_proto::etcdserverpb::WatchCreateRequest;
use keystead_seeded::{Bug, planted};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Code;

use super::joiner::{Joiner, Part, Piece};
use super::notice::{Lag, Notice, ResetCause};
use crate::error::{Error, Kind};
use crate::locks::Mutex;

/// The watch and its buffer.
pub(super) struct Feed {
    /// Which of its line's watches it is.
    pub number: u64,
    /// The line has not yet looked at what changed.
    pub touched: AtomicBool,
    /// As the server is asked, but for the revision to begin with and the id.
    request: WatchCreateRequest,
    wishes: Wishes,
    state: Mutex<State>,
    /// Something can be taken.
    changed: Notify,
}

/// What the user asked for that the server does not know.
#[derive(Clone, Copy)]
pub(super) struct Wishes {
    pub buffer_bytes: usize,
    pub progress: bool,
    /// A gap ends the watch.
    pub fail_on_gap: bool,
}

struct State {
    phase: Phase,
    notices: VecDeque<Notice>,
    bytes: usize,
    /// Everything up to this revision is in `notices` or was taken; none when "now" was asked and no server has said when that is.
    cursor: Option<i64>,
    /// The highest cursor that came from a server rather than from the user; a server below it has lost something.
    shown: i64,
    /// What came of the revision after the cursor.
    part: Part,
    /// Everything up to this revision was taken.
    taken: i64,
    /// It was on a stream, or needs none to begin.
    begun: bool,
    /// The watcher has been told, or will be, that it is cut off.
    cut_off: bool,
    /// What kept it from a stream last.
    failure: Option<Error>,
    /// It was certain at this time that `notices` and what was taken are all there is.
    proven: Instant,
    /// Since when something has been waiting in `notices`.
    waiting_since: Option<Instant>,
}

#[derive(Clone)]
enum Phase {
    /// It is to be on the stream.
    Wanted,
    /// It is.
    Active,
    /// It has left the stream because the watcher is slow.
    Full,
    /// The watcher has to read the state.
    Gap(ResetCause),
    /// Nothing more comes after `notices`, and then this error, once.
    Ended(Option<Error>),
}

/// What a watcher does that has nothing to take.
pub(super) enum Idle {
    /// Something has come meanwhile.
    Take,
    /// A gap is to be closed.
    ReadState,
    /// It ends, with the error unless that was told.
    Ended(Option<Error>),
    Wait,
}

impl Feed {
    /// A watch from `request.start_revision` on, or one that begins with the state.
    pub(super) fn new(
        number: u64,
        request: WatchCreateRequest,
        wishes: Wishes,
        state_first: bool,
    ) -> Feed {
        let start = request.start_revision;
        let phase = if state_first {
            Phase::Gap(ResetCause::Begun)
        } else {
            Phase::Wanted
        };
        let state = State {
            phase,
            notices: VecDeque::new(),
            bytes: 0,
            cursor: (start != 0).then_some(start.saturating_sub(1)),
            shown: 0,
            part: Part::default(),
            taken: start.saturating_sub(1).max(0),
            begun: state_first,
            cut_off: false,
            failure: None,
            proven: Instant::now(),
            waiting_since: None,
        };
        Feed {
            number,
            touched: AtomicBool::new(false),
            request,
            wishes,
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    // What the line does.

    /// It is to be on a stream, or is.
    pub(super) fn wants_stream(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Wanted | Phase::Active)
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Ended(_))
    }

    /// The first key of its range.
    pub(super) fn key(&self) -> &Bytes {
        &self.request.key
    }

    /// The highest revision that a server has vouched for.
    pub(super) fn shown(&self) -> i64 {
        self.state.lock().shown
    }

    /// The first revision that has not come; none when that is the server's to say.
    pub(super) fn next_revision(&self) -> Option<i64> {
        self.state.lock().next_revision()
    }

    /// The request that continues it under `watch_id`, and what joins the answers.
    pub(super) fn request(&self, watch_id: i64) -> (WatchCreateRequest, Joiner) {
        let state = self.state.lock();
        let request = WatchCreateRequest {
            start_revision: state.next_revision().unwrap_or(0),
            watch_id,
            ..self.request.clone()
        };
        (
            request,
            Joiner::new(self.wishes.buffer_bytes / 2, state.part),
        )
    }

    /// A server that is at `revision` has created it.
    pub(super) fn created(&self, revision: i64) {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Wanted) {
            return;
        }
        state.phase = Phase::Active;
        state.begun = true;
        state.failure = None;
        // Its revision is a place to continue from only when "now" was asked: a watch of the past has yet to be told it.
        if planted(Bug::ResumeFromCreated) {
            state.cursor = None;
        }
        let cursor = *state.cursor.get_or_insert(revision);
        if cursor <= revision {
            // Whoever asked for the cursor was right that there is such a revision.
            state.shown = state.shown.max(cursor);
        }
        if cursor == revision {
            state.prove(Instant::now());
        }
        if std::mem::take(&mut state.cut_off) {
            let told = matches!(state.notices.back(), Some(Notice::Disconnected { .. }));
            if told {
                // Nobody has seen it.
                state.pop_back();
            } else {
                state.push(Notice::Resumed { revision: cursor });
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Takes what came; false when the watch is to leave its stream, with nothing of the rest taken.
    pub(super) fn accept(&self, pieces: Vec<Piece>) -> bool {
        let mut state = self.state.lock();
        let mut on = true;
        for piece in pieces {
            on = state.accept(piece, self.wishes.buffer_bytes);
            if !on {
                break;
            }
        }
        drop(state);
        self.changed.notify_waiters();
        on
    }

    /// Everything up to `revision` has come, which was certain at `proven`.
    pub(super) fn progress(&self, revision: i64, proven: Instant) {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Active) || state.part.events > 0 {
            return;
        }
        if state.cursor.is_some_and(|cursor| cursor > revision) {
            return;
        }
        state.cursor = Some(revision);
        state.shown = state.shown.max(revision);
        state.prove(proven);
        if self.wishes.progress {
            if matches!(state.notices.back(), Some(Notice::Progress { .. })) {
                state.pop_back();
            }
            if state.bytes < self.wishes.buffer_bytes {
                state.push(Notice::Progress { revision });
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The store was at `revision` at the time `proven`: if the watch is as far, it is all there is.
    pub(super) fn prove(&self, revision: i64, proven: Instant) {
        let mut state = self.state.lock();
        if state.cursor.is_some_and(|cursor| cursor >= revision) {
            state.prove(proven);
        }
    }

    /// Its stream has gone, or none could be opened. `error` is none when nobody need know.
    pub(super) fn off_stream(&self, error: Option<&Error>) {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Wanted | Phase::Active) {
            return;
        }
        state.phase = Phase::Wanted;
        if let Some(error) = error {
            state.failure = Some(error.clone());
            state.cut_off(error);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// What comes next can't be had any more.
    pub(super) fn gap(&self, cause: ResetCause) {
        let mut state = self.state.lock();
        let never_shown = cause == ResetCause::Restored && state.shown == 0;
        if matches!(state.phase, Phase::Ended(_)) || never_shown {
            return;
        }
        state.begun = true;
        // The state that follows says that it is connected again.
        state.cut_off = false;
        state.part = Part::default();
        state.phase = match cause {
            _ if !self.wishes.fail_on_gap => Phase::Gap(cause),
            ResetCause::Restored => Phase::Ended(Some(restored())),
            ResetCause::Begun | ResetCause::Compacted { .. } => Phase::Ended(Some(compacted())),
        };
        drop(state);
        self.changed.notify_waiters();
    }

    /// Ends it with an error; what waits can still be taken.
    pub(super) fn end(&self, error: Error) {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Ended(_)) {
            state.phase = Phase::Ended(Some(error));
        }
        drop(state);
        self.changed.notify_waiters();
    }

    // What the watcher does.

    /// Waits until it was on a stream once.
    ///
    /// # Errors
    /// The watch was refused.
    pub(super) async fn begun(&self) -> Result<(), Error> {
        loop {
            let changed = self.changed.notified();
            {
                let state = self.state.lock();
                match &state.phase {
                    Phase::Ended(Some(error)) if !state.begun => return Err(error.clone()),
                    _ if state.begun => return Ok(()),
                    _ => {}
                }
            }
            changed.await;
        }
    }

    /// Why it is not on a stream, if that is known.
    pub(super) fn failure(&self) -> Option<Error> {
        self.state.lock().failure.clone()
    }

    /// Resolves when something may have changed since this was called.
    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Takes what waits. True when the line must be told: there is room again.
    pub(super) fn take(&self) -> Option<(Notice, bool)> {
        let mut state = self.state.lock();
        let notice = state.pop_front()?;
        let roomy = state.notices.is_empty() && matches!(state.phase, Phase::Full);
        if roomy {
            state.phase = Phase::Wanted;
        }
        Some((notice, roomy))
    }

    /// What is to be done while nothing waits.
    pub(super) fn idle(&self) -> Idle {
        let mut state = self.state.lock();
        if !state.notices.is_empty() {
            return Idle::Take;
        }
        match &mut state.phase {
            Phase::Gap(_) => Idle::ReadState,
            Phase::Ended(error) => Idle::Ended(error.take()),
            Phase::Wanted | Phase::Active | Phase::Full => Idle::Wait,
        }
    }

    /// The gap that the watcher has to close.
    pub(super) fn open_gap(&self) -> Option<ResetCause> {
        match self.state.lock().phase {
            Phase::Gap(cause) => Some(cause),
            _ => None,
        }
    }

    /// The state was read at `revision` and handed out: what follows it is wanted.
    pub(super) fn gap_closed(&self, revision: i64) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Gap(_)) {
            state.phase = Phase::Wanted;
            state.cursor = Some(revision);
            state.shown = revision;
            state.taken = revision;
            state.prove(Instant::now());
        }
    }

    /// The state can't be read: true when the watcher was not told yet that it is cut off.
    pub(super) fn gap_cut_off(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().cut_off, true)
    }

    /// Nothing more is wanted.
    pub(super) fn cancel(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Ended(None);
        state.notices.clear();
        state.bytes = 0;
        drop(state);
        self.changed.notify_waiters();
    }

    pub(super) fn lag(&self) -> Lag {
        let state = self.state.lock();
        let (revision, current) = match state.waiting_since {
            Some(since) => (state.taken, since),
            None => (state.cursor.unwrap_or(0), state.proven),
        };
        Lag {
            revision,
            staleness: current.elapsed(),
            buffered_bytes: state.bytes,
            connected: matches!(state.phase, Phase::Active),
        }
    }

    /// True when the line has to be told of a change and has not been.
    pub(super) fn touch(&self) -> bool {
        !self.touched.swap(true, Ordering::AcqRel)
    }
}

impl State {
    fn next_revision(&self) -> Option<i64> {
        if self.part.events > 0 {
            return Some(self.part.revision);
        }
        self.cursor.map(|cursor| cursor.saturating_add(1).max(1))
    }

    fn accept(&mut self, piece: Piece, most_bytes: usize) -> bool {
        if !matches!(self.phase, Phase::Active) {
            return false;
        }
        let Piece {
            revision,
            events,
            last,
        } = piece;
        let count = events.len();
        let notice = Notice::Events {
            revision,
            events,
            last,
        };
        // One that is larger than the buffer by itself goes in when nothing else is there.
        if !self.notices.is_empty() && self.bytes + notice.size_bytes() > most_bytes {
            self.phase = Phase::Full;
            return false;
        }
        let now = Instant::now();
        if self.waiting_since.is_none() {
            self.waiting_since = Some(now);
            self.taken = self.cursor.unwrap_or(0);
        }
        if last {
            self.cursor = Some(revision);
            self.shown = self.shown.max(revision);
            self.part = Part::default();
        } else {
            let before = if self.part.revision == revision {
                self.part.events
            } else {
                0
            };
            self.part = Part {
                revision,
                events: before + count,
            };
        }
        self.prove(now);
        self.push(notice);
        true
    }

    /// Tells the watcher, once, that it is cut off.
    fn cut_off(&mut self, error: &Error) {
        if !self.begun || std::mem::replace(&mut self.cut_off, true) {
            return;
        }
        // A pair that nobody has seen is one long interruption.
        if matches!(self.notices.back(), Some(Notice::Resumed { .. })) {
            self.pop_back();
            if matches!(self.notices.back(), Some(Notice::Disconnected { .. })) {
                self.pop_back();
            }
        }
        self.push(Notice::Disconnected {
            error: error.clone(),
        });
    }

    fn prove(&mut self, at: Instant) {
        self.proven = self.proven.max(at);
    }

    fn push(&mut self, notice: Notice) {
        self.bytes += notice.size_bytes();
        self.notices.push_back(notice);
    }

    fn pop_back(&mut self) {
        if let Some(notice) = self.notices.pop_back() {
            self.bytes -= notice.size_bytes();
        }
    }

    fn pop_front(&mut self) -> Option<Notice> {
        let notice = self.notices.pop_front()?;
        self.bytes -= notice.size_bytes();
        if let Notice::Events {
            revision,
            last: true,
            ..
        } = notice
        {
            self.taken = revision;
        }
        if self.notices.is_empty() {
            self.waiting_since = None;
        }
        Some(notice)
    }
}

/// What a watch that may not skip anything ends with when it would have to.
fn compacted() -> Error {
    let text = "etcdserver: mvcc: required revision has been compacted";
    Error::local(Kind::Compacted, Code::OutOfRange, text)
}

fn restored() -> Error {
    let text = "the cluster was restored: it is behind what was handed out";
    Error::local(Kind::FutureRevision, Code::OutOfRange, text)
}
