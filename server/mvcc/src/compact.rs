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
//! that of the store. Removals and the place of the walk are one transaction: a restart goes on from there. The index
//! forgets after the commit; readers in between are refused below the compaction revision by then.

use crate::counters::Tally;
use crate::durable::Durable;
use crate::flush::{FlushError, Flusher};
use crate::shared::KEYS_PER_LOCK;
use crate::{DamagedRow, KeyValueRef, Revision};

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
        let holds = self.shared.holds.clone();
        let Some(_leave) = holds.leave_to_remove() else {
            return Ok(held);
        };
        if !self.checkpoint_covers(target)? {
            return Ok(held);
        }
        let findings = self.find_superseded(self.walk_from(target), target)?;
        self.walk_target = Some(target);
        let deleted = self.remove(&findings, target)?;
        self.forget_in_index(&findings.keys, target);
        Tally::add(&self.shared.tally.compact_steps, 1);
        Tally::add(&self.shared.tally.rows_removed, deleted);
        Ok(CompactStep {
            deleted,
            done: findings.finished,
            held: false,
        })
    }

    /// A hold is respected until too much waits behind it.
    fn break_holds_that_lag(&self, target: i64) {
        if target - self.durable.physically_compacted > self.shared.options.held_revisions {
            self.shared.holds.break_all();
        }
    }

    /// A walk that a newer target overtook goes through the revision it is in again: were that the older target's, its
    /// tombstones stayed.
    fn walk_from(&self, target: i64) -> Revision {
        if self.walk_target == Some(target) {
            self.durable.walk
        } else {
            Revision::new(self.durable.walk.main, 0)
        }
    }

    fn find_superseded(&self, from: Revision, target: i64) -> Result<Findings, FlushError> {
        let mut found = Findings {
            superseded: Vec::new(),
            keys: Vec::new(),
            next: from,
            finished: true,
        };
        let mut left = self.shared.options.compact_step_rows.max(1);
        let snapshot = self.env().snapshot()?;
        snapshot.walk(from, target, |revision, header, payload| {
            if left == 0 {
                found.finished = false;
                return Ok(false);
            }
            left -= 1;
            found.next = Revision::new(revision.main, revision.sub + 1);
            let removes_itself = header.tombstone && revision.main < target;
            if header.previous.is_some() || removes_itself {
                let kv = KeyValueRef::decode(payload).map_err(|_| DamagedRow { revision })?;
                found.keys.push(kv.key.to_vec());
            }
            found.superseded.extend(header.previous);
            found.superseded.extend(removes_itself.then_some(revision));
            Ok(true)
        })?;
        Ok(found)
    }

    fn remove(&mut self, findings: &Findings, target: i64) -> Result<u64, FlushError> {
        let env = self.env();
        let mut change = env.change()?;
        let mut deleted = 0;
        for &revision in &findings.superseded {
            deleted += u64::from(change.remove(revision)?);
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
        for keys in keys.chunks(KEYS_PER_LOCK) {
            let mut state = self.shared.state.write();
            for key in keys {
                state.index.compact_key(key, target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::{Options, Store};

    #[test]
    fn tombstones_go_although_a_newer_compaction_overtook_the_walk_among_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options {
            compact_step_rows: 2,
            ..Options::default()
        };
        let mut opened = Store::open(dir.path(), &options).expect("a new store");
        let (writer, flusher) = (&mut opened.writer, &mut opened.flusher);
        let mut txn = writer.begin();
        for key in [b"a", b"b", b"c", b"d"] {
            txn.put(key, b"", 0);
        }
        txn.commit();
        let mut txn = writer.begin();
        assert_eq!(txn.delete_range(b"a", b"\0", &mut |_, _| {}), 4);
        txn.commit();
        let mut txn = writer.begin();
        txn.put(b"z", b"", 0);
        let newest = txn.commit();
        writer.compact(newest - 1).expect("not compacted yet");
        writer.seal(1, Bytes::new());
        flusher.flush(1).expect("flushed");
        for _ in 0..3 {
            assert!(!flusher.compact_step().expect("a step").done);
        }
        writer.compact(newest).expect("not compacted yet");
        writer.seal(2, Bytes::new());
        flusher.flush(2).expect("flushed");
        while !flusher.compact_step().expect("a step").done {}
        let left = flusher.env().snapshot().expect("a snapshot").rows();
        assert_eq!(left.expect("a count"), 1);
        let state = opened.store.0.state.read();
        assert!(state.index.version_at(b"a", newest).is_none());
    }
}
