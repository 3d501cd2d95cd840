//! Progress: the promise that every event up to a revision has been sent before.
//!
//! It is given only when it holds and is otherwise left out, never put off: a client that needs it
//! asks again.

use keystead_seeded::{Bug, planted};

use super::create::NO_WATCHER;
use super::history::History;
use super::hub::Core;
use super::message::Head;

impl<H: History> Core<H> {
    /// Answers a progress request: one message for the whole stream if each of its watchers has all
    /// events up to the published revision and none starts later.
    pub(super) fn progress(&mut self, stream: u32) {
        let state = &mut self.streams[stream as usize];
        while let Some(entry) = state.future.first().copied()
            && entry.0 <= self.published
        {
            state.future.remove(&entry);
        }
        let told = state.behind.is_empty() || planted(Bug::ProgressTooEarly);
        if !state.watchers.is_empty() && told && state.future.is_empty() {
            let head = Head {
                watch_id: NO_WATCHER,
                ..Head::default()
            };
            self.put_message(stream, self.published, head);
        }
    }

    /// A tick of the stream's interval: tells progress to the watchers that want it and had no event
    /// since the last tick.
    pub(super) fn tick(&mut self, stream: u32) {
        let slots: Vec<u32> = self.streams[stream as usize]
            .watchers
            .values()
            .copied()
            .collect();
        for slot in slots {
            if !self.is_roomy(stream) {
                return;
            }
            let watcher = &mut self.watchers[slot as usize];
            let quiet = std::mem::replace(&mut watcher.quiet, true);
            let due = watcher.progress_notify
                && quiet
                && !watcher.behind
                && watcher.start <= self.published;
            if due {
                let head = Head {
                    watch_id: watcher.id,
                    ..Head::default()
                };
                self.put_message(stream, self.published, head);
            }
        }
    }
}
