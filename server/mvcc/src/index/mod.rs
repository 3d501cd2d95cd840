//! The key index: every key with the revisions of its versions, in RAM.
//!
//! The writer puts, deletes and compacts; readers look up, scan and count at a revision. The index
//! holds no values and takes no locks: the store wraps it in one, which a reader gives back between
//! the pieces of a scan. It is rebuilt at start from a [checkpoint](Checkpoint) and the history's
//! rows; it must never read or write a file by itself.

mod arena;
mod build;
mod checkpoint;
mod entry;
mod inner;
mod journal;
mod leaf;
#[cfg(test)]
mod model;
mod packed;
mod range;
mod scan;
mod tree;

use self::entry::Entry;
use self::journal::{Change, Journal};
use self::tree::{Path, Tree};
use crate::revision::{Meta, Revision};

pub use self::checkpoint::{Checkpoint, read_checkpoint};
pub use self::range::{Cursor, KeyRange};

/// The index with the node size it is used with.
///
/// 64 keys a leaf: an insert moves about 1 KB, a lookup touches three nodes per million keys.
pub type Index = KeyIndex<64>;

/// An ordered tree of keys and the revisions of their versions, which counts live keys.
pub struct KeyIndex<const FANOUT: usize> {
    tree: Tree<FANOUT>,
    journal: Journal,
    /// The newest revision of any version.
    newest: i64,
    /// The way to the key at hand; kept for its allocation.
    path: Path,
}

impl<const FANOUT: usize> Default for KeyIndex<FANOUT> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const FANOUT: usize> KeyIndex<FANOUT> {
    /// An index without keys.
    pub fn new() -> Self {
        Self::over(Tree::new(), 0)
    }

    /// Writes a version of `key` at `revision`, attached to `lease`, and gives the version it replaces.
    ///
    /// `revision` must be above all that were written before. A key that is not live is created: its
    /// version is 1.
    pub fn put(&mut self, key: &[u8], revision: Revision, lease: i64) -> Option<Meta> {
        let mut path = std::mem::take(&mut self.path);
        let id = self.tree.descend(key, &mut path);
        let leaf = self.tree.leaves.get_mut(id);
        let previous = match leaf.keys.search(key) {
            Ok(i) => {
                let previous = leaf.entry(i).meta();
                let head = next(previous, revision, lease);
                leaf.change(i, |entry| entry.advance(revision, Some(&head)));
                if previous.is_none() {
                    self.tree.count(&path, true);
                }
                previous
            }
            Err(i) => {
                let entry = Entry::new(revision, Some(&next(None, revision, lease)));
                self.tree.insert(id, i, key, entry, &mut path);
                None
            }
        };
        if previous.is_none() {
            self.journal.note(revision.main, key, Change::Birth);
        }
        self.path = path;
        self.newest = self.newest.max(revision.main);
        previous
    }

    /// Writes a tombstone of `key` at `revision` and gives the version it ends; does nothing when the
    /// key is not live.
    pub fn delete(&mut self, key: &[u8], revision: Revision) -> Option<Meta> {
        let mut path = std::mem::take(&mut self.path);
        let id = self.tree.descend(key, &mut path);
        let leaf = self.tree.leaves.get_mut(id);
        let place = leaf.keys.search(key).ok();
        let previous = place.and_then(|i| {
            let previous = leaf.entry(i).meta()?;
            leaf.change(i, |entry| entry.advance(revision, None));
            Some(previous)
        });
        if previous.is_some() {
            self.tree.count(&path, false);
            self.journal.note(revision.main, key, Change::Death);
            self.newest = self.newest.max(revision.main);
        }
        self.path = path;
        previous
    }

    /// Takes over a row of the history at start: a version of `key` at `revision` with the facts it
    /// was stored with, or a tombstone for none.
    ///
    /// Rows come in revision order; one that the key has already (from a checkpoint) changes
    /// nothing. Counts at revisions before the newest row restored need a walk.
    pub fn restore(&mut self, key: &[u8], revision: Revision, head: Option<&Meta>) {
        let mut path = std::mem::take(&mut self.path);
        let id = self.tree.descend(key, &mut path);
        let leaf = self.tree.leaves.get_mut(id);
        match leaf.keys.search(key) {
            Ok(i) if leaf.entry(i).revision() < revision => {
                let was_live = leaf.entry(i).is_live();
                leaf.change(i, |entry| entry.advance(revision, head));
                if was_live != head.is_some() {
                    self.tree.count(&path, head.is_some());
                }
            }
            Ok(_) => {}
            Err(i) => {
                let entry = Entry::new(revision, head);
                self.tree.insert(id, i, key, entry, &mut path);
            }
        }
        self.path = path;
        self.newest = self.newest.max(revision.main);
        self.journal.raise_floor(revision.main);
    }

    /// Drops the versions of `key` that no read at `revision` or later can see, and the key itself
    /// when none is left. A tombstone at `revision` itself stays, as in etcd.
    ///
    /// Compaction calls it for each key that has a version above the revision compacted last time, or
    /// a tombstone at it, up to this one: no other key has anything to drop.
    pub fn compact_key(&mut self, key: &[u8], revision: i64) {
        let mut path = std::mem::take(&mut self.path);
        let id = self.tree.descend(key, &mut path);
        let leaf = self.tree.leaves.get_mut(id);
        if let Ok(i) = leaf.keys.search(key) {
            let kept = leaf.change(i, |entry| entry.compact(revision));
            if !kept {
                self.tree.remove(id, i, &path);
            }
        }
        self.path = path;
    }

    /// Bounds what is remembered of births and deaths; `published` is the revision readers may see.
    pub fn trim(&mut self, published: i64) {
        self.journal.trim(published);
    }

    /// The keys whose newest version is live.
    pub fn live_keys(&self) -> u64 {
        self.tree.live
    }

    /// The newest revision of any version; 0 when there was none.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// What the index has allocated. Looks at each node.
    pub fn heap_bytes(&self) -> usize {
        self.tree.heap_bytes() + self.journal.heap_bytes()
    }

    /// An index over a tree whose newest version is at `newest`.
    fn over(tree: Tree<FANOUT>, newest: i64) -> Self {
        let mut journal = Journal::default();
        journal.raise_floor(newest);
        Self {
            tree,
            journal,
            newest,
            path: Path::new(),
        }
    }
}

/// The facts of a put over `previous`.
fn next(previous: Option<Meta>, revision: Revision, lease: i64) -> Meta {
    Meta {
        create_revision: previous.map_or(revision.main, |meta| meta.create_revision),
        mod_revision: revision,
        version: previous.map_or(1, |meta| meta.version + 1),
        lease,
    }
}
