//! What the index holds for one key: its newest version packed, and rare things behind a box.
//!
//! A key with one version, no lease and a version number below 2^32 takes 32 bytes and no
//! allocation. Entries never know their key.

use crate::revision::{Meta, Revision, Version};

/// The newest version of a key and the way to its older ones.
pub(super) struct Entry {
    /// The revision that created the key; 0 when the newest version is a tombstone.
    create: i64,
    main: i64,
    sub: u32,
    /// The low half of the version number.
    version: u32,
    rare: Option<Box<Rare>>,
}

/// What most keys do not have.
#[derive(Default)]
struct Rare {
    lease: i64,
    version_high: u32,
    /// Oldest first; all are older than the entry's own version.
    older: Vec<Older>,
}

/// A [`Version`] in 12 bytes: the halves of `main`, then `sub` with the tombstone's flag on top.
#[derive(Clone, Copy)]
struct Older([u32; 3]);

const TOMBSTONE: u32 = 1 << 31;

impl Entry {
    /// The first version of a key: live with what `head` says, or a tombstone.
    pub fn new(revision: Revision, head: Option<&Meta>) -> Self {
        let mut entry = Self {
            create: 0,
            main: 0,
            sub: 0,
            version: 0,
            rare: None,
        };
        entry.set(revision, head);
        entry
    }

    /// An entry with its older versions, oldest first.
    pub fn with_older(revision: Revision, head: Option<&Meta>, older: &[Version]) -> Self {
        let mut entry = Self::new(revision, head);
        if !older.is_empty() {
            entry.rare.get_or_insert_default().older =
                older.iter().copied().map(Older::pack).collect();
        }
        entry
    }

    /// The newest version is not a tombstone.
    pub fn is_live(&self) -> bool {
        self.create != 0
    }

    /// Where the newest version was written.
    pub fn revision(&self) -> Revision {
        Revision::new(self.main, self.sub)
    }

    /// The facts of the newest version; none when it is a tombstone.
    pub fn meta(&self) -> Option<Meta> {
        self.is_live().then(|| {
            let (high, lease) = match &self.rare {
                Some(rare) => (rare.version_high, rare.lease),
                None => (0, 0),
            };
            Meta {
                create_revision: self.create,
                mod_revision: self.revision(),
                version: i64::from(high) << 32 | i64::from(self.version),
                lease,
            }
        })
    }

    /// The newest version written at `at` or before.
    pub fn version_at(&self, at: i64) -> Option<Version> {
        if self.main <= at {
            return Some(self.head());
        }
        let older = self.packed_older();
        let newer = older.partition_point(|version| version.main() <= at);
        newer.checked_sub(1).map(|i| older[i].unpack())
    }

    /// Where the version that is live at `at` was written.
    pub fn live_at(&self, at: i64) -> Option<Revision> {
        let version = self.version_at(at)?;
        (!version.tombstone).then_some(version.revision)
    }

    /// The versions before the newest, oldest first.
    pub fn older(&self) -> impl DoubleEndedIterator<Item = Version> + Clone + '_ {
        self.packed_older().iter().map(|version| version.unpack())
    }

    /// Makes a version the newest: what was newest joins the older ones.
    pub fn advance(&mut self, revision: Revision, head: Option<&Meta>) {
        let older = &mut self.rare.get_or_insert_default().older;
        if older.len() == older.capacity() {
            // A quarter more: a key that is written all the time must not copy its past at each put.
            older.reserve_exact((older.len() / 4).max(1));
        }
        let head_before = Version {
            revision: Revision::new(self.main, self.sub),
            tombstone: self.create == 0,
        };
        older.push(Older::pack(head_before));
        self.set(revision, head);
    }

    /// Drops what compaction at `at` makes unreadable: versions that a later one at `at` or before
    /// replaced, and a tombstone before `at`. Tells whether anything is left.
    pub fn compact(&mut self, at: i64) -> bool {
        let Some(rare) = &mut self.rare else {
            return self.is_live() || self.main >= at;
        };
        let upto = rare.older.partition_point(|version| version.main() <= at);
        let first_kept = if self.main <= at {
            if self.create == 0 && self.main < at {
                return false;
            }
            rare.older.len()
        } else {
            match upto.checked_sub(1) {
                None => 0,
                Some(i) if rare.older[i].is_tombstone() && rare.older[i].main() < at => upto,
                Some(i) => i,
            }
        };
        if first_kept > 0 {
            rare.older.drain(..first_kept);
            rare.older.shrink_to_fit();
        }
        self.drop_empty_rare();
        true
    }

    /// What the entry has allocated.
    pub fn heap_bytes(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| {
            size_of::<Rare>() + rare.older.capacity() * size_of::<Older>()
        })
    }

    fn head(&self) -> Version {
        Version {
            revision: self.revision(),
            tombstone: !self.is_live(),
        }
    }

    fn packed_older(&self) -> &[Older] {
        self.rare.as_ref().map_or(&[], |rare| &rare.older)
    }

    fn set(&mut self, revision: Revision, head: Option<&Meta>) {
        (self.main, self.sub) = (revision.main, revision.sub);
        let (version, lease) = head.map_or((0, 0), |meta| (meta.version, meta.lease));
        self.create = head.map_or(0, |meta| meta.create_revision);
        self.version = version as u32;
        let high = (version >> 32) as u32;
        if self.rare.is_some() || lease != 0 || high != 0 {
            let rare = self.rare.get_or_insert_default();
            (rare.lease, rare.version_high) = (lease, high);
            self.drop_empty_rare();
        }
    }

    fn drop_empty_rare(&mut self) {
        if self.rare.as_deref().is_some_and(Rare::is_empty) {
            self.rare = None;
        }
    }
}

impl Rare {
    fn is_empty(&self) -> bool {
        self.lease == 0 && self.version_high == 0 && self.older.is_empty()
    }
}

impl Older {
    fn pack(version: Version) -> Self {
        let Revision { main, sub } = version.revision;
        let flag = if version.tombstone { TOMBSTONE } else { 0 };
        Self([(main >> 32) as u32, main as u32, sub & !TOMBSTONE | flag])
    }

    fn unpack(self) -> Version {
        Version {
            revision: Revision::new(self.main(), self.0[2] & !TOMBSTONE),
            tombstone: self.is_tombstone(),
        }
    }

    fn main(self) -> i64 {
        (u64::from(self.0[0]) << 32 | u64::from(self.0[1])) as i64
    }

    fn is_tombstone(self) -> bool {
        self.0[2] & TOMBSTONE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(create: i64, main: i64, version: i64, lease: i64) -> Meta {
        Meta {
            create_revision: create,
            mod_revision: Revision::new(main, 0),
            version,
            lease,
        }
    }

    fn written(entry: &Entry) -> Vec<(i64, bool)> {
        entry
            .older()
            .chain([entry.head()])
            .map(|version| (version.revision.main, version.tombstone))
            .collect()
    }

    /// Written at 2, 4, deleted at 6, written at 8 and 9.
    fn sample() -> Entry {
        let mut entry = Entry::new(Revision::new(2, 0), Some(&meta(2, 2, 1, 0)));
        entry.advance(Revision::new(4, 3), Some(&meta(2, 4, 2, 0)));
        entry.advance(Revision::new(6, 0), None);
        entry.advance(Revision::new(8, 0), Some(&meta(8, 8, 1, 0)));
        entry.advance(Revision::new(9, 0), Some(&meta(8, 9, 2, 0)));
        entry
    }

    #[test]
    fn a_plain_key_takes_32_bytes_and_no_allocation() {
        let entry = Entry::new(Revision::new(2, 0), Some(&meta(2, 2, 1, 0)));
        assert_eq!(size_of::<Entry>(), 32);
        assert_eq!(entry.heap_bytes(), 0);
    }

    #[test]
    fn large_version_numbers_and_leases_are_kept() {
        let wanted = meta(2, 9_000_000_000, 5_000_000_001, -7);
        let mut entry = Entry::new(wanted.mod_revision, Some(&wanted));
        assert_eq!(entry.meta(), Some(wanted));
        entry.advance(Revision::new(9_000_000_001, 0), None);
        assert_eq!(entry.meta(), None);
        let older: Vec<_> = entry.older().map(|version| version.revision).collect();
        assert_eq!(older, [Revision::new(9_000_000_000, 0)]);
    }

    #[test]
    fn a_read_at_an_older_revision_finds_the_version_of_that_time() {
        let entry = sample();
        let read = |at| entry.live_at(at).map(|revision| revision.main);
        let found: Vec<_> = (1..=10).map(read).collect();
        let wanted = [0, 2, 2, 4, 4, 0, 0, 8, 9, 9].map(|main| (main != 0).then_some(main));
        assert_eq!(found, wanted);
        assert_eq!(entry.live_at(4), Some(Revision::new(4, 3)));
    }

    #[test]
    fn compaction_keeps_what_can_be_read_from_its_revision_on() {
        let all = [(2, false), (4, false), (6, true), (8, false), (9, false)];
        let cases = [
            (1, 0),
            (2, 0),
            (3, 0),
            (4, 1),
            (5, 1),
            (6, 2),
            (7, 3),
            (8, 3),
            (9, 4),
            (20, 4),
        ];
        for (at, first) in cases {
            let mut entry = sample();
            assert!(entry.compact(at));
            assert_eq!(written(&entry), all[first..], "compacted at {at}");
        }
    }

    #[test]
    fn a_tombstone_outlives_only_a_compaction_at_its_own_revision() {
        let mut entry = Entry::new(Revision::new(2, 0), Some(&meta(2, 2, 1, 5)));
        entry.advance(Revision::new(6, 0), None);
        assert!(entry.compact(5));
        assert_eq!(written(&entry), [(2, false), (6, true)]);
        assert!(entry.compact(6));
        assert_eq!(written(&entry), [(6, true)]);
        assert_eq!(entry.heap_bytes(), 0);
        assert!(!entry.compact(7));
    }
}
