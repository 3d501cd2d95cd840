//! Joins what a stream brings to whole revisions. A fragment may end within a revision, so the newest one is held back until
//! something shows that it is whole; one that grows too large is let go in parts. It does no I/O and knows one watch on one stream.

use keystead_proto::mvccpb;
use keystead_seeded::{Bug, planted};

use super::notice::Event;

/// A revision, or a part of one.
#[derive(Debug, PartialEq)]
pub(super) struct Piece {
    pub revision: i64,
    pub events: Vec<Event>,
    /// It ends the revision.
    pub last: bool,
}

/// How much of a revision was let go before its end. A server repeats a revision in the same order, so a count tells the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub revision: i64,
    pub events: usize,
}

/// See the head of the file.
pub(super) struct Joiner {
    /// Events of the newest revision.
    open: Vec<Event>,
    revision: i64,
    open_bytes: usize,
    /// The newest revision is let go in part when it grows beyond this.
    most_bytes: usize,
    /// Events of a revision that were handed out by an earlier stream: they come again and are left out.
    repeated: Part,
}

impl Joiner {
    /// For a watch that continues after `part`.
    pub(super) fn new(most_bytes: usize, part: Part) -> Joiner {
        Joiner {
            open: Vec::new(),
            revision: 0,
            open_bytes: 0,
            most_bytes,
            repeated: part,
        }
    }

    /// No revision is held back.
    pub(super) fn is_empty(&self) -> bool {
        self.revision == 0
    }

    /// What is whole, or too large to wait, after one more message.
    pub(super) fn push(&mut self, events: Vec<mvccpb::Event>, fragment: bool) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for event in events {
            let event = Event::from(event);
            if event.kv.mod_revision != self.revision {
                self.close(&mut pieces);
                self.revision = event.kv.mod_revision;
            }
            if self.revision == self.repeated.revision && self.repeated.events > 0 {
                self.repeated.events -= 1;
                continue;
            }
            self.open_bytes += event.size_bytes();
            self.open.push(event);
        }
        if !fragment || planted(Bug::SplitRevision) {
            self.close(&mut pieces);
        } else if self.open_bytes > self.most_bytes {
            pieces.push(self.take(false));
        }
        pieces
    }

    /// The newest revision is whole.
    fn close(&mut self, pieces: &mut Vec<Piece>) {
        if self.revision > 0 {
            pieces.push(self.take(true));
            self.revision = 0;
        }
    }

    fn take(&mut self, last: bool) -> Piece {
        self.open_bytes = 0;
        Piece {
            revision: self.revision,
            events: std::mem::take(&mut self.open),
            last,
        }
    }
}

#[cfg(test)]
mod tests {
    use keystead_proto::mvccpb::KeyValue;

    use super::*;

    fn event(key: &'static str, revision: i64) -> mvccpb::Event {
        mvccpb::Event {
            kv: Some(KeyValue {
                key: key.into(),
                mod_revision: revision,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Revision, keys, last.
    fn told(pieces: Vec<Piece>) -> Vec<(i64, String, bool)> {
        let keys = |events: Vec<Event>| {
            let keys = events
                .iter()
                .map(|event| String::from_utf8_lossy(&event.kv.key).into_owned());
            keys.collect::<Vec<_>>().join(" ")
        };
        let told = pieces
            .into_iter()
            .map(|piece| (piece.revision, keys(piece.events), piece.last));
        told.collect()
    }

    #[test]
    fn a_fragment_that_ends_within_a_revision_is_held_until_it_is_whole() {
        let mut joiner = Joiner::new(1 << 20, Part::default());
        let first = joiner.push(vec![event("a", 5), event("b", 6)], true);
        assert_eq!(told(first), [(5, "a".into(), true)]);
        let second = joiner.push(vec![event("c", 6), event("d", 7)], true);
        assert_eq!(told(second), [(6, "b c".into(), true)]);
        let third = joiner.push(vec![event("e", 7)], false);
        assert_eq!(told(third), [(7, "d e".into(), true)]);
    }

    #[test]
    fn an_empty_last_fragment_closes_the_revision() {
        let mut joiner = Joiner::new(1 << 20, Part::default());
        assert!(joiner.push(vec![event("a", 5)], true).is_empty());
        assert_eq!(
            told(joiner.push(Vec::new(), false)),
            [(5, "a".into(), true)]
        );
        assert!(joiner.push(Vec::new(), false).is_empty());
    }

    #[test]
    fn a_revision_too_large_to_wait_comes_in_parts_of_which_the_last_says_so() {
        let mut joiner = Joiner::new(1, Part::default());
        let first = joiner.push(vec![event("a", 5), event("b", 5)], true);
        assert_eq!(told(first), [(5, "a b".into(), false)]);
        let second = joiner.push(vec![event("c", 5)], false);
        assert_eq!(told(second), [(5, "c".into(), true)]);
    }

    #[test]
    fn what_was_handed_out_of_a_revision_is_not_handed_out_again() {
        for handed in 0..=3 {
            let part = Part {
                revision: 5,
                events: handed,
            };
            let mut joiner = Joiner::new(1 << 20, part);
            let mut pieces = joiner.push(vec![event("a", 5), event("b", 5)], true);
            pieces.extend(joiner.push(vec![event("c", 5), event("d", 6)], false));
            let rest = ["a", "b", "c"][handed..].join(" ");
            let expected = [(5, rest, true), (6, "d".into(), true)];
            assert_eq!(told(pieces), expected, "{handed} handed out before");
        }
    }
}
