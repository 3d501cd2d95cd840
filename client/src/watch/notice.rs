//! What a watcher hands out: plain enums and structs, the same in every language.

use std::time::Duration;

use keystead_proto::mvccpb::{self, KeyValue, event::EventType};

use crate::error::Error;
use crate::namespace::Namespace;

/// One thing that a watch has to tell.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// What one revision changed among the keys that are watched.
    Events {
        /// The revision.
        revision: i64,
        /// Its changes, in the order in which the transaction made them.
        events: Vec<Event>,
        /// Nothing more of this revision follows. It is false only within a revision larger than half the buffer, which comes in
        /// parts.
        last: bool,
    },
    /// Nothing but what was handed out has happened up to this revision.
    Progress {
        /// The revision.
        revision: i64,
    },
    /// The watch is cut off. It goes on by itself: what follows is `Resumed`, or a `Reset` or `Diff`.
    Disconnected {
        /// Why.
        error: Error,
    },
    /// It is connected again and has missed nothing.
    Resumed {
        /// Everything up to this revision has been handed out.
        revision: i64,
    },
    /// A page of the keys as they are: whoever keeps a copy forgets it at page 0 and takes these.
    Reset {
        /// Why.
        cause: ResetCause,
        /// All pages are read at this revision, and the events after it follow them.
        revision: i64,
        /// Counts from 0. It begins anew when the revision was compacted between two pages.
        page: u32,
        /// The keys, in their order.
        kvs: Vec<KeyValue>,
        /// Nothing more follows; this page may be empty.
        last: bool,
    },
    /// The changes that lead from what was handed out to the keys as they are, one for each key at most.
    Diff {
        /// Why.
        cause: ResetCause,
        /// The revision of the state that they lead to. A deletion bears it, too: its own is not known any more.
        revision: i64,
        /// The changes, in the order of their keys.
        events: Vec<Event>,
        /// Nothing more follows; this part may be empty.
        last: bool,
    },
}

/// Why a watch can't tell its keys' history and tells their state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResetCause {
    /// The watch asked for the state to begin with.
    Begun,
    /// The history was compacted before it was read.
    Compacted {
        /// The oldest revision that is still there.
        revision: i64,
    },
    /// The cluster was restored from a snapshot: some of what was handed out may never have happened.
    Restored,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What was done.
    pub kind: EventKind,
    /// The key after it. Of a deleted one only the key and the revision of the deletion.
    pub kv: KeyValue,
    /// The key before it, if it was asked for, was there and is not compacted.
    pub prev_kv: Option<KeyValue>,
}

/// What was done to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was deleted, by somebody or with its lease.
    Delete,
}

impl From<mvccpb::Event> for Event {
    fn from(event: mvccpb::Event) -> Event {
        let kind = match event.r#type() {
            EventType::Put => EventKind::Put,
            EventType::Delete => EventKind::Delete,
        };
        Event {
            kind,
            kv: event.kv.unwrap_or_default(),
            prev_kv: event.prev_kv,
        }
    }
}

impl Event {
    /// What it holds in memory.
    pub(crate) fn size_bytes(&self) -> usize {
        let bytes = |kv: &KeyValue| kv.key.len() + kv.value.len();
        size_of::<Event>() + bytes(&self.kv) + self.prev_kv.as_ref().map_or(0, bytes)
    }
}

impl Notice {
    /// What it holds in memory.
    pub(super) fn size_bytes(&self) -> usize {
        let events = match self {
            Notice::Events { events, .. } => events.iter().map(Event::size_bytes).sum(),
            _ => 0,
        };
        size_of::<Notice>() + events
    }

    /// How many changes or keys it tells of.
    pub(super) fn changes(&self) -> usize {
        match self {
            Notice::Events { events, .. } | Notice::Diff { events, .. } => events.len(),
            Notice::Reset { kvs, .. } => kvs.len(),
            _ => 0,
        }
    }

    /// The same with the keys as the user knows them.
    pub(super) fn strip(mut self, namespace: &Namespace) -> Notice {
        if let Notice::Events { events, .. } = &mut self {
            for event in events {
                namespace.strip(&mut event.kv.key);
                if let Some(before) = &mut event.prev_kv {
                    namespace.strip(&mut before.key);
                }
            }
        }
        self
    }
}

/// How far behind a watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Everything up to this revision has been handed out; 0 while nothing is known.
    pub revision: i64,
    /// So long ago it was certain, last, that what was handed out is all there is, as far as the member knew that was asked.
    pub staleness: Duration,
    /// What waits to be taken from the watcher.
    pub buffered_bytes: usize,
    /// The watch is on a stream at this moment.
    pub connected: bool,
}
