//! Physical compaction: removing the rows that nothing can read any more, in bounded steps.
//!
//! ```text
//! removed up to here        walk           durable compaction revision
//! ----------------|----------|--------------------|----------------> revisions
//!                  each row here names the version it replaced: that row goes,
//!                  and a tombstone goes itself; one exactly at the end stays
//! ```
//!
//! Only rows between the last compaction and this one are looked at, so the cost is that of what was replaced and not
//! that of the store (what is hashed before is more: [`crate::compaction_hash`]). Removals and the place of the walk are
//! one transaction: a restart goes on from there. The index forgets after the commit; readers in between are refused
//! below the compaction revision by then.

use std::collections::HashSet;
use std::sync::Arc;

use keystead_seeded::{Bug, planted};

use crate::compaction_hash::CompactionHash;
use crate::counters::Tally;
use crate::durable::Durable;
use crate::env::Snapshot;
use crate::flush::{FlushError, Flusher};
use crate::rest::Rests;
use crate::shared::{KEYS_PER_LOCK, SealedEntry};
use crate::{DamagedRow, KeyValueRef, ReadError, Revision};

/// A step ends when it has looked at this many times the rows that it may remove: looking costs a tenth of removing.
const ROWS_LOOKED_AT: usize = 16;

/// A step ends when its rows lie in this many pages, about, which are 8 MB: they go to the disk at once when it is
/// committed, and a sync of the log waits for them. Ten thousand rows that lie close together fill fewer.
const PAGES: usize = 2048;
const ROWS_A_PAGE: i64 = 16;

/// Rows that are hashed without a rest.
const ROWS_HASHED: usize = 1024;

/// What one step of physical compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactStep {
    /// Rows removed.
    pub deleted: u64,
    /// Everything that the durable compaction revision names is gone.
    pub done: bool,
    /// Nothing was removed, because an export still needs the rows, or because the index checkpoint must be placed
    /// first, which the next flush does. Flush, and come back later.
    pub held: bool,
}

/// What a walk over some rows found to do.
struct Findings {
    superseded: Vec<Revision>,
    /// Where they lie, in units of a page's rows.
    pages: HashSet<i64>,
    keys: Vec<Vec<u8>>,
    /// Where the next walk begins.
    next: Revision,
    finished: bool,
}

impl Flusher {
    /// Removes what compaction at the durable compaction revision names, a bounded step of it.
    ///
    /// # Errors
    /// Every kind of [`FlushError`]; nothing of this step was removed.
    pub fn compact_step(&mut self) -> Result<CompactStep, FlushError> {
        let target = self.durable.compacted;
        if target <= self.durable.physically_compacted {
            return Ok(CompactStep {
                deleted: 0,
                done: true,
                held: false,
            });
        }
        let held = CompactStep {
            deleted: 0,
            done: false,
            held: true,
        };
        self.break_holds_that_lag(target);
        if !self.hash_before_removal()? {
            return Ok(CompactStep {
                deleted: 0,
                done: false,
                held: false,
            });
        }
        let holds = self.shared.holds.clone();
        let Some(_leave) = holds.leave_to_remove() else {
            return Ok(held);
        };
        if !self.checkpoint_covers(target)? {
            return Ok(held);
        }
        let findings = self.find_superseded(target)?;
        let deleted = self.twice(|flusher| flusher.remove(&findings, target))?;
        self.forget_in_index(&findings.keys, target);
        if findings.finished {
            self.keep_hash();
        }
        Tally::add(&self.shared.tally.compact_steps, 1);
        Tally::add(&self.shared.tally.rows_removed, deleted);
        Ok(CompactStep {
            deleted,
            done: findings.finished,
            held: false,
        })
    }

    /// Of several compactions only the first that finds the one before it through leaves a hash.
    pub(crate) fn begin_hash(&mut self, flushed: &[Arc<SealedEntry>]) {
        let before = self.durable.compacted;
        let first = flushed.iter().find_map(|entry| entry.first_compaction);
        // At 0 there is nothing to hash, and a HashKV at 0 asks for the current revision.
        if let Some(revision) = first.filter(|&first| first > 0)
            && before == self.durable.physically_compacted
        {
            self.hashing = Some(CompactionHash::new(before, revision));
        }
    }

    /// Whether the hash that the compaction leaves, if any, is taken.
    fn hash_before_removal(&mut self) -> Result<bool, FlushError> {
        if self.hashing.is_none() {
            return Ok(true);
        }
        let snapshot = self.env().snapshot()?;
        let rows = self.shared.options.compact_step_rows.max(1) * ROWS_LOOKED_AT;
        let step = |hashing: &mut CompactionHash| hash_with_rests(hashing, &snapshot, rows);
        match self.hashing.as_mut().map_or(Ok(true), step) {
            Ok(hashed) => Ok(hashed),
            // Compaction goes on; whoever reads the row will hear of it.
            Err(ReadError::Corrupt(_)) => {
                self.hashing = None;
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn keep_hash(&mut self) {
        if let Some(hashing) = self.hashing.take() {
            hashing.keep(&self.shared.kept_hashes);
        }
    }

    /// A hold is respected until too much waits behind it.
    fn break_holds_that_lag(&self, target: i64) {
        if target - self.durable.physically_compacted > self.shared.options.held_revisions {
            self.shared.holds.break_all();
        }
    }

    fn find_superseded(&self, target: i64) -> Result<Findings, FlushError> {
        let mut found = Findings {
            superseded: Vec::new(),
            pages: HashSet::new(),
            keys: Vec::new(),
            next: self.durable.walk,
            finished: true,
        };
        let most = self.shared.options.compact_step_rows.max(1);
        let mut left = most * ROWS_LOOKED_AT;
        let snapshot = self.env().snapshot()?;
        let mut rests = Rests::begin();
        snapshot.walk(self.durable.walk, target, |revision, header, payload| {
            // The rows of the target itself go in one step: a tombstone among them stays now and must be seen again by
            // the next compaction, which could not tell if the walk had stopped behind it.
            let full = left == 0 || found.superseded.len() >= most || found.pages.len() >= PAGES;
            if full && revision.main < target {
                found.finished = false;
                return Ok(false);
            }
            left = left.saturating_sub(1);
            rests.rest();
            found.next = revision.next();
            let removes_itself = header.tombstone
                && (revision.main < target || planted(Bug::DropCompactionTombstone));
            if header.previous.is_some() || removes_itself {
                let kv = KeyValueRef::decode(payload).map_err(|_| DamagedRow { revision })?;
                found.keys.push(kv.key.to_vec());
            }
            let itself = removes_itself.then_some(revision);
            for row in header.previous.into_iter().chain(itself) {
                found.superseded.push(row);
                found.pages.insert(row.main / ROWS_A_PAGE);
            }
            Ok(true)
        })?;
        Ok(found)
    }

    fn remove(&mut self, findings: &Findings, target: i64) -> Result<u64, FlushError> {
        if findings.superseded.is_empty() && !findings.finished {
            // Nothing to make durable: after a crash these rows are looked at again.
            self.durable.walk = findings.next;
            return Ok(0);
        }
        let env = self.env();
        let mut change = env.change()?;
        let mut deleted = 0;
        let mut rests = Rests::begin();
        for &revision in &findings.superseded {
            deleted += u64::from(change.remove(revision)?);
            rests.rest();
        }
        let mut durable = Durable {
            walk: findings.next,
            ..self.durable.clone()
        };
        if findings.finished {
            durable.physically_compacted = target;
            // The next compaction looks again at the tombstones that stayed at this one's revision.
            durable.walk = Revision::new(target, 0);
        }
        change.commit(&durable)?;
        self.adopt(durable);
        self.measure(&env)?;
        Ok(deleted)
    }

    fn forget_in_index(&self, keys: &[Vec<u8>], target: i64) {
        let mut rests = Rests::begin();
        for keys in keys.chunks(KEYS_PER_LOCK) {
            let mut state = self.shared.state.write();
            for key in keys {
                state.index.compact_key(key, target);
            }
            drop(state);
            rests.rest();
        }
    }
}

/// Hashes `rows` more rows, about. Says whether all are.
fn hash_with_rests(
    hashing: &mut CompactionHash,
    snapshot: &Snapshot,
    rows: usize,
) -> Result<bool, ReadError> {
    let mut rests = Rests::begin();
    for _ in 0..rows.div_ceil(ROWS_HASHED) {
        if hashing.step(snapshot, ROWS_HASHED.min(rows))? {
            return Ok(true);
        }
        rests.rest();
    }
    Ok(false)
}
