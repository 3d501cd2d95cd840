//! The index against a model: random programs, whatever the node size.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::build::Builder;
use super::{Checkpoint, Cursor, KeyIndex, KeyRange, read_checkpoint};
use crate::revision::{Meta, Revision, Version};

/// What one transaction does, or a duty of the store between two.
#[derive(Clone, Debug)]
enum Step {
    Put {
        key: Vec<u8>,
        lease: i64,
    },
    /// One transaction that puts several keys.
    PutAll(Vec<Vec<u8>>),
    Delete {
        key: Vec<u8>,
    },
    DeleteRange {
        key: Vec<u8>,
        end: Vec<u8>,
    },
    /// Compacts at this share of the way from the last compaction to now.
    Compact {
        percent: i64,
    },
    Publish,
    /// Writes a checkpoint at this share of the way, reads it back and replays the rest.
    Restart {
        percent: i64,
    },
    Read {
        key: Vec<u8>,
        end: Vec<u8>,
        percent: i64,
        piece: usize,
    },
}

/// Every version of every key, and what etcd would say of them.
#[derive(Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, Vec<(Version, Option<Meta>)>>,
    now: i64,
    compacted: i64,
}

impl Model {
    fn version_at(&self, key: &[u8], at: i64) -> Option<Version> {
        let versions = self.keys.get(key)?.iter().rev();
        versions
            .map(|(version, _)| *version)
            .find(|version| version.revision.main <= at)
    }

    fn live(&self, range: KeyRange<'_>, at: i64) -> Vec<(Vec<u8>, Revision)> {
        let named = self.keys.keys().filter(|key| range.contains(key));
        let live = named.filter_map(|key| {
            let version = self.version_at(key, at)?;
            (!version.tombstone).then(|| (key.clone(), version.revision))
        });
        live.collect()
    }

    fn meta(&self, key: &[u8]) -> Option<Meta> {
        self.keys.get(key)?.last()?.1
    }

    fn write(&mut self, key: &[u8], revision: Revision, meta: Option<Meta>) {
        let tombstone = meta.is_none();
        let version = Version {
            revision,
            tombstone,
        };
        self.keys
            .entry(key.to_vec())
            .or_default()
            .push((version, meta));
    }

    fn put(&mut self, key: &[u8], revision: Revision, lease: i64) -> Option<Meta> {
        let previous = self.meta(key);
        let meta = Meta {
            create_revision: previous.map_or(revision.main, |meta| meta.create_revision),
            mod_revision: revision,
            version: previous.map_or(0, |meta| meta.version) + 1,
            lease,
        };
        self.write(key, revision, Some(meta));
        previous
    }

    fn compact(&mut self, at: i64) -> Vec<Vec<u8>> {
        let touched = self.keys.iter().filter(|(_, versions)| {
            let mains = versions.iter().map(|(version, _)| version.revision.main);
            mains
                .into_iter()
                .any(|main| self.compacted <= main && main <= at)
        });
        let touched = touched.map(|(key, _)| key.clone()).collect();
        self.keys.retain(|_, versions| {
            let seen = versions
                .iter()
                .rposition(|(version, _)| version.revision.main <= at);
            if let Some(i) = seen {
                let (
                    Version {
                        revision,
                        tombstone,
                    },
                    _,
                ) = versions[i];
                let gone = tombstone && revision.main < at;
                versions.drain(..if gone { i + 1 } else { i });
            }
            !versions.is_empty()
        });
        self.compacted = at;
        touched
    }

    fn revision_at(&self, percent: i64) -> i64 {
        let first = self.compacted.max(0);
        first + (self.now - first) * percent / 100
    }
}

impl<const FANOUT: usize> KeyIndex<FANOUT> {
    /// The newest version of `key` at `at` or before, be it a tombstone.
    pub(crate) fn version_at(&self, key: &[u8], at: i64) -> Option<Version> {
        self.tree.find(key)?.version_at(at)
    }
}

fn run<const FANOUT: usize>(steps: &[Step]) {
    let mut model = Model {
        now: 1,
        ..Model::default()
    };
    let mut index = KeyIndex::<FANOUT>::new();
    for step in steps {
        match step {
            Step::Put { key, lease } => {
                model.now += 1;
                let revision = Revision::new(model.now, 0);
                assert_eq!(
                    index.put(key, revision, *lease),
                    model.put(key, revision, *lease)
                );
            }
            Step::PutAll(keys) => {
                model.now += 1;
                for (sub, key) in (0..).zip(keys) {
                    let revision = Revision::new(model.now, sub);
                    assert_eq!(index.put(key, revision, 0), model.put(key, revision, 0));
                }
            }
            Step::Delete { key } => {
                model.now += 1;
                delete(&mut model, &mut index, key, 0);
            }
            Step::DeleteRange { key, end } => {
                model.now += 1;
                let range = KeyRange::new(key, end);
                let doomed = model.live(range, model.now);
                for (sub, (key, _)) in (0..).zip(doomed) {
                    delete(&mut model, &mut index, &key, sub);
                }
            }
            Step::Compact { percent } => {
                let at = model.revision_at(*percent);
                for key in model.compact(at) {
                    index.compact_key(&key, at);
                }
            }
            Step::Publish => index.trim(model.now),
            Step::Restart { percent } => index = restarted(&model, &index, *percent),
            Step::Read {
                key,
                end,
                percent,
                piece,
            } => {
                let at = model.revision_at(*percent);
                check_read(&model, &index, KeyRange::new(key, end), at, *piece);
            }
        }
    }
    index.tree.check();
    assert_eq!(
        index.live_keys(),
        model.live(KeyRange::ALL, model.now).len() as u64
    );
    for at in model.compacted.max(0)..=model.now {
        check_read(&model, &index, KeyRange::ALL, at, 3);
    }
    check_newest(&model, &index);
}

fn delete<const F: usize>(model: &mut Model, index: &mut KeyIndex<F>, key: &[u8], sub: u32) {
    let revision = Revision::new(model.now, sub);
    let previous = model.meta(key);
    if previous.is_some() {
        model.write(key, revision, None);
    }
    assert_eq!(index.delete(key, revision), previous);
}

/// What a start makes of the index: a checkpoint cut somewhere, then the rows above the cut.
fn restarted<const F: usize>(model: &Model, index: &KeyIndex<F>, percent: i64) -> KeyIndex<F> {
    let cut = model.revision_at(percent);
    let mut stream = Vec::new();
    let mut checkpoint = Checkpoint::new(cut);
    while checkpoint.step(index, &mut stream) {}
    let (mut index, read_cut) =
        read_checkpoint::<F>(&mut stream.as_slice(), model.compacted).expect("just written");
    assert_eq!(read_cut, cut);
    let mut rows = Vec::new();
    for (key, versions) in &model.keys {
        let newer = versions
            .iter()
            .filter(|(version, _)| version.revision.main > cut);
        rows.extend(newer.map(|(version, meta)| (version.revision, key, meta)));
    }
    rows.sort_by_key(|(revision, ..)| *revision);
    for (revision, key, meta) in rows {
        index.restore(key, revision, meta.as_ref());
    }
    index
}

fn check_read<const F: usize>(
    model: &Model,
    index: &KeyIndex<F>,
    range: KeyRange<'_>,
    at: i64,
    piece: usize,
) {
    let wanted = model.live(range, at);
    let mut found = Vec::new();
    let mut cursor = Cursor::new();
    while !cursor.is_done() {
        index.scan(range, at, &mut cursor, piece, |key, revision| {
            found.push((key.to_vec(), revision));
            found.len() % 5 != 0
        });
    }
    assert_eq!(found, wanted, "{range:?} at {at}");
    let (mut walked, mut cursor) = (0, Cursor::new());
    while !cursor.is_done() {
        walked += index.count_piece(range, at, &mut cursor, piece);
    }
    assert_eq!(walked, wanted.len() as u64, "{range:?} walked at {at}");
    let counted = index.count(range, at);
    assert_eq!(
        counted.unwrap_or(walked),
        walked,
        "{range:?} counted at {at}"
    );
    assert_eq!(
        index.version_at(range.key, at),
        model.version_at(range.key, at)
    );
}

fn check_newest<const F: usize>(model: &Model, index: &KeyIndex<F>) {
    let mut found = Vec::new();
    let mut cursor = Cursor::new();
    while !cursor.is_done() {
        index.scan_newest(KeyRange::ALL, &mut cursor, 7, |key, meta| {
            found.push((key.to_vec(), *meta));
            true
        });
    }
    let live = model
        .keys
        .keys()
        .filter_map(|key| Some((key.clone(), model.meta(key)?)));
    assert_eq!(found, live.collect::<Vec<_>>());
    for key in model.keys.keys() {
        assert_eq!(index.meta(key), model.meta(key));
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => vec(97u8..101, 0..4),
        10 => (0u32..300).prop_map(|n| format!("/registry/pods/{n:03}").into_bytes()),
        1 => (97u8..101, 0usize..20_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn end() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![1 => Just(Vec::new()), 1 => Just(vec![0]), 3 => key()]
}

fn step() -> impl Strategy<Value = Step> {
    let lease = prop_oneof![Just(0), any::<i64>()];
    prop_oneof![
        40 => (key(), lease).prop_map(|(key, lease)| Step::Put { key, lease }),
        10 => vec(key(), 0..40).prop_map(Step::PutAll),
        10 => key().prop_map(|key| Step::Delete { key }),
        4 => (key(), end()).prop_map(|(key, end)| Step::DeleteRange { key, end }),
        5 => (0i64..101).prop_map(|percent| Step::Compact { percent }),
        2 => Just(Step::Publish),
        2 => (0i64..101).prop_map(|percent| Step::Restart { percent }),
        10 => (key(), end(), 0i64..101, 1usize..20)
            .prop_map(|(key, end, percent, piece)| Step::Read { key, end, percent, piece }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_index_of_the_smallest_nodes_agrees_with_the_model(steps in vec(step(), 0..250)) {
        run::<4>(&steps);
    }

    #[test]
    fn an_index_of_small_nodes_agrees_with_the_model(steps in vec(step(), 0..250)) {
        run::<9>(&steps);
    }

    #[test]
    fn the_index_agrees_with_the_model(steps in vec(step(), 0..250)) {
        run::<64>(&steps);
    }
}

/// A permutation of `0..n` without a random number generator; `n` a power of two.
fn scattered(n: u64) -> impl Iterator<Item = u64> {
    (0..n).map(move |i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15 | 1) & (n - 1))
}

#[test]
fn deleting_and_compacting_everything_gives_the_memory_back() {
    let mut index = KeyIndex::<8>::new();
    let n = 1_u64 << 14;
    for (main, i) in (2..).zip(scattered(n)) {
        index.put(&i.to_be_bytes(), Revision::new(main, 0), 0);
    }
    index.tree.check();
    for (main, i) in (2 + n as i64..).zip(scattered(n)) {
        index.delete(&i.to_be_bytes(), Revision::new(main, 0));
        index.compact_key(&i.to_be_bytes(), main + 1);
        if i % 1000 == 0 {
            index.tree.check();
        }
    }
    index.tree.check();
    assert_eq!((index.live_keys(), index.tree.height), (0, 0));
}

#[test]
fn counts_reach_back_through_the_journal_and_no_further() {
    let mut index = KeyIndex::<64>::new();
    let main = |i: u64| i as i64 + 2;
    let n = 200_000_u64;
    for i in 0..n {
        index.put(&i.to_be_bytes(), Revision::new(main(i), 0), 0);
        index.trim(main(i) - 1);
    }
    let low_half = KeyRange {
        key: b"",
        end: &(n / 2).to_be_bytes(),
    };
    assert_eq!(index.count(low_half, main(n)), Some(n / 2));
    assert_eq!(index.count(KeyRange::ALL, main(n - 10)), Some(n - 9));
    assert_eq!(
        index.count(KeyRange::ALL, main(n - 60_000)),
        Some(n - 59_999)
    );
    assert_eq!(index.count(KeyRange::ALL, main(n - 80_000)), None);
    let mut cursor = Cursor::new();
    let walked = index.count_piece(KeyRange::ALL, main(99), &mut cursor, usize::MAX);
    assert_eq!(walked, 100);
}

#[test]
fn a_bulk_build_refuses_keys_that_do_not_ascend() {
    let mut builder = Builder::<4>::new(-1);
    let revision = Revision::new(2, 0);
    assert!(builder.push(b"", revision, None, &[]).is_ok());
    assert!(builder.push(b"b", revision, None, &[]).is_ok());
    assert!(builder.push(b"b", revision, None, &[]).is_err());
    assert!(builder.push(b"a", revision, None, &[]).is_err());
    assert!(builder.push(b"c", revision, None, &[]).is_ok());
    let index = builder.finish();
    assert!(index.version_at(b"c", 2).is_some() && index.version_at(b"a", 2).is_none());
}
