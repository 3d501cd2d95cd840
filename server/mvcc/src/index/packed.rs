//! The keys of one node, packed: a sorted list of byte strings in two allocations.
//!
//! What all keys of the node begin with is stored once. Leaves and inner nodes search, split and
//! merge these lists; a list knows nothing of what belongs to a key.
//!
//! ```text
//! bytes:  prefix | suffix 0 | suffix 1 | ...
//! ends:            ^          ^               where each suffix ends in bytes
//! ```

use std::cmp::min;

/// Room is added this many keys at a time, so that a list holds little that it does not use.
const ENDS_STEP: usize = 8;

/// A sorted list of distinct keys, of which the common prefix is stored once.
#[derive(Default)]
pub(super) struct PackedKeys {
    prefix_len: usize,
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl PackedKeys {
    /// An empty list whose keys are expected to begin with `prefix`; others are welcome.
    pub fn expecting(prefix: &[u8]) -> Self {
        Self {
            prefix_len: prefix.len(),
            ends: Vec::new(),
            bytes: prefix.to_vec(),
        }
    }

    /// Packs `keys`, which must ascend, without room to spare.
    pub fn pack(keys: &[u8], ends: &[u32]) -> Self {
        Self {
            prefix_len: 0,
            ends: ends.to_vec(),
            bytes: keys.to_vec(),
        }
        .repacked(0, ends.len())
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes that the keys take, without the counting of where they end.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What the list has allocated.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }

    /// What every key begins with.
    pub fn prefix(&self) -> &[u8] {
        &self.bytes[..self.prefix_len]
    }

    /// What key `i` continues with after the prefix.
    pub fn suffix(&self, i: usize) -> &[u8] {
        &self.bytes[self.start(i)..self.ends[i] as usize]
    }

    /// Writes key `i` over what `key` held.
    pub fn read(&self, i: usize, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(self.prefix());
        key.extend_from_slice(self.suffix(i));
    }

    /// The place of `key`, or the place where it belongs.
    pub fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let prefix = self.prefix();
        let Some(suffix) = key.strip_prefix(prefix) else {
            return Err(if key < prefix { 0 } else { self.len() });
        };
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.suffix(middle).cmp(suffix) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// The number of keys below `key`.
    pub fn below(&self, key: &[u8]) -> usize {
        self.search(key).unwrap_or_else(|i| i)
    }

    /// Puts `key` at place `i`, which [`search`](Self::search) named.
    pub fn insert(&mut self, i: usize, key: &[u8]) {
        if !key.starts_with(self.prefix()) {
            self.shorten_prefix(common_len(self.prefix(), key));
        }
        let suffix = &key[self.prefix_len..];
        let (start, old_len) = (self.start(i), self.bytes.len());
        self.reserve(suffix.len());
        self.bytes.resize(old_len + suffix.len(), 0);
        self.bytes.copy_within(start..old_len, start + suffix.len());
        self.bytes[start..start + suffix.len()].copy_from_slice(suffix);
        self.ends.insert(i, start as u32);
        for end in &mut self.ends[i..] {
            *end += suffix.len() as u32;
        }
    }

    /// Takes key `i` out.
    pub fn remove(&mut self, i: usize) {
        let (start, end) = (self.start(i), self.ends.remove(i) as usize);
        self.bytes.drain(start..end);
        for later in &mut self.ends[i..] {
            *later -= (end - start) as u32;
        }
    }

    /// Takes the keys from `i` on out, into a list of their own. Both are packed anew.
    pub fn split_off(&mut self, i: usize) -> Self {
        let right = self.repacked(i, self.len());
        *self = self.repacked(0, i);
        right
    }

    /// Takes over the keys of `right`, all of which are above ours.
    pub fn append(&mut self, right: &Self) {
        let mut key = Vec::new();
        for i in 0..right.len() {
            right.read(i, &mut key);
            self.insert(self.len(), &key);
        }
    }

    /// Finds the longest common prefix anew and gives back the room to spare.
    pub fn tighten(&mut self) {
        *self = self.repacked(0, self.len());
    }

    fn start(&self, i: usize) -> usize {
        if i == 0 {
            self.prefix_len
        } else {
            self.ends[i - 1] as usize
        }
    }

    fn reserve(&mut self, suffix_len: usize) {
        if self.ends.len() == self.ends.capacity() {
            self.ends.reserve_exact(ENDS_STEP);
        }
        if self.bytes.capacity() - self.bytes.len() < suffix_len {
            // Four like it, or an eighth: a list of short keys grows with its ends.
            let room = min(suffix_len * 4, 128).max(self.bytes.len() / 8);
            self.bytes.reserve_exact(room.max(suffix_len));
        }
    }

    fn shorten_prefix(&mut self, prefix_len: usize) {
        let moved = self.bytes[prefix_len..self.prefix_len].to_vec();
        let mut bytes = Vec::with_capacity(self.bytes.len() + moved.len() * self.len());
        bytes.extend_from_slice(&self.bytes[..prefix_len]);
        for i in 0..self.len() {
            bytes.extend_from_slice(&moved);
            bytes.extend_from_slice(self.suffix(i));
        }
        for (i, end) in self.ends.iter_mut().enumerate() {
            *end = *end - moved.len() as u32 + (moved.len() * (i + 1)) as u32;
        }
        self.prefix_len = prefix_len;
        self.bytes = bytes;
    }

    /// The keys `from..to` in a list without room to spare.
    fn repacked(&self, from: usize, to: usize) -> Self {
        if from == to {
            return Self::default();
        }
        let more = common_len(self.suffix(from), self.suffix(to - 1));
        let start = self.start(from);
        let suffixes_len = self.ends[to - 1] as usize - start - more * (to - from);
        let prefix_len = self.prefix_len + more;
        let mut bytes = Vec::with_capacity(prefix_len + suffixes_len);
        bytes.extend_from_slice(self.prefix());
        bytes.extend_from_slice(&self.bytes[start..start + more]);
        let mut ends = Vec::with_capacity(to - from);
        for i in from..to {
            bytes.extend_from_slice(&self.suffix(i)[more..]);
            ends.push(bytes.len() as u32);
        }
        Self {
            prefix_len,
            ends,
            bytes,
        }
    }
}

/// How many bytes `a` and `b` begin with in common.
pub(super) fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    fn keys(list: &PackedKeys) -> Vec<Vec<u8>> {
        let mut key = Vec::new();
        (0..list.len())
            .map(|i| {
                list.read(i, &mut key);
                key.clone()
            })
            .collect()
    }

    fn filled(wanted: &[Vec<u8>]) -> PackedKeys {
        let mut list = PackedKeys::expecting(b"aa");
        for key in wanted {
            let place = list.search(key).expect_err("keys are distinct");
            list.insert(place, key);
        }
        list
    }

    proptest! {
        #[test]
        fn a_list_is_the_sorted_set_of_its_keys(
            inserted in vec(vec(97u8..100, 0..6), 0..40),
            removed in vec(any::<prop::sample::Index>(), 0..20),
            split in any::<prop::sample::Index>(),
            asked in vec(97u8..100, 0..6),
        ) {
            let mut wanted: Vec<_> = Vec::new();
            for key in inserted {
                if !wanted.contains(&key) {
                    wanted.push(key);
                }
            }
            let mut list = filled(&wanted);
            wanted.sort();
            for index in removed {
                if wanted.is_empty() {
                    break;
                }
                let i = index.index(wanted.len());
                wanted.remove(i);
                list.remove(i);
                if i % 3 == 0 {
                    list.tighten();
                }
            }
            prop_assert_eq!(keys(&list), wanted.clone());
            prop_assert_eq!(list.search(&asked), wanted.binary_search(&asked));
            let at = split.index(wanted.len() + 1);
            let right = list.split_off(at);
            prop_assert_eq!(keys(&list), wanted[..at].to_vec());
            prop_assert_eq!(keys(&right), wanted[at..].to_vec());
            list.append(&right);
            prop_assert_eq!(keys(&list), wanted);
        }

        #[test]
        fn packing_keeps_every_key(wanted in btree_set(vec(97u8..100, 0..6), 0..40)) {
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for key in &wanted {
                bytes.extend_from_slice(key);
                ends.push(bytes.len() as u32);
            }
            let list = PackedKeys::pack(&bytes, &ends);
            prop_assert_eq!(keys(&list), wanted.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(list.heap_bytes(), list.bytes.len() + list.ends.len() * 4);
        }
    }
}
