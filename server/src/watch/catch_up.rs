//! How a watcher that is behind reads history, a bounded round at a time.
//!
//! A round belongs to one stream: it reads history once, from one watcher's cursor on, for all
//! watchers of the stream whose cursor lies in what was read. The stream's task runs the rounds and
//! yields between them, so that a watcher a million revisions behind delays nobody.

use keystead_mvcc::{ReadError, Row};
use keystead_seeded::{Bug, planted};

use super::event::key_of;
use super::history::History;
use super::hub::{Core, Hit, Told};
use super::message::Head;
use super::registry::Registry;

/// Revisions that a round reads at most: etcd's bound.
const ROUND_REVISIONS: i64 = 1000;
/// Bytes that a round reads at most, a last revision excepted: about what an outbox takes.
const ROUND_BYTES: usize = 256 << 10;
/// Watchers that take part in a round at most.
const ROUND_WATCHERS: usize = 1024;
/// Up to this many watchers are compared with each row; more are indexed first.
const COMPARED_WATCHERS: usize = 8;

impl<H: History> Core<H> {
    /// One round for a stream that has watchers behind.
    pub(super) fn catch_up(&mut self, stream: u32) {
        if self.cancel_compacted(stream) {
            return;
        }
        let Some(from) = self.next_turn(stream) else {
            return;
        };
        let upto = self.published.min(from + ROUND_REVISIONS - 1);
        match self.history.events(from, upto, ROUND_BYTES) {
            Ok(rows) => self.deliver_history(stream, from, upto, &rows),
            // A compaction between the two reads: the next round cancels.
            Err(ReadError::Compacted) => {}
            Err(error) => self.cancel_unreadable(stream, from, &error),
        }
    }

    /// The cursor to read from: watchers far behind and others take turns.
    fn next_turn(&self, stream: u32) -> Option<i64> {
        let stream = &self.streams[stream as usize];
        let next = stream
            .behind
            .range((stream.turn, 0)..)
            .next()
            .or_else(|| stream.behind.first());
        next.map(|(cursor, _)| *cursor)
    }

    fn deliver_history(&mut self, stream: u32, from: i64, upto: i64, rows: &[Row]) {
        let covered = rows.last().map_or(upto, |row| row.revision.main);
        let state = &mut self.streams[stream as usize];
        // The watchers at `covered + 1` after this round wait until the others had their turn.
        state.turn = covered + 2;
        let taking_part = state
            .behind
            .range((from, 0)..=(covered, u32::MAX))
            .take(ROUND_WATCHERS);
        let mut slots: Vec<u32> = taking_part.map(|(_, slot)| *slot).collect();
        slots.sort_unstable();
        let hits = self.match_behind(&slots, rows);
        self.start_messages(rows.len());
        let mut rest = hits.as_slice();
        for slot in slots {
            let (own, others) = rest.split_at(rest.partition_point(|hit| hit.0 == slot));
            rest = others;
            let unsent = self.deliver(slot, own, rows, Told::Published);
            self.move_cursor(slot, unsent.unwrap_or(covered + 1));
        }
    }

    /// The rows that each of `slots` gets, sorted by slot and row.
    fn match_behind(&self, slots: &[u32], rows: &[Row]) -> Vec<Hit> {
        let mut hits = Vec::new();
        let mut indexed = Registry::new();
        if slots.len() > COMPARED_WATCHERS {
            for (position, slot) in slots.iter().enumerate() {
                indexed.insert(self.registry.span(*slot), position as u32);
            }
        }
        for (index, row) in rows.iter().enumerate() {
            let key = key_of(row);
            let mut hit = |slot: u32| {
                if self.watchers[slot as usize].wants(row) {
                    hits.push((slot, index as u32));
                }
            };
            if indexed.is_empty() {
                slots
                    .iter()
                    .filter(|slot| self.registry.span(**slot).contains(key))
                    .for_each(|slot| hit(*slot));
            } else {
                indexed.stab(key, &mut |position| hit(slots[position as usize]));
            }
        }
        hits.sort_unstable();
        hits
    }

    /// Sets the cursor of a watcher that is behind; beyond the published revision it is live.
    fn move_cursor(&mut self, slot: u32, cursor: i64) {
        let watcher = &mut self.watchers[slot as usize];
        let behind = &mut self.streams[watcher.stream as usize].behind;
        behind.remove(&(watcher.cursor, slot));
        watcher.cursor = cursor;
        watcher.behind = cursor <= self.published;
        if watcher.behind {
            behind.insert((cursor, slot));
        } else if planted(Bug::LoseHandoverEvent) {
            watcher.cursor += 1;
        }
    }

    /// Cancels the watchers whose next revision compaction has taken. True when there were any.
    fn cancel_compacted(&mut self, stream: u32) -> bool {
        let compacted = self.history.compacted();
        let taken = self.slots_behind(stream, compacted - 1);
        for slot in &taken {
            let watcher = self.remove_watcher(*slot);
            // As etcd answers it: no reason, and a header that tells revision 0.
            let head = Head {
                watch_id: watcher.id,
                canceled: true,
                compact_revision: compacted,
                ..Head::default()
            };
            self.put_message(stream, 0, head);
        }
        !taken.is_empty()
    }

    /// Cancels the watchers that would have to read what can't be read.
    fn cancel_unreadable(&mut self, stream: u32, from: i64, error: &ReadError) {
        tracing::error!(revision = from, %error, "watchers cancelled: history can't be read");
        let reason = error.to_string();
        for slot in self.slots_behind(stream, from) {
            let watcher = self.remove_watcher(slot);
            let head = Head {
                watch_id: watcher.id,
                canceled: true,
                cancel_reason: &reason,
                ..Head::default()
            };
            self.put_message(stream, self.published, head);
        }
    }

    /// The stream's watchers that are behind with a cursor of at most `last`.
    fn slots_behind(&self, stream: u32, last: i64) -> Vec<u32> {
        let behind = &self.streams[stream as usize].behind;
        behind
            .iter()
            .take_while(|(cursor, _)| *cursor <= last)
            .map(|(_, slot)| *slot)
            .collect()
    }
}
