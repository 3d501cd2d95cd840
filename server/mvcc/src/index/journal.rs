//! The births and deaths of keys in the recent past, so that a count of today's live keys can be
//! corrected to one at a recent revision.
//!
//! The index notes each, oldest first, and trims the journal when a revision is published. What is
//! above the published revision is never dropped: readers count below it.

use std::collections::VecDeque;

/// Marks at or below the published revision that are kept: enough for readers some seconds behind,
/// and read through in well under a millisecond.
const KEPT_MARKS: usize = 64 * 1024;
/// The bytes of their keys that are kept, for keys may be long.
const KEPT_KEY_BYTES: usize = 8 << 20;
/// A block is closed at this many marks or bytes; blocks are dropped whole.
const BLOCK_MARKS: usize = 1024;
const BLOCK_KEY_BYTES: usize = 64 * 1024;
/// Blocks dropped at once, for readers wait: more than an entry of many small records adds.
const BLOCKS_A_TRIM: usize = 64;

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Birth,
    Death,
}

/// The births and deaths above [`floor`](Journal::raise_floor).
#[derive(Default)]
pub(super) struct Journal {
    blocks: VecDeque<Block>,
    /// Every change above this revision is in `blocks`.
    floor: i64,
    marks: usize,
    key_bytes: usize,
}

#[derive(Default)]
struct Block {
    marks: Vec<Mark>,
    keys: Vec<u8>,
}

struct Mark {
    main: i64,
    key_end: u32,
    change: Change,
}

impl Journal {
    /// Notes what happened to `key` at revision `main`, which is at or above all noted before.
    pub fn note(&mut self, main: i64, key: &[u8], change: Change) {
        if self.blocks.back().is_none_or(Block::is_full) {
            self.blocks.push_back(Block::default());
        }
        let Some(block) = self.blocks.back_mut() else {
            return;
        };
        block.keys.extend_from_slice(key);
        block.marks.push(Mark {
            main,
            key_end: block.keys.len() as u32,
            change,
        });
        self.marks += 1;
        self.key_bytes += key.len();
    }

    /// Forgets that changes at `main` and before could be told.
    pub fn raise_floor(&mut self, main: i64) {
        self.floor = self.floor.max(main);
    }

    /// Drops the oldest blocks that are not needed to keep the bounds, none above `published`. After many changes in
    /// one revision it takes some calls.
    pub fn trim(&mut self, published: i64) {
        for _ in 0..BLOCKS_A_TRIM {
            if self.marks <= KEPT_MARKS && self.key_bytes <= KEPT_KEY_BYTES {
                return;
            }
            let Some(newest) = self.blocks.front().and_then(Block::newest) else {
                return;
            };
            if newest > published {
                return;
            }
            self.raise_floor(newest);
            if let Some(block) = self.blocks.pop_front() {
                self.marks -= block.marks.len();
                self.key_bytes -= block.keys.len();
            }
        }
    }

    /// How many changes are above `at`; none when the journal does not reach back so far.
    pub fn changes_since(&self, at: i64) -> Option<usize> {
        if at < self.floor {
            return None;
        }
        let mut changes = 0;
        for block in self.blocks.iter().rev() {
            let newer = block.marks.len() - block.first_after(at);
            changes += newer;
            if newer < block.marks.len() {
                break;
            }
        }
        Some(changes)
    }

    /// Births less deaths above `at`, of the keys that `counts` accepts.
    pub fn growth_since(&self, at: i64, counts: impl Fn(&[u8]) -> bool) -> i64 {
        let mut growth = 0;
        for block in self.blocks.iter().rev() {
            let first = block.first_after(at);
            for i in first..block.marks.len() {
                if counts(block.key(i)) {
                    growth += match block.marks[i].change {
                        Change::Birth => 1,
                        Change::Death => -1,
                    };
                }
            }
            if first > 0 {
                break;
            }
        }
        growth
    }

    /// What the journal has allocated.
    pub fn heap_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>()
            + self.blocks.iter().map(Block::heap_bytes).sum::<usize>()
    }
}

impl Block {
    fn is_full(&self) -> bool {
        self.marks.len() >= BLOCK_MARKS || self.keys.len() >= BLOCK_KEY_BYTES
    }

    fn newest(&self) -> Option<i64> {
        self.marks.last().map(|mark| mark.main)
    }

    fn first_after(&self, at: i64) -> usize {
        self.marks.partition_point(|mark| mark.main <= at)
    }

    fn key(&self, i: usize) -> &[u8] {
        let start = i
            .checked_sub(1)
            .map_or(0, |before| self.marks[before].key_end);
        &self.keys[start as usize..self.marks[i].key_end as usize]
    }

    fn heap_bytes(&self) -> usize {
        self.marks.capacity() * size_of::<Mark>() + self.keys.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_for_any_revision_in_reach() {
        let mut journal = Journal::default();
        for main in 2..5000 {
            let change = if main % 3 == 0 {
                Change::Death
            } else {
                Change::Birth
            };
            journal.note(main, &main.to_be_bytes(), change);
        }
        for at in [1, 2, 1000, 1025, 1026, 4998, 4999, 6000] {
            let wanted: i64 = (at + 1..5000)
                .map(|main| if main % 3 == 0 { -1 } else { 1 })
                .sum();
            assert_eq!(journal.growth_since(at, |_| true), wanted, "since {at}");
            assert_eq!(journal.changes_since(at), Some((4999 - at).max(0) as usize));
        }
        let even = |key: &[u8]| key[7] & 1 == 0;
        assert_eq!(
            journal.growth_since(4995, even),
            0,
            "4996 was born, 4998 died"
        );
    }

    #[test]
    fn trimming_bounds_the_past_but_keeps_what_is_not_published() {
        let mut journal = Journal::default();
        let newest = 200_000;
        for main in 1..=newest {
            journal.note(main, b"key", Change::Birth);
        }
        journal.trim(0);
        assert_eq!(journal.changes_since(0), Some(newest as usize));
        journal.trim(1500);
        assert_eq!(journal.changes_since(1000), None);
        assert_eq!(journal.changes_since(1500), Some(newest as usize - 1500));
        let excess = journal.marks - KEPT_MARKS;
        for _ in 0..=excess / BLOCK_MARKS / BLOCKS_A_TRIM {
            assert!(journal.marks > KEPT_MARKS);
            journal.trim(newest);
        }
        assert!(journal.marks <= KEPT_MARKS);
        let reach = newest - (KEPT_MARKS - BLOCK_MARKS) as i64;
        assert_eq!(journal.changes_since(reach), Some(KEPT_MARKS - BLOCK_MARKS));
    }
}
