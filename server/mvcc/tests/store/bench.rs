//! A store under test beside its model: every step is done to both, and both are compared.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use keystead_mvcc::{
    Export, Flusher, HashKv, Meta, Opened, Options, Query, Read, ReadError, Revision, Row, Store,
    Table, Writer,
};
use tempfile::TempDir;

use crate::model::{Model, key_of, meta_of};

/// Bounds so small that every one is met.
pub fn tiny() -> Options {
    Options {
        ring_bytes: 1024,
        flush_txn_bytes: 600,
        compact_step_rows: 3,
        checkpoint_min_rows: 4,
        ..Options::default()
    }
}

/// As many hashes as the store keeps.
const KEPT_HASHES: usize = 10;

pub const TABLES: [Table; 2] = [Table(1), Table(15)];

/// A store, its model, and the model of what is durable.
pub struct Bench {
    pub dir: TempDir,
    pub options: Options,
    pub store: Store,
    pub writer: Writer,
    pub flusher: Flusher,
    pub model: Model,
    /// The models after each entry that is not flushed, after the flushed one.
    pub sealed: Vec<Model>,
    /// The hashes that compactions leave once they are through.
    hashes: Vec<HashKv>,
}

impl Bench {
    pub fn new(options: Options) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let Opened {
            store,
            writer,
            flusher,
            applied,
            position,
        } = Store::open(&store_dir(dir.path()), &options).expect("an empty store opens");
        assert_eq!((applied, position), (None, 0));
        let model = Model::new();
        let sealed = vec![model.clone()];
        Self {
            dir,
            options,
            store,
            writer,
            flusher,
            model,
            sealed,
            hashes: Vec::new(),
        }
    }

    /// One record: `edit` is done to a transaction and the model.
    pub fn txn(&mut self, edits: &[Edit]) {
        let mut txn = self.writer.begin();
        for edit in edits {
            match edit {
                Edit::Put(key, value, lease) => {
                    let expected = self.model.put(key, value, *lease);
                    assert_eq!(txn.put(key, value, *lease), expected);
                    let read = txn
                        .read(&Query {
                            key,
                            ..Query::default()
                        })
                        .expect("own writes are read");
                    assert_eq!(
                        read.rows,
                        self.model
                            .rows
                            .last()
                            .cloned()
                            .into_iter()
                            .collect::<Vec<_>>()
                    );
                }
                Edit::Delete(key, end) => {
                    let mut seen = 0;
                    let deleted = txn.delete_range(key, end, &mut |_, _| seen += 1);
                    assert_eq!(
                        (deleted, deleted),
                        (self.model.delete_range(key, end), seen)
                    );
                }
            }
            let all = Query {
                end: b"\0",
                ..Query::default()
            };
            let expected = self.model.read(&all);
            assert_eq!(
                txn.read(&all).ok(),
                expected.ok(),
                "a transaction reads its own writes"
            );
        }
        self.model.end_txn();
        assert_eq!(txn.commit(), self.model.revision());
    }

    pub fn set(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        self.writer.set(table, key, value);
        match value {
            Some(value) => drop(
                self.model
                    .tables
                    .insert((table, key.to_vec()), value.to_vec()),
            ),
            None => drop(self.model.tables.remove(&(table, key.to_vec()))),
        }
    }

    pub fn compact(&mut self, revision: i64) {
        let answer = self.writer.compact(revision);
        if revision <= self.model.compacted {
            assert!(matches!(answer, Err(ReadError::Compacted)));
        } else if revision > self.model.revision() {
            assert!(matches!(answer, Err(ReadError::Future)));
        } else {
            answer.expect("compacted");
            self.model.compacted = revision;
            self.model.first_compaction.get_or_insert(revision);
        }
    }

    pub fn seal(&mut self) {
        let before = self.sealed.last().map_or(1, Model::revision);
        self.model.position += 1;
        let sealed = self
            .writer
            .seal(self.model.position, applied(self.model.position));
        assert_eq!(
            (sealed.first, sealed.last),
            (before + 1, self.model.revision())
        );
        let rows = self
            .model
            .rows
            .iter()
            .filter(|row| row.revision.main > before);
        assert_eq!(sealed.rows[..], rows.cloned().collect::<Vec<_>>());
        self.sealed.push(self.model.clone());
        self.model.first_compaction = None;
    }

    /// One entry of one record.
    pub fn entry(&mut self, edits: &[Edit]) {
        self.txn(edits);
        self.seal();
    }

    pub fn put(&mut self, key: &str, value: &str) {
        self.entry(&[Edit::Put(key.into(), value.into(), 0)]);
    }

    pub fn delete(&mut self, key: &str) {
        self.entry(&[Edit::Delete(key.into(), Vec::new())]);
    }

    pub fn compact_entry(&mut self, revision: i64) {
        self.compact(revision);
        self.seal();
    }

    /// Flushes all but the last `spared` entries.
    pub fn flush(&mut self, spared: usize) {
        let flushed = self.sealed.len().saturating_sub(1 + spared);
        let before = self.sealed[0].compacted;
        if before == self.flusher.physically_compacted() {
            let compacting = self.sealed[1..=flushed]
                .iter()
                .find_map(|model| model.first_compaction.map(|revision| (model, revision)));
            self.hashes.extend(
                compacting
                    .filter(|(_, revision)| *revision > 0)
                    .map(|(model, revision)| model.compaction_hash(before, revision)),
            );
        }
        self.sealed.drain(..flushed);
        let bound = self.sealed[0].position;
        let flushed = self.flusher.flush(bound).expect("flushed");
        assert_eq!(flushed.position, bound);
        assert_eq!(self.store.durable(), self.sealed[0].revision());
    }

    /// Compacts physically to the end of what is durable.
    pub fn compact_physically(&mut self) {
        while !self.flusher.compact_step().expect("a step").done {
            self.flush(0);
        }
    }

    /// The process dies: what was not flushed is gone.
    pub fn crash(self) -> Self {
        let Self {
            dir,
            options,
            store,
            writer,
            flusher,
            mut sealed,
            ..
        } = self;
        drop((store, writer, flusher));
        let mut model = sealed.swap_remove(0);
        // It was of the flushed entry, and the next one is another.
        model.first_compaction = None;
        let opened =
            Store::open(&store_dir(dir.path()), &options).expect("the store opens after a crash");
        check_opened(&opened, &model);
        let Opened {
            store,
            writer,
            flusher,
            ..
        } = opened;
        let sealed = vec![model.clone()];
        Self {
            dir,
            options,
            store,
            writer,
            flusher,
            model,
            sealed,
            hashes: Vec::new(),
        }
    }

    /// A copy of the directory, as it is on the disk now, opens as what was flushed.
    pub fn open_copy(&self) {
        let copy = tempfile::tempdir().expect("a directory");
        copy_dir(&store_dir(self.dir.path()), copy.path());
        let opened = Store::open(copy.path(), &self.options).expect("the copy opens");
        check_opened(&opened, &self.sealed[0]);
        check(&opened.store, &self.sealed[0], &[]);
    }

    /// Compares everything that can be asked.
    pub fn check(&self) {
        let through = self.flusher.physically_compacted();
        let kept = self
            .hashes
            .partition_point(|hash| hash.hash_revision <= through);
        let kept = &self.hashes[kept.saturating_sub(KEPT_HASHES)..kept];
        check(&self.store, &self.model, kept);
    }
}

fn check_opened(opened: &Opened, model: &Model) {
    assert_eq!(opened.position, model.position);
    assert_eq!(
        opened.applied,
        (model.position > 0).then(|| applied(model.position))
    );
}

fn applied(position: u64) -> Bytes {
    position.to_be_bytes().to_vec().into()
}

pub fn store_dir(dir: &Path) -> PathBuf {
    dir.join("store")
}

/// One write of a transaction.
#[derive(Clone, Debug)]
pub enum Edit {
    Put(Vec<u8>, Vec<u8>, i64),
    Delete(Vec<u8>, Vec<u8>),
}

/// A refusal by its name, for comparison.
pub fn named<T>(answer: Result<T, ReadError>) -> Result<T, &'static str> {
    answer.map_err(|error| match error {
        ReadError::Compacted => "compacted",
        ReadError::Future => "future",
        ReadError::Corrupt(_) => "corrupt",
        ReadError::Storage(_) => "storage",
    })
}

/// Compares a store, all of whose entries are sealed, with its model and with the hashes that compactions have left.
pub fn check(store: &Store, model: &Model, kept: &[HashKv]) {
    assert_eq!(
        (store.current(), store.compacted()),
        (model.revision(), model.compacted)
    );
    assert_eq!(
        store.sizes().keys,
        model.content_at(model.revision()).len() as u64
    );
    for revision in 1..=model.revision() + 1 {
        let all = Query {
            end: b"\0",
            revision,
            ..Query::default()
        };
        assert_eq!(
            named(store.read(&all)),
            model.read(&all),
            "at revision {revision}"
        );
    }
    check_events(store, model);
    check_metas(store, model);
    for table in TABLES {
        assert_eq!(store.table(table).expect("readable"), model.table(table));
    }
    for hash in kept {
        assert_eq!(named(store.hash_kv(hash.hash_revision)), Ok(*hash));
    }
    for revision in [
        model.compacted - 1,
        model.compacted,
        model.compacted + 1,
        model.revision(),
    ] {
        if kept.iter().any(|hash| hash.hash_revision == revision) {
            continue;
        }
        let answer = named(store.hash_kv(revision));
        if revision < 0 {
            assert_eq!(answer, Ok(model.hash_kv(revision)));
        } else if revision == 0 {
            assert_eq!(answer, Ok(model.hash_kv(model.revision())));
        } else if revision < model.compacted {
            assert_eq!(answer, Err("compacted"));
        } else if revision > model.revision() {
            assert_eq!(answer, Err("future"));
        } else {
            assert_eq!(
                answer,
                Ok(model.hash_kv(revision)),
                "the hash at {revision}"
            );
        }
    }
}

fn check_events(store: &Store, model: &Model) {
    let mut from = model.compacted.max(1);
    if model.compacted > 1 {
        assert_eq!(
            named(store.events(model.compacted - 1, i64::MAX, 9)),
            Err("compacted")
        );
    }
    let expected: Vec<Row> = model
        .rows
        .iter()
        .filter(|row| row.revision.main >= from)
        .cloned()
        .collect();
    let mut found: Vec<Row> = Vec::new();
    while from <= model.revision() {
        let batch = named(store.events(from, i64::MAX, 300)).expect("events");
        // What is compared below would miss whatever this stopped short of.
        let Some(last) = batch.last() else { break };
        from = last.revision.main + 1;
        found.extend(batch);
    }
    // A key written twice in the transaction of the compaction revision lost the first of them.
    let gone = |row: &&Row| row.revision.main != model.compacted || found.contains(row);
    assert_eq!(
        found,
        expected.iter().filter(gone).cloned().collect::<Vec<_>>()
    );
    for row in expected.iter().filter(gone) {
        let is_kept = |previous: &Revision| {
            previous.main >= model.compacted && previous.main < row.revision.main
        };
        let previous = row.previous.filter(is_kept);
        if let Some(previous) = previous {
            let found = store
                .row(previous)
                .expect("readable")
                .expect("not compacted");
            assert_eq!(key_of(&found), key_of(row));
        }
    }
}

fn check_metas(store: &Store, model: &Model) {
    let expected: Vec<(Vec<u8>, Meta)> = model
        .content_at(model.revision())
        .iter()
        .map(|(key, row)| (key.clone(), meta_of(row)))
        .collect();
    let mut found = Vec::new();
    let mut each = |key: &[u8], meta: &Meta| {
        found.push((key.to_vec(), *meta));
        true
    };
    store.metas_in(b"", b"\0", &mut each).expect("readable");
    assert_eq!(found, expected);
    for (key, meta) in &expected {
        assert_eq!(store.meta(key).expect("readable"), Some(*meta));
    }
}

/// All rows of an export.
pub fn exported(export: &mut Export) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let batch = export.rows(200).expect("held");
        if batch.is_empty() {
            assert!(rows.is_sorted_by_key(|row| row.revision));
            return rows;
        }
        assert!(batch[0].revision > rows.last().map_or(Revision::default(), |row| row.revision));
        rows.extend(batch);
    }
}

pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}
