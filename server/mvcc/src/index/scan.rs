//! Reading the index at a revision: single keys, ranges in pieces, counts.
//!
//! Readers hold the index for one call at a time. They read at a published revision and never see
//! a version above it, so the pieces of one scan fit together whatever was written in between. The
//! caller checks after the last piece that compaction has not passed its revision.

use std::ops::Bound;

use super::KeyIndex;
use super::arena::NodeId;
use super::leaf::Leaf;
use super::range::{Cursor, KeyRange};
use super::tree::Tree;
use crate::revision::{Meta, Revision};

/// Counting walks the keys in pieces when the journal has more changes to look at than this, or this
/// many times more than there are live keys: the journal is read in one go.
const MOST_CHANGES: u64 = 64 * 1024;
const CHANGES_PER_KEY: u64 = 4;

impl<const FANOUT: usize> KeyIndex<FANOUT> {
    /// The facts of the newest version of `key`, published or not; none when it is deleted.
    pub fn meta(&self, key: &[u8]) -> Option<Meta> {
        self.tree.find(key)?.meta()
    }

    /// Where the version of `key` that is live at `at` was written.
    pub fn at(&self, key: &[u8], at: i64) -> Option<Revision> {
        self.tree.find(key)?.live_at(at)
    }

    /// Hands the keys of `range` that are live at `at` to `each`, ascending, with the revision of the
    /// version that is live, until `each` answers false.
    ///
    /// One call looks at no more than `max` keys, dead ones included, from where `cursor` is; call
    /// again until the cursor is done. `each` must not keep the key.
    pub fn scan(
        &self,
        range: KeyRange<'_>,
        at: i64,
        cursor: &mut Cursor,
        max: usize,
        mut each: impl FnMut(&[u8], Revision) -> bool,
    ) {
        let mut key = Vec::new();
        self.walk(range, at >= self.newest, cursor, max, |leaf, i| {
            let Some(revision) = leaf.entry(i).live_at(at) else {
                return true;
            };
            leaf.keys.read(i, &mut key);
            each(&key, revision)
        });
    }

    /// Like [`scan`](Self::scan), over the keys whose newest version is live, with its facts.
    pub fn scan_newest(
        &self,
        range: KeyRange<'_>,
        cursor: &mut Cursor,
        max: usize,
        mut each: impl FnMut(&[u8], &Meta) -> bool,
    ) {
        let mut key = Vec::new();
        self.walk(range, true, cursor, max, |leaf, i| {
            let Some(meta) = leaf.entry(i).meta() else {
                return true;
            };
            leaf.keys.read(i, &mut key);
            each(&key, &meta)
        });
    }

    /// The number of keys of `range` that are live at `at`, without a walk.
    ///
    /// None when `at` is too far back for that: then the caller counts in pieces, with
    /// [`count_piece`](Self::count_piece).
    pub fn count(&self, range: KeyRange<'_>, at: i64) -> Option<u64> {
        if range.is_single() {
            return Some(u64::from(self.at(range.key, at).is_some()));
        }
        let newest = self.count_newest(range);
        if at >= self.newest {
            return Some(newest);
        }
        let changes = self.journal.changes_since(at)? as u64;
        if changes
            > newest
                .saturating_mul(CHANGES_PER_KEY)
                .clamp(256, MOST_CHANGES)
        {
            return None;
        }
        let growth = self.journal.growth_since(at, |key| range.contains(key));
        Some(newest.saturating_add_signed(-growth))
    }

    /// Counts on from `cursor` the keys of `range` that are live at `at`, looking at no more than `max`.
    pub fn count_piece(
        &self,
        range: KeyRange<'_>,
        at: i64,
        cursor: &mut Cursor,
        max: usize,
    ) -> u64 {
        let mut count = 0;
        self.walk(range, at >= self.newest, cursor, max, |leaf, i| {
            count += u64::from(leaf.entry(i).live_at(at).is_some());
            true
        });
        count
    }

    /// The keys of `range` whose newest version is live.
    fn count_newest(&self, range: KeyRange<'_>) -> u64 {
        let end = (!range.is_open()).then_some(range.end);
        let upto = self.tree.live_below(end);
        upto.saturating_sub(self.tree.live_below(Some(range.key)))
    }

    /// Visits the keys of `range` from `cursor` on, `max` at most, until `visit` answers false, and
    /// leaves the cursor after the last key visited. `live_only` skips subtrees without a live key.
    pub(super) fn walk(
        &self,
        range: KeyRange<'_>,
        live_only: bool,
        cursor: &mut Cursor,
        max: usize,
        mut visit: impl FnMut(&Leaf, usize) -> bool,
    ) {
        if cursor.is_done() || max == 0 {
            return;
        }
        let resume = cursor.resume_after().map(<[u8]>::to_vec);
        let from = match &resume {
            Some(after) if after.as_slice() >= range.key => Bound::Excluded(after.as_slice()),
            _ => Bound::Included(range.key),
        };
        let mut left = max;
        let mut paused = false;
        let mut run = |leaf: &Leaf, first: usize| {
            let end = range_end(leaf, range);
            for i in first..end {
                left -= 1;
                if !visit(leaf, i) || left == 0 {
                    leaf.keys.read(i, cursor.passed());
                    paused = true;
                    return false;
                }
            }
            end == leaf.len() && !range.is_single()
        };
        self.tree
            .runs(self.tree.root, self.tree.height, from, live_only, &mut run);
        if !paused {
            cursor.finish();
        }
    }
}

impl<const FANOUT: usize> Tree<FANOUT> {
    /// Hands each leaf with its first place at or after `from` to `run`, in order, until `run`
    /// answers false. Tells whether it never did.
    fn runs(
        &self,
        node: NodeId,
        height: usize,
        from: Bound<&[u8]>,
        live_only: bool,
        run: &mut dyn FnMut(&Leaf, usize) -> bool,
    ) -> bool {
        if height == 0 {
            let leaf = self.leaves.get(node);
            return run(leaf, first_place(leaf, from));
        }
        let inner = self.inners.get(node);
        let first = match from {
            Bound::Included(key) | Bound::Excluded(key) => inner.route(key),
            Bound::Unbounded => 0,
        };
        (first..inner.children.len()).all(|slot| {
            let from = if slot == first {
                from
            } else {
                Bound::Unbounded
            };
            (live_only && inner.live[slot] == 0)
                || self.runs(inner.children[slot], height - 1, from, live_only, run)
        })
    }
}

fn first_place(leaf: &Leaf, from: Bound<&[u8]>) -> usize {
    match from {
        Bound::Unbounded => 0,
        Bound::Included(key) => leaf.keys.below(key),
        Bound::Excluded(key) => leaf.keys.search(key).map_or_else(|i| i, |i| i + 1),
    }
}

/// The first place of `leaf` that is past `range`.
fn range_end(leaf: &Leaf, range: KeyRange<'_>) -> usize {
    if range.is_open() {
        leaf.len()
    } else if range.is_single() {
        leaf.keys.search(range.key).map_or_else(|i| i, |i| i + 1)
    } else {
        leaf.keys.below(range.end)
    }
}
