//! An inner node: children, what separates their keys, and how many live keys each has.

use super::arena::NodeId;
use super::packed::PackedKeys;

/// An inner node: `children[i]` holds the keys from `separators[i - 1]` up to below `separators[i]`.
#[derive(Default)]
pub(super) struct Inner {
    pub separators: PackedKeys,
    pub children: Vec<NodeId>,
    /// The live keys below each child.
    pub live: Vec<u64>,
}

impl Inner {
    pub fn of(children: &[(NodeId, u64)], separators: &[Vec<u8>]) -> Self {
        let mut inner = Self::default();
        for (i, separator) in separators.iter().enumerate() {
            inner.separators.insert(i, separator);
        }
        inner.separators.tighten();
        inner.children = children.iter().map(|(id, _)| *id).collect();
        inner.live = children.iter().map(|(_, live)| *live).collect();
        inner
    }

    /// The child below which `key` belongs.
    pub fn route(&self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(i) => i + 1,
            Err(i) => i,
        }
    }

    pub fn insert(&mut self, slot: usize, separator: &[u8], (id, live): (NodeId, u64)) {
        self.separators.insert(slot - 1, separator);
        self.children.insert(slot, id);
        self.live.insert(slot, live);
    }

    pub fn remove(&mut self, slot: usize) {
        if self.separators.len() > 0 {
            self.separators.remove(slot.saturating_sub(1));
        }
        self.children.remove(slot);
        self.live.remove(slot);
    }

    /// Takes the children from `at` on out; gives the separator between the two nodes with them.
    pub fn split_off(&mut self, at: usize) -> (Vec<u8>, Self) {
        let mut separator = Vec::new();
        self.separators.read(at - 1, &mut separator);
        let separators = self.separators.split_off(at);
        self.separators.remove(at - 1);
        let right = Self {
            separators,
            children: self.children.split_off(at),
            live: self.live.split_off(at),
        };
        (separator, right)
    }

    pub fn append(&mut self, separator: &[u8], right: Self) {
        self.separators.insert(self.separators.len(), separator);
        self.separators.append(&right.separators);
        self.separators.tighten();
        self.children.extend(right.children);
        self.live.extend(right.live);
    }

    /// The left slots of the pairs of neighbours that `slot` is in.
    pub fn neighbours(&self, slot: usize) -> impl Iterator<Item = usize> + use<> {
        let right = (slot + 1 < self.children.len()).then_some(slot);
        right.into_iter().chain(slot.checked_sub(1))
    }

    pub fn heap_bytes(&self) -> usize {
        self.separators.heap_bytes()
            + self.children.capacity() * size_of::<NodeId>()
            + self.live.capacity() * size_of::<u64>()
    }
}
