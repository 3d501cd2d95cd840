//! How rows are read: the index under the shared lock, rows from the ring or from LMDB.
//!
//! [`Frame`] is one point of view: a revision, and the rows that only its owner may see. `Store`, `View` and `Txn` read
//! through it and differ in nothing else. The lock is let go every [`KEYS_PER_LOCK`] keys; a read goes on at its
//! revision, which it checks against compaction each time it takes the lock again.

use parking_lot::RwLockReadGuard;

use crate::env::Snapshot;
use crate::index::{Cursor, KeyRange};
use crate::read::meta_of;
use crate::shared::{KEYS_PER_LOCK, Shared, State};
use crate::{Meta, Page, Query, ReadError, Revision, Row};

/// A point of view of the store.
pub(crate) struct Frame<'a> {
    pub shared: &'a Shared,
    /// The latest revision in view; the published one when none is named.
    pub latest: Option<i64>,
    /// Rows above the published revision, in order.
    pub unpublished: &'a [Row],
    /// A compaction that only the owner knows of yet.
    pub compacted: i64,
}

type Guard<'a> = RwLockReadGuard<'a, State>;

impl<'a> Frame<'a> {
    pub(crate) fn current(&self) -> i64 {
        self.latest
            .unwrap_or_else(|| self.shared.state.read().published)
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compacted.max(self.shared.state.read().compacted)
    }

    /// A read of the latest that a compaction overtook begins again: each time the compaction was a newer one.
    pub(crate) fn read(&self, query: &Query<'_>) -> Result<Page, ReadError> {
        loop {
            match self.attempt(query) {
                Err(ReadError::Compacted) if query.revision <= 0 && self.latest.is_none() => {}
                answer => return answer,
            }
        }
    }

    fn attempt(&self, query: &Query<'_>) -> Result<Page, ReadError> {
        let state = self.shared.state.read();
        let current = self.latest.unwrap_or(state.published);
        let revision = if query.revision <= 0 {
            current
        } else {
            query.revision
        };
        if revision > current {
            return Err(ReadError::Future);
        }
        self.refuse_compacted(&state, revision)?;
        let mut page = Page {
            rows: Vec::new(),
            count: 0,
            more: false,
            revision,
            current,
        };
        let range = KeyRange::new(query.key, query.end);
        if range.is_single() {
            let found = state.index.at(query.key, revision);
            page.count = found.is_some().into();
            let found = found.filter(|_| !query.count_only);
            self.fetch(state, found.as_slice(), &mut page.rows)?;
            return Ok(page);
        }
        let state = match state.index.count(range, revision) {
            Some(count) => {
                page.count = count;
                state
            }
            None => {
                let (state, count) = self.count_by_walk(state, range, revision)?;
                page.count = count;
                state
            }
        };
        if !query.count_only && page.count > 0 {
            let limit = if query.limit == 0 {
                usize::MAX
            } else {
                query.limit
            };
            page.rows = self.rows(state, range, revision, limit.min(page.count as usize))?;
            page.more = page.count > page.rows.len() as u64;
        }
        Ok(page)
    }

    /// Counts at a revision too old for the index's own count, which walks the keys.
    fn count_by_walk(
        &self,
        mut state: Guard<'a>,
        range: KeyRange<'_>,
        revision: i64,
    ) -> Result<(Guard<'a>, u64), ReadError> {
        let mut count = 0;
        let mut cursor = Cursor::new();
        loop {
            count += state
                .index
                .count_piece(range, revision, &mut cursor, KEYS_PER_LOCK);
            if cursor.is_done() {
                return Ok((state, count));
            }
            drop(state);
            state = self.shared.state.read();
            self.refuse_compacted(&state, revision)?;
        }
    }

    fn rows(
        &self,
        mut state: Guard<'a>,
        range: KeyRange<'_>,
        revision: i64,
        wanted: usize,
    ) -> Result<Vec<Row>, ReadError> {
        let mut rows = Vec::with_capacity(wanted);
        let mut cursor = Cursor::new();
        let mut found = Vec::with_capacity(wanted.min(KEYS_PER_LOCK));
        loop {
            found.clear();
            let missing = wanted - rows.len();
            state.index.scan(
                range,
                revision,
                &mut cursor,
                KEYS_PER_LOCK,
                |_, revision| {
                    found.push(revision);
                    found.len() < missing
                },
            );
            self.fetch(state, &found, &mut rows)?;
            if rows.len() >= wanted || cursor.is_done() {
                return Ok(rows);
            }
            state = self.shared.state.read();
            self.refuse_compacted(&state, revision)?;
        }
    }

    /// Appends the rows of `revisions` to `rows`. Lets go of the lock before it reads from LMDB.
    fn fetch(
        &self,
        state: Guard<'a>,
        revisions: &[Revision],
        rows: &mut Vec<Row>,
    ) -> Result<(), ReadError> {
        let start = rows.len();
        let mut snapshot = None;
        for (at, &revision) in revisions.iter().enumerate() {
            match self.recent(&state, revision) {
                Some(row) => rows.push(row.clone()),
                None => {
                    snapshot = Some((at, state.env.snapshot()?));
                    break;
                }
            }
        }
        let Some((from, snapshot)) = snapshot else {
            return Ok(());
        };
        let recent: Vec<_> = revisions[from..]
            .iter()
            .map(|&revision| self.recent(&state, revision).cloned())
            .collect();
        drop(state);
        debug_assert_eq!(rows.len(), start + from);
        for (row, &revision) in recent.into_iter().zip(&revisions[from..]) {
            rows.push(match row {
                Some(row) => row,
                None => stored(&snapshot, revision)?,
            });
        }
        Ok(())
    }

    fn recent<'s>(&'s self, state: &'s State, revision: Revision) -> Option<&'s Row> {
        if revision.main <= state.published {
            return state.ring.get(revision);
        }
        let at = self
            .unpublished
            .binary_search_by_key(&revision, |row| row.revision)
            .ok()?;
        self.unpublished.get(at)
    }

    fn refuse_compacted(&self, state: &State, revision: i64) -> Result<(), ReadError> {
        if revision < self.compacted.max(state.compacted) {
            Err(ReadError::Compacted)
        } else {
            Ok(())
        }
    }

    pub(crate) fn meta(&self, key: &[u8]) -> Result<Option<Meta>, ReadError> {
        let state = self.shared.state.read();
        let latest = self.latest.unwrap_or(state.published);
        self.refuse_compacted(&state, latest)?;
        match state.index.meta(key) {
            Some(meta) if meta.mod_revision.main <= latest => return Ok(Some(meta)),
            None if latest >= state.index.newest() => return Ok(None),
            _ => {}
        }
        let Some(revision) = state.index.at(key, latest) else {
            return Ok(None);
        };
        let mut rows = Vec::with_capacity(1);
        self.fetch(state, &[revision], &mut rows)?;
        rows.first().map(|row| Ok(meta_of(row)?)).transpose()
    }

    pub(crate) fn metas_in(
        &self,
        key: &[u8],
        end: &[u8],
        each: &mut dyn FnMut(&[u8], &Meta) -> bool,
    ) -> Result<(), ReadError> {
        let range = KeyRange::new(key, end);
        let latest = self.current();
        let mut cursor = Cursor::new();
        while !cursor.is_done() {
            let state = self.shared.state.read();
            self.refuse_compacted(&state, latest)?;
            let found = if latest >= state.index.newest() {
                newest_metas(state, range, &mut cursor)
            } else {
                self.metas_at(state, range, latest, &mut cursor)?
            };
            if !found.iter().all(|(key, meta)| each(key, meta)) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next keys of a range with their facts at `latest`, when the index may know newer ones.
    fn metas_at(
        &self,
        state: Guard<'a>,
        range: KeyRange<'_>,
        latest: i64,
        cursor: &mut Cursor,
    ) -> Result<Vec<(Vec<u8>, Meta)>, ReadError> {
        let (mut keys, mut revisions) = (Vec::new(), Vec::new());
        state
            .index
            .scan(range, latest, cursor, KEYS_PER_LOCK, |key, revision| {
                keys.push(key.to_vec());
                revisions.push(revision);
                true
            });
        let mut rows = Vec::with_capacity(revisions.len());
        self.fetch(state, &revisions, &mut rows)?;
        keys.into_iter()
            .zip(&rows)
            .map(|(key, row)| Ok((key, meta_of(row)?)))
            .collect()
    }
}

fn newest_metas(
    state: Guard<'_>,
    range: KeyRange<'_>,
    cursor: &mut Cursor,
) -> Vec<(Vec<u8>, Meta)> {
    let mut found = Vec::new();
    state
        .index
        .scan_newest(range, cursor, KEYS_PER_LOCK, |key, meta| {
            found.push((key.to_vec(), *meta));
            true
        });
    found
}

fn stored(snapshot: &Snapshot, revision: Revision) -> Result<Row, ReadError> {
    snapshot
        .row(revision)?
        .ok_or_else(|| snapshot.damaged(revision))
}
