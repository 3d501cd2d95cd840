//! What was sent to one follower and not answered yet, and what an answer says of it. A plain value: the pipeline tells it what
//! comes and goes.

use std::collections::VecDeque;

use keystead_seeded::{Bug, planted};

use crate::type_config::LogId;

/// Appends of one session that wait for their answers. Together with the bytes it bounds what a slow follower holds in
/// memory, here and there.
const WINDOW_APPENDS: usize = 64;
const WINDOW_BYTES: usize = 8 << 20;

/// The appends of one session that were sent.
#[derive(Default)]
pub(super) struct Window {
    /// Those that were not answered, oldest first: the last log id with each, and its size.
    sent: VecDeque<(Option<LogId>, usize)>,
    bytes: usize,
    answered: u64,
}

impl Window {
    /// Whether nothing waits for an answer.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether another may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.sent.len() < WINDOW_APPENDS && self.bytes < WINDOW_BYTES
    }

    /// An append is sent, after which the follower has the log up to `last`.
    pub(super) fn sent(&mut self, last: Option<LogId>, bytes: usize) {
        self.sent.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// So many appends of the session are answered by now; false when that is more than were sent.
    pub(super) fn answered(&mut self, count: u64) -> bool {
        while self.answered < count {
            let Some((_, bytes)) = self.sent.pop_front() else {
                return false;
            };
            self.bytes -= bytes;
            self.answered += 1;
        }
        true
    }

    /// Up to where openraft may take the log for acknowledged, after the answers counted so far said `matched`; none where it
    /// is to hear nothing yet.
    ///
    /// openraft takes an answer for one to all that was sent up to the log id in it: also to a request without entries that
    /// was sent after the one that is answered, and then believes to have been acknowledged by a quorum later than it was,
    /// which would let a leader that slept answer a read with what is no longer true. So an answer is held back while
    /// a later request up to the same log id waits for its own.
    pub(super) fn acknowledged(&self, matched: Option<LogId>) -> Option<Option<LogId>> {
        if planted(Bug::AcknowledgeSent)
            && let Some((last, _)) = self.sent.back()
        {
            return Some(*last);
        }
        let owed = self.sent.front().is_some_and(|(last, _)| *last <= matched);
        (!owed || planted(Bug::AcknowledgeLater)).then_some(matched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> Option<LogId> {
        Some(LogId::new_term_index(1, index))
    }

    #[test]
    fn an_answer_acknowledges_what_it_was_given_to_and_nothing_that_was_sent_since() {
        let mut window = Window::default();
        window.sent(id(5), 10);
        window.sent(id(6), 10);
        assert!(window.answered(1));
        assert_eq!(window.acknowledged(id(5)), Some(id(5)));
        assert!(window.answered(2));
        assert_eq!(window.acknowledged(id(6)), Some(id(6)));
        assert!(window.is_empty());
        assert!(!window.answered(3), "there is no third");
    }

    #[test]
    fn an_answer_is_held_back_while_a_later_question_up_to_the_same_place_waits() {
        let mut window = Window::default();
        window.sent(id(5), 10);
        window.sent(id(5), 0);
        assert!(window.answered(1));
        assert_eq!(window.acknowledged(id(5)), None);
        assert!(window.answered(2));
        assert_eq!(window.acknowledged(id(5)), Some(id(5)));
    }

    #[test]
    fn a_window_is_full_by_number_and_by_bytes() {
        let mut window = Window::default();
        for index in 0..WINDOW_APPENDS as u64 {
            assert!(window.has_room());
            window.sent(id(index), 1);
        }
        assert!(!window.has_room());
        assert!(window.answered(1));
        assert!(window.has_room());
        window.sent(id(100), WINDOW_BYTES);
        assert!(window.answered(WINDOW_APPENDS as u64));
        assert!(!window.has_room());
    }
}
