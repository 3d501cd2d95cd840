//! The tree itself: inner nodes with live counts over packed leaves, splits and merges.
//!
//! The index's verbs use it to find, add and remove entries. It keeps two things true: separators
//! route every key to its leaf, and each inner node knows the live keys below each child.
//!
//! ```text
//!              inner:  live   [ 90 | 64 | 71 ]
//!                      children  |    |    |
//!                      separators   "g"  "p"        keys >= "g" and < "p" are below the middle child
//!                     leaf     leaf     leaf
//! ```

use super::arena::{Arena, NodeId};
use super::entry::Entry;
use super::inner::Inner;
use super::leaf::Leaf;
use super::packed::common_len;

/// A way down the tree: at each inner node, the child that was taken.
pub(super) type Path = Vec<Step>;

/// One step of a [`Path`].
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub node: NodeId,
    pub slot: usize,
}

/// The tree of entries by key. `FANOUT`, at least 4, bounds the keys of a leaf and the children of
/// an inner node.
pub(super) struct Tree<const FANOUT: usize> {
    pub leaves: Arena<Leaf>,
    pub inners: Arena<Inner>,
    pub root: NodeId,
    /// 0: the root is a leaf.
    pub height: usize,
    /// Live keys in the whole tree.
    pub live: u64,
}

impl<const FANOUT: usize> Tree<FANOUT> {
    pub fn new() -> Self {
        let mut leaves = Arena::new();
        let root = leaves.add(Leaf::default());
        Self {
            leaves,
            inners: Arena::new(),
            root,
            height: 0,
            live: 0,
        }
    }

    /// Builds the inner nodes over leaves that are in order; `lows[i]` separates leaf `i` from the
    /// one before it (the first is not looked at).
    pub fn over(leaves: Vec<Leaf>, mut lows: Vec<Vec<u8>>) -> Self {
        if leaves.is_empty() {
            return Self::new();
        }
        let (mut arena, mut inners) = (Arena::new(), Arena::new());
        let mut level: Vec<(NodeId, u64)> = leaves
            .into_iter()
            .map(|leaf| {
                let live = leaf.live_in(0, leaf.len());
                (arena.add(leaf), live)
            })
            .collect();
        let live = level.iter().map(|(_, live)| live).sum();
        let mut height = 0;
        while level.len() > 1 {
            let parents = level.chunks(FANOUT).zip(lows.chunks(FANOUT));
            level = parents
                .map(|(children, lows)| {
                    let inner = Inner::of(children, &lows[1..]);
                    let below = inner.live.iter().sum();
                    (inners.add(inner), below)
                })
                .collect();
            lows = lows.into_iter().step_by(FANOUT).collect();
            height += 1;
        }
        Self {
            leaves: arena,
            inners,
            root: level[0].0,
            height,
            live,
        }
    }

    /// The leaf that holds `key` or is the place for it; the way there is written over `path`.
    pub fn descend(&self, key: &[u8], path: &mut Path) -> NodeId {
        path.clear();
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = self.inners.get(node);
            let slot = inner.route(key);
            path.push(Step { node, slot });
            node = inner.children[slot];
        }
        node
    }

    /// The entry of `key`.
    pub fn find(&self, key: &[u8]) -> Option<&Entry> {
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = self.inners.get(node);
            node = inner.children[inner.route(key)];
        }
        let leaf = self.leaves.get(node);
        leaf.keys.search(key).ok().map(|i| leaf.entry(i))
    }

    /// The number of live keys below `key`; below the end of all keys for none.
    pub fn live_below(&self, key: Option<&[u8]>) -> u64 {
        let Some(key) = key else {
            return self.live;
        };
        let (mut node, mut live) = (self.root, 0);
        for _ in 0..self.height {
            let inner = self.inners.get(node);
            let slot = inner.route(key);
            live += inner.live[..slot].iter().sum::<u64>();
            node = inner.children[slot];
        }
        let leaf = self.leaves.get(node);
        live + leaf.live_in(0, leaf.keys.below(key))
    }

    /// One more live key (or one less) at the end of `path`.
    pub fn count(&mut self, path: &Path, born: bool) {
        let step = |live: &mut u64| *live = if born { *live + 1 } else { *live - 1 };
        for taken in path {
            step(&mut self.inners.get_mut(taken.node).live[taken.slot]);
        }
        step(&mut self.live);
    }

    /// Adds a key that is not there yet: it belongs at place `i` of leaf `id`, at the end of `path`.
    pub fn insert(
        &mut self,
        mut id: NodeId,
        mut i: usize,
        key: &[u8],
        entry: Entry,
        path: &mut Path,
    ) {
        while self.leaves.get(id).is_full(FANOUT) {
            self.split_leaf(id, key, path);
            id = self.descend(key, path);
            i = self.leaves.get(id).keys.below(key);
        }
        let live = entry.is_live();
        self.leaves.get_mut(id).insert(i, key, entry);
        if live {
            self.count(path, true);
        }
    }

    /// Removes the dead key at place `i` of the leaf at the end of `path`.
    pub fn remove(&mut self, id: NodeId, i: usize, path: &Path) {
        self.leaves.get_mut(id).remove(i);
        self.thin_leaf(id, path);
    }

    /// What the tree has allocated.
    pub fn heap_bytes(&self) -> usize {
        self.leaves.heap_bytes(Leaf::heap_bytes) + self.inners.heap_bytes(Inner::heap_bytes)
    }

    /// Makes room in the full leaf at the end of `path` for `key`. When `key` comes after all of its
    /// keys, the leaf stays full and `key` gets a new one: what is written in order fills leaves.
    fn split_leaf(&mut self, id: NodeId, key: &[u8], path: &Path) {
        let leaf = self.leaves.get_mut(id);
        let last = leaf.len() - 1;
        let (mut below, mut low) = (Vec::new(), Vec::new());
        let right = if leaf.keys.below(key) > last {
            leaf.tighten();
            leaf.keys.read(last, &mut below);
            low.extend_from_slice(key);
            Leaf::expecting(&key[..common_len(&below, key)])
        } else {
            let at = leaf.len() / 2;
            leaf.keys.read(at - 1, &mut below);
            leaf.keys.read(at, &mut low);
            leaf.split_off(at)
        };
        let left_live = leaf.live_in(0, leaf.len());
        let right_live = right.live_in(0, right.len());
        let right = self.leaves.add(right);
        self.link(
            path,
            separator(&below, &low),
            left_live,
            (right, right_live),
        );
    }

    /// Adds a node after the one at the end of `path`, of which it took the keys from `separator` on.
    fn link(&mut self, path: &[Step], separator: &[u8], left_live: u64, right: (NodeId, u64)) {
        let Some((step, above)) = path.split_last() else {
            let left = (self.root, left_live);
            self.root = self
                .inners
                .add(Inner::of(&[left, right], &[separator.to_vec()]));
            self.height += 1;
            return;
        };
        let inner = self.inners.get_mut(step.node);
        inner.live[step.slot] = left_live;
        inner.insert(step.slot + 1, separator, right);
        if inner.children.len() <= FANOUT {
            return;
        }
        let at_end = step.slot + 2 == inner.children.len();
        let at = if at_end {
            inner.children.len() - 1
        } else {
            inner.children.len() / 2
        };
        let (separator, new) = inner.split_off(at);
        let left_live = inner.live.iter().sum();
        let new_live = new.live.iter().sum();
        let new = self.inners.add(new);
        self.link(above, &separator, left_live, (new, new_live));
    }

    /// Joins a leaf that has few keys left with its neighbour, or drops it when it has none.
    fn thin_leaf(&mut self, id: NodeId, path: &Path) {
        let len = self.leaves.get(id).len();
        let Some((step, above)) = path.split_last() else {
            return;
        };
        if len >= FANOUT / 4 {
            return;
        }
        if len == 0 {
            self.leaves.release(id);
            self.unlink(step, above);
            return;
        }
        let parent = self.inners.get(step.node);
        let joined = parent.neighbours(step.slot).find(|&left| {
            let [left, right] = [left, left + 1].map(|slot| self.leaves.get(parent.children[slot]));
            left.can_take(right, FANOUT)
        });
        if let Some(left) = joined {
            let (into, from) = (parent.children[left], parent.children[left + 1]);
            let from = self.leaves.release(from);
            self.leaves.get_mut(into).append(from);
            self.absorb(step.node, left, above);
        }
    }

    /// The child after `left` has gone into it: its live keys too, then it is unlinked.
    fn absorb(&mut self, node: NodeId, left: usize, above: &[Step]) {
        let inner = self.inners.get_mut(node);
        inner.live[left] += inner.live[left + 1];
        let slot = left + 1;
        self.unlink(&Step { node, slot }, above);
    }

    /// Removes a child that holds nothing, and puts the nodes above in order.
    fn unlink(&mut self, step: &Step, above: &[Step]) {
        let inner = self.inners.get_mut(step.node);
        inner.remove(step.slot);
        let left_over = inner.children.len();
        match above.split_last() {
            None if left_over == 0 => {
                self.inners.release(step.node);
                self.root = self.leaves.add(Leaf::default());
                self.height = 0;
            }
            None => self.lower_root(),
            Some((parent, above)) if left_over == 0 => {
                self.inners.release(step.node);
                self.unlink(parent, above);
            }
            Some((parent, above)) if left_over < FANOUT / 4 => self.thin_inner(parent, above),
            Some(_) => {}
        }
    }

    /// Joins the inner node at `step` with a neighbour where both fit in one.
    fn thin_inner(&mut self, step: &Step, above: &[Step]) {
        let parent = self.inners.get(step.node);
        let joined = parent.neighbours(step.slot).find(|&left| {
            let pair = [left, left + 1].map(|slot| self.inners.get(parent.children[slot]));
            pair[0].children.len() + pair[1].children.len() <= FANOUT * 3 / 4
        });
        if let Some(left) = joined {
            let (into, from) = (parent.children[left], parent.children[left + 1]);
            let mut separator = Vec::new();
            parent.separators.read(left, &mut separator);
            let from = self.inners.release(from);
            self.inners.get_mut(into).append(&separator, from);
            self.absorb(step.node, left, above);
        }
    }

    fn lower_root(&mut self) {
        while self.height > 0 && self.inners.get(self.root).children.len() == 1 {
            let root = self.inners.release(self.root);
            self.root = root.children[0];
            self.height -= 1;
        }
    }
}

/// The shortest string above `below` and not above `low`, of which `low` is the greater.
pub(super) fn separator<'a>(below: &[u8], low: &'a [u8]) -> &'a [u8] {
    &low[..(common_len(below, low) + 1).min(low.len())]
}

#[cfg(test)]
impl<const FANOUT: usize> Tree<FANOUT> {
    /// Panics unless what the tree promises of itself holds.
    pub fn check(&self) {
        let below = self.check_node(self.root, self.height, &[], None);
        assert_eq!(below, self.live, "live keys of the tree");
    }

    fn check_node(&self, id: NodeId, height: usize, low: &[u8], high: Option<&[u8]>) -> u64 {
        let within = |key: &[u8]| key >= low && high.is_none_or(|high| key < high);
        let mut key = Vec::new();
        if height == 0 {
            let leaf = self.leaves.get(id);
            assert!(leaf.len() <= FANOUT && (leaf.len() > 0 || self.height == 0));
            assert_eq!(leaf.keys.len(), leaf.len());
            for i in 0..leaf.len() {
                leaf.keys.read(i, &mut key);
                assert!(within(&key), "{key:?} lies outside its leaf");
                assert_eq!(leaf.keys.search(&key), Ok(i));
            }
            return leaf.live_in(0, leaf.len());
        }
        let inner = self.inners.get(id);
        let len = inner.children.len();
        assert!((1..=FANOUT).contains(&len));
        assert_eq!((inner.separators.len(), inner.live.len()), (len - 1, len));
        let mut bounds = vec![low.to_vec()];
        for i in 0..len - 1 {
            inner.separators.read(i, &mut key);
            assert!(within(&key));
            bounds.push(key.clone());
        }
        for (slot, child) in inner.children.iter().enumerate() {
            let high = bounds.get(slot + 1).map(Vec::as_slice).or(high);
            let live = self.check_node(*child, height - 1, &bounds[slot], high);
            assert_eq!(live, inner.live[slot], "live keys below a child");
        }
        inner.live.iter().sum()
    }
}
