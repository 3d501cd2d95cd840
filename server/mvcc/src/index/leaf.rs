//! A leaf: up to a fan-out of keys in order, each with its entry.

use super::entry::Entry;
use super::packed::PackedKeys;

/// A leaf with keys of more bytes than this is split before it takes another, so that an insert
/// moves little; a single key may be of any length.
const FULL_KEY_BYTES: usize = 16 * 1024;

/// Entries are allocated this many at a time.
const ENTRIES_STEP: usize = 8;

/// A run of keys and their entries.
#[derive(Default)]
pub(super) struct Leaf {
    pub keys: PackedKeys,
    entries: Vec<Entry>,
    /// What the entries have allocated.
    rare_bytes: usize,
}

impl Leaf {
    /// An empty leaf whose keys are expected to begin with `prefix`.
    pub fn expecting(prefix: &[u8]) -> Self {
        Self {
            keys: PackedKeys::expecting(prefix),
            ..Self::default()
        }
    }

    /// A leaf of entries that are in order already.
    pub fn of(keys: PackedKeys, entries: Vec<Entry>) -> Self {
        let rare_bytes = entries.iter().map(Entry::heap_bytes).sum();
        Self {
            keys,
            entries,
            rare_bytes,
        }
    }

    /// The number of keys, dead ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The leaf must be split before it takes another key.
    pub fn is_full(&self, fanout: usize) -> bool {
        self.len() >= fanout || (self.len() > 1 && self.keys.size_bytes() > FULL_KEY_BYTES)
    }

    /// Whether the leaf and `right` together are well below a full one.
    pub fn can_take(&self, right: &Self, fanout: usize) -> bool {
        self.len() + right.len() <= fanout * 3 / 4
            && self.keys.size_bytes() + right.keys.size_bytes() <= FULL_KEY_BYTES / 2
    }

    /// The live keys of the places `from..to`.
    pub fn live_in(&self, from: usize, to: usize) -> u64 {
        let live = self.entries[from..to]
            .iter()
            .filter(|entry| entry.is_live());
        live.count() as u64
    }

    /// The entry at place `i`.
    pub fn entry(&self, i: usize) -> &Entry {
        &self.entries[i]
    }

    /// Changes the entry at place `i`.
    pub fn change<T>(&mut self, i: usize, change: impl FnOnce(&mut Entry) -> T) -> T {
        let entry = &mut self.entries[i];
        self.rare_bytes -= entry.heap_bytes();
        let answer = change(entry);
        self.rare_bytes += entry.heap_bytes();
        answer
    }

    /// Puts a key and its entry at place `i`, where the search said that it belongs.
    pub fn insert(&mut self, i: usize, key: &[u8], entry: Entry) {
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(ENTRIES_STEP);
        }
        self.rare_bytes += entry.heap_bytes();
        self.keys.insert(i, key);
        self.entries.insert(i, entry);
    }

    /// Takes the key at place `i` out.
    pub fn remove(&mut self, i: usize) {
        self.keys.remove(i);
        let entry = self.entries.remove(i);
        self.rare_bytes -= entry.heap_bytes();
    }

    /// Takes what is at `i` and above out, into a leaf of its own.
    pub fn split_off(&mut self, i: usize) -> Self {
        let mut entries = Vec::with_capacity(self.len() - i);
        entries.extend(self.entries.drain(i..));
        self.entries.shrink_to_fit();
        let right = Self::of(self.keys.split_off(i), entries);
        self.rare_bytes -= right.rare_bytes;
        right
    }

    /// Takes over what is in `right`, the leaf that follows.
    pub fn append(&mut self, right: Self) {
        self.keys.append(&right.keys);
        self.keys.tighten();
        self.entries.reserve_exact(right.entries.len());
        self.entries.extend(right.entries);
        self.rare_bytes += right.rare_bytes;
    }

    /// Gives back the room to spare: nothing more is expected here.
    pub fn tighten(&mut self) {
        self.keys.tighten();
        self.entries.shrink_to_fit();
    }

    /// What the leaf has allocated.
    pub fn heap_bytes(&self) -> usize {
        self.keys.heap_bytes() + self.entries.capacity() * size_of::<Entry>() + self.rare_bytes
    }
}
