//! Builds an index from keys in order, many times faster than putting them one by one.
//!
//! Used at start, by the checkpoint's reader. Leaves come out full and packed.

use super::KeyIndex;
use super::entry::Entry;
use super::leaf::Leaf;
use super::packed::PackedKeys;
use super::tree::{Tree, separator};
use crate::revision::{Meta, Revision, Version};

/// A leaf is closed at this many bytes of keys.
const LEAF_KEY_BYTES: usize = 8 * 1024;

/// A key was pushed that is not above the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the keys do not ascend")]
pub struct Unordered;

/// Takes sorted keys and gives the index of them.
pub struct Builder<const FANOUT: usize> {
    leaves: Vec<Leaf>,
    /// What separates each leaf from the one before it.
    lows: Vec<Vec<u8>>,
    keys: Vec<u8>,
    ends: Vec<u32>,
    entries: Vec<Entry>,
    last: Vec<u8>,
    newest: i64,
    compacted: i64,
}

impl<const FANOUT: usize> Builder<FANOUT> {
    /// A builder that has no keys yet, and drops what compaction at `compacted` makes unreadable: the
    /// keys' compaction was long ago and does not come again.
    pub fn new(compacted: i64) -> Self {
        Self {
            leaves: Vec::new(),
            lows: Vec::new(),
            keys: Vec::new(),
            ends: Vec::new(),
            entries: Vec::new(),
            last: Vec::new(),
            newest: 0,
            compacted,
        }
    }

    /// Adds `key`, whose newest version was written at `revision` with the facts `head` (none for a
    /// tombstone), after the versions `older`, oldest first.
    ///
    /// # Errors
    /// [`Unordered`] when `key` is not above the key before it; the key was not added.
    pub fn push(
        &mut self,
        key: &[u8],
        revision: Revision,
        head: Option<&Meta>,
        older: &[Version],
    ) -> Result<(), Unordered> {
        let first = self.leaves.is_empty() && self.entries.is_empty();
        if !first && key <= self.last.as_slice() {
            return Err(Unordered);
        }
        self.newest = self.newest.max(revision.main);
        let mut entry = Entry::with_older(revision, head, older);
        if !entry.compact(self.compacted) {
            return Ok(());
        }
        if self.entries.len() == FANOUT || self.keys.len() > LEAF_KEY_BYTES {
            self.close_leaf();
        }
        if self.entries.is_empty() {
            self.lows.push(separator(&self.last, key).to_vec());
        }
        self.keys.extend_from_slice(key);
        self.ends.push(self.keys.len() as u32);
        self.entries.push(entry);
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }

    /// The index of all keys pushed.
    pub fn finish(mut self) -> KeyIndex<FANOUT> {
        if !self.entries.is_empty() {
            self.close_leaf();
        }
        KeyIndex::over(Tree::over(self.leaves, self.lows), self.newest)
    }

    fn close_leaf(&mut self) {
        let mut entries = Vec::with_capacity(self.entries.len());
        entries.append(&mut self.entries);
        let keys = PackedKeys::pack(&self.keys, &self.ends);
        self.leaves.push(Leaf::of(keys, entries));
        self.keys.clear();
        self.ends.clear();
    }
}
