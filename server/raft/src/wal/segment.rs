//! Segment files, and the thread that keeps one ready ahead: it takes files whose entries are all
//! purged and gives them the next numbers, or makes a file of zeros when there is none.
//!
//! The writer takes ready segments and hands back spent ones. A file is never unlinked while it can be
//! used again. Stale bytes in a recycled file are harmless: every batch names its segment's number.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use keystead_seeded::{Bug, planted};
use parking_lot::Mutex;

use super::batch::SECTOR_BYTES;
use super::counters::Counting;
use super::error::WalError;
use super::files::{File, Files, fill_with_zeros};
use crate::blocking::Bell;

const SUFFIX: &str = ".wal";
/// How long to wait for space before a segment is tried again.
const SPACE_WAIT: Duration = Duration::from_millis(500);
/// A segment under construction; it is found only after a crash, and removed.
const UNFINISHED: &str = "unfinished.tmp";

/// One segment file.
pub(super) struct Segment {
    pub number: u64,
    pub file: Box<dyn File>,
    pub len: u64,
}

impl Segment {
    pub(super) fn name(&self) -> String {
        name(self.number)
    }

    /// Lengthens the segment to take a batch that is larger than a whole one. Failed, it is as good as before.
    fn grow(&mut self, len: u64) -> io::Result<()> {
        fill_with_zeros(&*self.file, self.len, len)?;
        self.len = len;
        Ok(())
    }
}

pub(super) fn name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}

/// The number in a segment's name; `None` for any other file.
pub(super) fn number(file_name: &str) -> Option<u64> {
    let digits = file_name
        .strip_suffix(SUFFIX)
        .filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Removes what a crash left half made.
pub(super) fn remove_unfinished(files: &dyn Files, names: &[String]) -> io::Result<()> {
    if names.iter().any(|name| name == UNFINISHED) {
        files.unlink(UNFINISHED)?;
    }
    Ok(())
}

/// The segments that are ready to be written, and those whose entries are gone.
pub(super) struct Pool {
    files: Arc<dyn Files>,
    segment_bytes: u64,
    ready_max: usize,
    counting: Arc<Counting>,
    state: Mutex<State>,
    changed: Bell,
}

struct State {
    /// Numbered one after the other, and behind the segment that is being written.
    ready: VecDeque<Segment>,
    /// In ascending order; recycled in that order, so that a crash leaves no hole in the numbers.
    spent: VecDeque<Arc<Segment>>,
    next_number: u64,
    failure: Option<WalError>,
    /// How many times in a row there was no space for the next segment.
    short: u32,
    /// And how many times none to lengthen it to the size of a batch.
    too_short: u32,
    /// The log is being closed: nobody waits for space any more.
    hurried: bool,
    closing: bool,
}

impl State {
    /// There is no segment for the writer, and there may be one later.
    fn is_empty(&mut self) -> bool {
        self.ready.is_empty() && self.failure.is_none() && !(self.short > 0 && self.hurried)
    }

    /// There is nothing to prepare.
    fn is_idle(&mut self) -> bool {
        self.spent.is_empty() && !self.ready.is_empty() && !self.is_over()
    }

    /// Nothing will be prepared any more.
    fn is_over(&self) -> bool {
        self.closing || self.failure.is_some()
    }

    /// Takes note that there was no space for a longer segment. Says whether it is waited for.
    fn lacks_length(&mut self) -> bool {
        self.too_short += u32::from(!self.hurried);
        !self.hurried
    }
}

impl Pool {
    pub(super) fn holding(
        files: Arc<dyn Files>,
        segment_bytes: u64,
        ready_max: usize,
        counting: Arc<Counting>,
        ready: VecDeque<Segment>,
        next_number: u64,
    ) -> Pool {
        let segment_bytes = segment_bytes
            .max(SECTOR_BYTES)
            .next_multiple_of(SECTOR_BYTES);
        let state = State {
            ready,
            spent: VecDeque::new(),
            next_number,
            failure: None,
            short: 0,
            too_short: 0,
            hurried: false,
            closing: false,
        };
        Pool {
            files,
            segment_bytes,
            ready_max,
            counting,
            state: Mutex::new(state),
            changed: Bell::default(),
        }
    }

    /// Takes the next segment, of at least `len` bytes, waiting for it when the writer is faster than the disk makes zeros,
    /// and as long as there is no space.
    pub(super) async fn take(&self, len: u64) -> Result<Segment, WalError> {
        let mut segment = {
            let mut state = self.changed.wait_while(&self.state, State::is_empty).await;
            let Some(segment) = state.ready.pop_front() else {
                return Err(state.failure.clone().unwrap_or(WalError::Closed));
            };
            segment
        };
        self.changed.ring_all();
        if segment.len < len {
            self.lengthen(&mut segment, len).await?;
        }
        Ok(segment)
    }

    /// Nothing is in the segment yet, so that it may be tried again and again.
    async fn lengthen(&self, segment: &mut Segment, len: u64) -> Result<(), WalError> {
        let failed = self.failed("lengthen", &segment.name());
        loop {
            match segment.grow(len).map_err(&failed) {
                Err(failure) if failure.is_for_want_of_space() => {
                    if !self.state.lock().lacks_length() {
                        return Err(WalError::Closed);
                    }
                    let waits = |state: &mut State| !state.hurried;
                    self.changed
                        .wait_while_for(&self.state, SPACE_WAIT, waits)
                        .await;
                }
                grown => {
                    self.state.lock().too_short = 0;
                    return grown;
                }
            }
        }
    }

    /// Hands over segments that no entry needs any more, in ascending order.
    pub(super) fn give_back(&self, spent: impl IntoIterator<Item = Arc<Segment>>) {
        self.state.lock().spent.extend(spent);
        self.changed.ring_all();
    }

    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.changed.ring_all();
    }

    /// The body of the preparing thread.
    pub(super) async fn run(&self) {
        while let Some((work, number)) = self.next_work().await {
            let creates = matches!(work, Work::Create);
            let done = self.perform(work, number);
            let short = matches!(&done, Err(failure) if creates && failure.is_for_want_of_space());
            {
                let mut state = self.state.lock();
                match done {
                    _ if short => state.next_number = number,
                    Ok(segment) => state.ready.extend(segment),
                    Err(failure) => state.failure = Some(failure),
                }
                state.short = if short { state.short + 1 } else { 0 };
            }
            self.changed.ring_all();
            if short {
                let waits = |state: &mut State| state.spent.is_empty() && !state.closing;
                self.changed
                    .wait_while_for(&self.state, SPACE_WAIT, waits)
                    .await;
            }
        }
    }

    /// For how long, about, the next segment is missing or too short for want of space.
    pub(super) fn wants_space_for(&self) -> Duration {
        let state = self.state.lock();
        SPACE_WAIT * state.short.max(state.too_short)
    }

    /// Turns away a writer that waits for space, now or later.
    pub(super) fn give_up_waiting(&self) {
        self.state.lock().hurried = true;
        self.changed.ring_all();
    }

    async fn next_work(&self) -> Option<(Work, u64)> {
        /// How long a reader may be seen to hold a spent segment before it is looked at again.
        const READER_WAIT: Duration = Duration::from_millis(5);
        loop {
            {
                let mut state = self.changed.wait_while(&self.state, State::is_idle).await;
                if state.is_over() {
                    return None;
                }
                let number = state.next_number;
                match state.spent.pop_front().map(Arc::try_unwrap) {
                    Some(Ok(segment)) if state.ready.len() >= self.ready_max => {
                        return Some((Work::Unlink(segment), number));
                    }
                    Some(Ok(segment)) => {
                        state.next_number += 1;
                        return Some((Work::Recycle(segment), number));
                    }
                    Some(Err(held)) => state.spent.push_front(held),
                    None => {
                        state.next_number += 1;
                        return Some((Work::Create, number));
                    }
                }
            }
            let waits = |state: &mut State| !state.is_over();
            self.changed
                .wait_while_for(&self.state, READER_WAIT, waits)
                .await;
        }
    }

    fn perform(&self, work: Work, number: u64) -> Result<Option<Segment>, WalError> {
        match work {
            Work::Create => {
                let segment = self
                    .create(number)
                    .map_err(self.failed("make segment", &name(number)))?;
                self.counting.segments_created.fetch_add(1, Relaxed);
                Ok(Some(segment))
            }
            Work::Recycle(spent) => {
                let from = spent.name();
                let renamed = self
                    .files
                    .rename(&from, &name(number))
                    .and_then(|()| self.files.sync_dir());
                renamed.map_err(self.failed("recycle segment", &from))?;
                self.counting.segments_recycled.fetch_add(1, Relaxed);
                Ok(Some(Segment { number, ..spent }))
            }
            Work::Unlink(spent) => {
                let gone = spent.name();
                let unlinked = self
                    .files
                    .unlink(&gone)
                    .and_then(|()| self.files.sync_dir());
                unlinked.map_err(self.failed("remove segment", &gone))?;
                Ok(None)
            }
        }
    }

    fn failed(
        &self,
        operation: &'static str,
        name: &str,
    ) -> impl Fn(io::Error) -> WalError + use<> {
        let file = self.files.path(name);
        move |source| WalError::Failed {
            operation,
            file: file.clone(),
            source: Arc::new(source),
        }
    }

    /// A segment gets its name only when it is whole: a file of that name is never found half filled.
    fn create(&self, number: u64) -> io::Result<Segment> {
        let file = self.files.create(UNFINISHED)?;
        if let Err(error) = fill_with_zeros(&*file, 0, self.segment_bytes) {
            drop(file);
            // Others need what little room it took. A failure of this is a leftover like any other.
            self.files.unlink(UNFINISHED).ok();
            return Err(error);
        }
        self.files.rename(UNFINISHED, &name(number))?;
        if !planted(Bug::SkipDirSync) {
            self.files.sync_dir()?;
        }
        Ok(Segment {
            number,
            file,
            len: self.segment_bytes,
        })
    }
}

enum Work {
    Create,
    Recycle(Segment),
    Unlink(Segment),
}
