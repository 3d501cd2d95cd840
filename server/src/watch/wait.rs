//! Waiting, inside the member, for the next change of a span: what Lock and Election stand on.
//!
//! A wait is a cursor like a watcher, with one answer: the first revision from its start on that
//! touches its span. [`Changes`] may be used from any thread; the waiting itself happens in a hub.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keystead_mvcc::{ReadError, Row};
use slab::Slab;
use tokio::sync::oneshot;

use super::event::key_of;
use super::history::History;
use super::inbox::Inbox;
use super::registry::Registry;
use super::span::Span;

/// Revisions and bytes of history that one wait reads before others have their turn.
const ROUND_REVISIONS: i64 = 1000;
const ROUND_BYTES: usize = 1 << 20;

/// A revision that touched the span, with its rows there in order.
#[derive(Debug)]
pub struct Change {
    /// The revision.
    pub revision: i64,
    /// Its rows within the span.
    pub rows: Vec<Row>,
}

/// Why a wait ended without a change.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// History could not be read; compacted history among the reasons.
    #[error(transparent)]
    History(#[from] ReadError),
    /// The hub is gone: the member stops.
    #[error("the member is stopping")]
    Stopped,
}

/// A handle, for any thread, that waits for changes through one shard's hub.
#[derive(Clone)]
pub struct Changes {
    inbox: Arc<Inbox>,
    tickets: Arc<AtomicU64>,
}

impl Changes {
    /// Waits through the hub that reads `inbox`.
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Changes {
            inbox,
            tickets: Arc::default(),
        }
    }

    /// The first revision at or after `from` that touches `span`: from history, or when it comes.
    ///
    /// Dropping the future ends the wait.
    ///
    /// # Errors
    /// [`WaitError::History`] with `Compacted` when `from` lies below the compaction revision.
    pub async fn next(&self, span: Span, from: i64) -> Result<Change, WaitError> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        self.inbox.push_order(Order::Wait {
            ticket,
            span,
            from,
            reply,
        });
        let _forget = Forget {
            inbox: &self.inbox,
            ticket,
        };
        answer
            .await
            .map_err(|_| WaitError::Stopped)?
            .map_err(WaitError::History)
    }
}

/// Withdraws a wait when its future ends, answered or not.
struct Forget<'a> {
    inbox: &'a Inbox,
    ticket: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.inbox.push_order(Order::Forget {
            ticket: self.ticket,
        });
    }
}

type Reply = oneshot::Sender<Result<Change, ReadError>>;

/// What a [`Changes`] asks of the hub.
pub(super) enum Order {
    Wait {
        ticket: u64,
        span: Span,
        from: i64,
        reply: Reply,
    },
    Forget {
        ticket: u64,
    },
}

/// The waits of one hub.
///
/// Invariant, as for watchers: a wait that is not behind has nothing to find at or below the
/// published revision.
pub(super) struct Waits {
    waits: Slab<Wait>,
    by_ticket: HashMap<u64, u32>,
    registry: Registry,
    behind: VecDeque<u32>,
    found: Vec<u32>,
}

struct Wait {
    ticket: u64,
    cursor: i64,
    behind: bool,
    rows: Vec<Row>,
    reply: Reply,
}

impl Waits {
    pub(super) fn new() -> Self {
        Waits {
            waits: Slab::new(),
            by_ticket: HashMap::new(),
            registry: Registry::new(),
            behind: VecDeque::new(),
            found: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    pub(super) fn take_order(&mut self, order: Order, published: i64) {
        match order {
            Order::Wait {
                ticket,
                span,
                from,
                reply,
            } => {
                let behind = from <= published;
                let slot = self.waits.insert(Wait {
                    ticket,
                    cursor: from,
                    behind,
                    rows: Vec::new(),
                    reply,
                }) as u32;
                self.by_ticket.insert(ticket, slot);
                self.registry.insert(&span, slot);
                if behind {
                    self.behind.push_back(slot);
                }
            }
            Order::Forget { ticket } => {
                if let Some(slot) = self.by_ticket.get(&ticket).copied() {
                    self.remove(slot);
                }
            }
        }
    }

    /// Shows a live row to the waits of its key. [`Waits::answer`] follows once its revision is whole.
    pub(super) fn offer(&mut self, row: &Row, key: &[u8]) {
        if self.registry.is_empty() {
            return;
        }
        let (waits, found) = (&mut self.waits, &mut self.found);
        self.registry.stab(key, &mut |slot| {
            let wait = &mut waits[slot as usize];
            if !wait.behind && wait.accept(row) {
                found.push(slot);
            }
        });
    }

    /// Answers the waits that found their revision.
    pub(super) fn answer(&mut self) {
        for slot in std::mem::take(&mut self.found) {
            self.complete(slot);
        }
    }

    /// The revisions from `published + 1` up to `missed` will not come live.
    pub(super) fn skip(&mut self, published: i64, missed: i64) {
        for (slot, wait) in &mut self.waits {
            if !wait.behind && wait.cursor <= missed {
                wait.cursor = wait.cursor.max(published + 1);
                wait.behind = true;
                self.behind.push_back(slot as u32);
            }
        }
    }

    /// Reads a round of history for the wait whose turn it is. True when another round is due.
    pub(super) fn catch_up(&mut self, history: &impl History, published: i64) -> bool {
        let Some(slot) = self.behind.pop_front() else {
            return false;
        };
        let wait = &mut self.waits[slot as usize];
        let upto = published.min(wait.cursor + ROUND_REVISIONS - 1);
        match history.events(wait.cursor, upto, ROUND_BYTES) {
            Err(error) => {
                let wait = self.remove(slot);
                let _gone = wait.reply.send(Err(error));
            }
            Ok(rows) => {
                let covered = rows.last().map_or(upto, |row| row.revision.main);
                let span = self.registry.span(slot);
                let found = rows
                    .iter()
                    .filter(|row| span.contains(key_of(row)) && wait.accept(row))
                    .count();
                if found > 0 {
                    self.complete(slot);
                } else {
                    wait.cursor = covered + 1;
                    wait.behind = wait.cursor <= published;
                    if wait.behind {
                        self.behind.push_back(slot);
                    }
                }
            }
        }
        !self.behind.is_empty()
    }

    /// Answers a wait with the rows it accepted. It is not in the queue of those behind.
    fn complete(&mut self, slot: u32) {
        let Some(revision) = self
            .waits
            .get(slot as usize)
            .and_then(|wait| wait.rows.first())
            .map(|row| row.revision.main)
        else {
            return;
        };
        let Wait { rows, reply, .. } = self.remove(slot);
        let _gone = reply.send(Ok(Change { revision, rows }));
    }

    fn remove(&mut self, slot: u32) -> Wait {
        let wait = self.waits.remove(slot as usize);
        self.registry.remove(slot);
        self.by_ticket.remove(&wait.ticket);
        self.behind.retain(|behind| *behind != slot);
        wait
    }
}

impl Wait {
    /// Keeps the row if it belongs to the revision looked for. True when it is the first one kept.
    fn accept(&mut self, row: &Row) -> bool {
        let first = self.rows.first().map(|first| first.revision.main);
        let wanted = match first {
            Some(revision) => row.revision.main == revision,
            None => row.revision.main >= self.cursor,
        };
        if wanted {
            self.rows.push(row.clone());
        }
        wanted && first.is_none()
    }
}
