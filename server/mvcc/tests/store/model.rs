//! A store so simple that it is right: every revision's whole content, and the rows that made it.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use keystead_mvcc::{HashKv, KeyValueRef, Meta, Page, Query, Revision, Row, Table};

pub type Key = Vec<u8>;
type Content = BTreeMap<Key, Row>;

/// What the store must be after some entries.
#[derive(Clone)]
pub struct Model {
    /// The content at each revision, by its number; revisions 0 and 1 are empty.
    contents: Vec<Content>,
    /// All changes ever.
    pub rows: Vec<Row>,
    pub compacted: i64,
    /// The first compaction of the last entry.
    pub first_compaction: Option<i64>,
    pub tables: BTreeMap<(Table, Key), Key>,
    pub position: u64,
    sub: u32,
}

pub fn key_of(row: &Row) -> Key {
    KeyValueRef::decode(&row.payload)
        .expect("a row's payload is a KeyValue")
        .key
        .to_vec()
}

pub fn meta_of(row: &Row) -> Meta {
    let kv = KeyValueRef::decode(&row.payload).expect("a row's payload is a KeyValue");
    Meta {
        create_revision: kv.create_revision,
        mod_revision: row.revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// Whether a key lies in a range, by etcd's convention.
pub fn in_range(key: &[u8], first: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == first,
        [0] => key >= first,
        end => key >= first && key < end,
    }
}

impl Model {
    pub fn new() -> Self {
        Self {
            contents: vec![Content::new(), Content::new()],
            rows: Vec::new(),
            compacted: -1,
            first_compaction: None,
            tables: BTreeMap::new(),
            position: 0,
            sub: 0,
        }
    }

    pub fn revision(&self) -> i64 {
        self.contents.len() as i64 - 1
    }

    pub fn put(&mut self, key: &[u8], value: &[u8], lease: i64) -> Option<Meta> {
        let previous = self
            .contents
            .last()
            .and_then(|content| content.get(key))
            .map(meta_of);
        let revision = self.next();
        let payload = KeyValueRef {
            key,
            create_revision: previous.map_or(revision.main, |meta| meta.create_revision),
            mod_revision: revision.main,
            version: previous.map_or(1, |meta| meta.version + 1),
            value,
            lease,
        };
        let row = Row {
            revision,
            previous: previous.map(|meta| meta.mod_revision),
            tombstone: false,
            payload: payload.encode(),
        };
        self.rows.push(row.clone());
        self.content().insert(key.to_vec(), row);
        previous
    }

    pub fn delete_range(&mut self, key: &[u8], end: &[u8]) -> u64 {
        let last = self.contents.last().expect("there is always a revision");
        let doomed: Vec<(Key, Row)> = last
            .iter()
            .filter(|(found, _)| in_range(found, key, end))
            .map(|(found, row)| (found.clone(), row.clone()))
            .collect();
        for (key, row) in &doomed {
            let tombstone = Row {
                revision: self.next(),
                previous: Some(row.revision),
                tombstone: true,
                payload: KeyValueRef {
                    key,
                    ..Default::default()
                }
                .encode(),
            };
            self.rows.push(tombstone);
            self.content().remove(key);
        }
        doomed.len() as u64
    }

    /// The place of the next change: a transaction's first makes its revision.
    fn next(&mut self) -> Revision {
        if self.sub == 0 {
            let content = self.contents.last().cloned().unwrap_or_default();
            self.contents.push(content);
        }
        self.sub += 1;
        Revision::new(self.revision(), self.sub - 1)
    }

    pub fn end_txn(&mut self) {
        self.sub = 0;
    }

    fn content(&mut self) -> &mut Content {
        self.contents
            .last_mut()
            .expect("there is always a revision")
    }

    pub fn content_at(&self, revision: i64) -> &Content {
        &self.contents[revision as usize]
    }

    /// What a read must answer; `Err` says why it is refused.
    pub fn read(&self, query: &Query<'_>) -> Result<Page, &'static str> {
        let current = self.revision();
        let revision = if query.revision <= 0 {
            current
        } else {
            query.revision
        };
        if revision > current {
            return Err("future");
        }
        if revision < self.compacted {
            return Err("compacted");
        }
        let found = self.content_at(revision).iter();
        let mut rows: Vec<Row> = found
            .filter(|(key, _)| in_range(key, query.key, query.end))
            .map(|(_, row)| row.clone())
            .collect();
        let count = rows.len() as u64;
        if query.count_only {
            rows.clear();
        } else if query.limit > 0 {
            rows.truncate(query.limit);
        }
        let more = !query.count_only && (rows.len() as u64) < count;
        Ok(Page {
            rows,
            count,
            more,
            revision,
            current,
        })
    }

    /// The rows that physical compaction at `compacted` leaves.
    pub fn kept(&self, compacted: i64) -> Vec<Row> {
        let superseded: HashSet<Revision> = self
            .rows
            .iter()
            .filter(|row| row.revision.main <= compacted)
            .filter_map(|row| row.previous)
            .collect();
        let goes = |row: &Row| {
            row.revision.main <= compacted && superseded.contains(&row.revision)
                || row.tombstone && row.revision.main < compacted
        };
        self.rows.iter().filter(|row| !goes(row)).cloned().collect()
    }

    pub fn hash_kv(&self, revision: i64) -> HashKv {
        self.hash_of(self.compacted, revision, &self.kept_at(revision))
    }

    /// What a compaction at `revision` hashes while it removes; the one at `before` is through.
    pub fn compaction_hash(&self, before: i64, revision: i64) -> HashKv {
        let mut newest = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.revision.main <= revision) {
            newest.insert(key_of(row), row);
        }
        let stays = |row: &&Row| !row.tombstone || row.revision.main == revision;
        let kept = newest.into_values().filter(stays);
        self.hash_of(before, revision, &kept.map(|row| row.revision).collect())
    }

    fn hash_of(&self, compacted: i64, revision: i64, kept: &HashSet<Revision>) -> HashKv {
        let mut bytes = b"key".to_vec();
        for row in self.kept(compacted) {
            let Revision { main, sub } = row.revision;
            let dropped = main <= compacted && !kept.is_empty() && !kept.contains(&row.revision);
            if main > revision || main == compacted && row.tombstone || dropped {
                continue;
            }
            bytes.extend_from_slice(&main.to_be_bytes());
            bytes.push(b'_');
            bytes.extend_from_slice(&u64::from(sub).to_be_bytes());
            bytes.extend_from_slice(if row.tombstone { b"t" } else { b"" });
            bytes.extend_from_slice(&row.payload);
        }
        HashKv {
            hash: crc32c::crc32c(&bytes),
            compact_revision: compacted,
            hash_revision: revision,
        }
    }

    /// The newest row of each key up to a revision, unless the key was deleted there or then.
    fn kept_at(&self, revision: i64) -> HashSet<Revision> {
        let mut kept: BTreeMap<Key, &Row> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.revision.main <= revision) {
            let again = kept
                .get(&key_of(row))
                .is_some_and(|before| before.tombstone && before.revision.main == revision);
            if !again {
                kept.insert(key_of(row), row);
            }
        }
        kept.values()
            .filter(|row| !row.tombstone)
            .map(|row| row.revision)
            .collect()
    }

    pub fn table(&self, table: Table) -> Vec<(Bytes, Bytes)> {
        let of_table = self.tables.iter().filter(|((of, _), _)| *of == table);
        of_table
            .map(|((_, key), value)| (key.clone().into(), value.clone().into()))
            .collect()
    }
}
