//! Creating and cancelling watchers: ids, start revisions, and the refusals with etcd's texts.

use keystead_seeded::{Bug, planted};

use super::history::History;
use super::hub::{Core, Watcher};
use super::message::Head;
use super::span::{EmptyRange, Span};

/// What a client asks of a new watcher.
#[derive(Clone, Debug, Default)]
pub struct Create<'a> {
    /// The key, or the first one.
    pub key: &'a [u8],
    /// Empty for one key, `\0` for every key from `key` on.
    pub range_end: &'a [u8],
    /// The first revision to send; 0 for those after now.
    pub start_revision: i64,
    /// The id to use; 0 to have one chosen.
    pub watch_id: i64,
    /// Tell progress at intervals.
    pub progress_notify: bool,
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletions.
    pub no_delete: bool,
    /// Send the previous version with each event.
    pub prev_kv: bool,
    /// Cut large messages into fragments.
    pub fragment: bool,
}

/// The id of refusals and of progress that concerns the whole stream.
pub(super) const NO_WATCHER: i64 = -1;

enum Refusal {
    NegativeStart,
    EmptyRange,
    DuplicateId,
}

impl Refusal {
    fn text(&self) -> &'static str {
        match self {
            Refusal::NegativeStart => "etcdserver: mvcc: required revision has been compacted",
            Refusal::EmptyRange => "mvcc: watcher range is empty",
            Refusal::DuplicateId => "mvcc: duplicate watch ID provided on the WatchStream",
        }
    }
}

impl From<EmptyRange> for Refusal {
    fn from(EmptyRange: EmptyRange) -> Self {
        Refusal::EmptyRange
    }
}

impl<H: History> Core<H> {
    /// Creates a watcher and says so, or says why not.
    pub(super) fn create(&mut self, stream: u32, create: &Create<'_>) {
        match self.try_create(stream, create) {
            Ok(id) => self.say_created(stream, id, ""),
            Err(refusal) => self.refuse(stream, refusal.text()),
        }
    }

    /// Says that a watcher was not created, and why.
    pub(super) fn refuse(&mut self, stream: u32, reason: &'static str) {
        self.say_created(stream, NO_WATCHER, reason);
    }

    fn say_created(&mut self, stream: u32, watch_id: i64, reason: &'static str) {
        let head = Head {
            watch_id,
            created: true,
            canceled: !reason.is_empty(),
            cancel_reason: reason,
            ..Head::default()
        };
        self.put_message(stream, self.published, head);
    }

    fn try_create(&mut self, stream: u32, create: &Create<'_>) -> Result<i64, Refusal> {
        let start = create.start_revision;
        if start < 0 {
            return Err(Refusal::NegativeStart);
        }
        let span = Span::parse(create.key, create.range_end)?;
        let id = self.choose_id(stream, create.watch_id)?;
        let cursor = if start == 0 {
            self.published + 1
        } else if planted(Bug::RepeatOnResume) {
            start - 1
        } else {
            start
        };
        let behind = cursor <= self.published;
        let slot = self.watchers.insert(Watcher {
            stream,
            id,
            start,
            cursor,
            behind,
            no_put: create.no_put,
            no_delete: create.no_delete,
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            progress_notify: create.progress_notify,
            quiet: true,
        }) as u32;
        self.registry.insert(&span, slot);
        let state = &mut self.streams[stream as usize];
        state.watchers.insert(id, slot);
        if behind {
            state.behind.insert((cursor, slot));
        }
        if start > self.published {
            state.future.insert((start, slot));
        }
        Ok(id)
    }

    fn choose_id(&mut self, stream: u32, asked: i64) -> Result<i64, Refusal> {
        let state = &mut self.streams[stream as usize];
        if asked != 0 {
            let free = !state.watchers.contains_key(&asked);
            return if free {
                Ok(asked)
            } else {
                Err(Refusal::DuplicateId)
            };
        }
        while state.watchers.contains_key(&state.next_id) {
            state.next_id += 1;
        }
        state.next_id += 1;
        Ok(state.next_id - 1)
    }

    /// Cancels a watcher and says so; silent when there is none of that id.
    pub(super) fn cancel(&mut self, stream: u32, id: i64) {
        let Some(slot) = self.streams[stream as usize].watchers.get(&id).copied() else {
            return;
        };
        self.remove_watcher(slot);
        let head = Head {
            watch_id: id,
            canceled: true,
            ..Head::default()
        };
        self.put_message(stream, self.published, head);
    }
}
