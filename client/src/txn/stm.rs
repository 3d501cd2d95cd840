//! Stm: a function that reads and writes as it likes, run as if nobody else were there. Its writes are gathered and committed in
//! one transaction that compares everything it read; when something has changed, it runs again. Sugar over range and txn.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keystead_proto::mvccpb::KeyValue;
use tonic::Code;

use crate::backoff::CONTENTION;
use crate::client::Client;
use crate::error::{Error, Kind, Result};
use crate::key_range::KeyRange;
use crate::kv::delete::Delete;
use crate::kv::put::Put;
use crate::kv::range::Range;
use crate::locks::Mutex;
use crate::txn::compare::{Compare, Relation};
use crate::txn::{Op, OpResult, Txn};

/// How often somebody else may be faster before it gives up: under contention that makes so many attempts fail, a lock is
/// the better tool.
const ATTEMPTS: u32 = 64;

/// What a run may see of others, as in Go's concurrency package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// All reads are of one revision, and at the commit nobody has changed what was read or what is written.
    #[default]
    SerializableSnapshot,
    /// All reads are of one revision, and at the commit nobody has changed what was read.
    Serializable,
    /// Reads may be of several revisions; at the commit nobody has changed what was read.
    RepeatableReads,
    /// Reads are of committed values. Nothing is compared at the commit, so it never fails for others' sake.
    ReadCommitted,
}

/// One run of the function given to [`Client::stm`], or of [`StmRuns`]. A clone is the same run; what is written after the run's end is lost.
#[derive(Clone)]
pub struct Stm {
    client: Client,
    isolation: Isolation,
    run: Arc<Mutex<Run>>,
}

/// What a run has read, and what it will write.
#[derive(Default)]
struct Run {
    reads: Vec<Read>,
    /// What the failed commit before this run found.
    prefetched: Vec<Read>,
    /// What becomes of each key; `None` for removed.
    writes: BTreeMap<Bytes, Option<Put>>,
}

/// Keys as they were at a revision.
struct Read {
    keys: KeyRange,
    kvs: Vec<KeyValue>,
    revision: i64,
}

impl Client {
    /// Runs `work` until its writes are committed as if nothing else had happened meanwhile. `work` may run several times, so it
    /// must do nothing but read and write through the [`Stm`] it is given. When it fails nothing is written.
    ///
    /// ```no_run
    /// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
    /// # use keystead_client::Isolation;
    /// client.stm(Isolation::default(), |stm| async move {
    ///     let (left, right) = (stm.get("left").await?, stm.get("right").await?);
    ///     stm.put("left", right.unwrap_or_default());
    ///     stm.put("right", left.unwrap_or_default());
    ///     keystead_client::Result::Ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `work` failed with. `CompareFailed`: somebody else was faster 64 times in a row. A commit whose outcome is `Unknown` ends
    /// it, for it may have been done. See [`Client::txn`] for the rest; a server takes 128 writes, and as many reads.
    pub async fn stm<T, E, F>(
        &self,
        isolation: Isolation,
        mut work: impl FnMut(Stm) -> F,
    ) -> Result<T, E>
    where
        E: From<Error>,
        F: Future<Output = Result<T, E>>,
    {
        let mut runs = self.stm_runs(isolation);
        loop {
            let stm = runs.begin();
            let done = work(stm.clone()).await?;
            if runs.commit(stm).await? {
                return Ok(done);
            }
        }
    }

    /// The same a step at a time, for those whose function runs elsewhere. Nothing is sent yet.
    pub fn stm_runs(&self, isolation: Isolation) -> StmRuns {
        StmRuns {
            client: self.clone(),
            isolation,
            prefetched: Vec::new(),
            failures: 0,
        }
    }
}

/// The runs of one function, one after the other until one is committed.
pub struct StmRuns {
    client: Client,
    isolation: Isolation,
    /// What the last commit found when it failed.
    prefetched: Vec<Read>,
    failures: u32,
}

impl StmRuns {
    /// Begins a run. One that was begun and is not committed has done nothing.
    pub fn begin(&mut self) -> Stm {
        let run = Run {
            prefetched: std::mem::take(&mut self.prefetched),
            ..Run::default()
        };
        Stm {
            client: self.client.clone(),
            isolation: self.isolation,
            run: Arc::new(Mutex::new(run)),
        }
    }

    /// Commits a run: true when its writes are done. If something had changed, false after a wait that grows; then another is to begin.
    ///
    /// # Errors
    /// See [`Client::stm`].
    pub async fn commit(&mut self, stm: Stm) -> Result<bool> {
        match stm.commit().await? {
            Commit::Done => return Ok(true),
            Commit::Conflict(found) => self.prefetched = found,
        }
        self.failures += 1;
        if self.failures == ATTEMPTS {
            let text = format!("somebody else was faster {ATTEMPTS} times in a row");
            return Err(Error::local(Kind::CompareFailed, Code::Aborted, text));
        }
        tokio::time::sleep(CONTENTION.after(self.failures)).await;
        Ok(false)
    }
}

impl Stm {
    /// The value of a key, as this run sees it: with its own writes.
    ///
    /// # Errors
    /// See [`Client::range`].
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>> {
        let key = key.into();
        if let Some(write) = self.run.lock().writes.get(&key) {
            return Ok(write.as_ref().map(|put| put.value.clone()));
        }
        let read = self.read(KeyRange::key(key)).await?;
        Ok(read.into_iter().next().map(|kv| kv.value))
    }

    /// The keys of a range with their values, as this run sees them: with its own writes. A key that somebody adds to the
    /// range before the commit is a conflict, too.
    ///
    /// # Errors
    /// See [`Client::range`].
    pub async fn range(&self, keys: KeyRange) -> Result<Vec<(Bytes, Bytes)>> {
        let stored = self.read(keys.clone()).await?;
        let stored = stored.into_iter().map(|kv| (kv.key, kv.value));
        let mut seen: BTreeMap<Bytes, Bytes> = stored.collect();
        let run = self.run.lock();
        for (key, write) in run.writes.iter().filter(|(key, _)| keys.contains(key)) {
            match write {
                Some(put) => seen.insert(key.clone(), put.value.clone()),
                None => seen.remove(key),
            };
        }
        Ok(seen.into_iter().collect())
    }

    /// Writes a key at the commit, without a lease.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.put_with(Put::new(key, value));
    }

    /// Writes a key at the commit, with every option; what the put would answer is not told.
    pub fn put_with(&self, put: Put) {
        self.run.lock().writes.insert(put.key.clone(), Some(put));
    }

    /// Removes a key at the commit. It is no error when it is not there.
    pub fn delete(&self, key: impl Into<Bytes>) {
        self.run.lock().writes.insert(key.into(), None);
    }

    /// What was read before is read again from here, so that a run sees one state.
    async fn read(&self, keys: KeyRange) -> Result<Vec<KeyValue>> {
        let revision = {
            let mut run = self.run.lock();
            if let Some(kvs) = run.recall(&keys) {
                return Ok(kvs);
            }
            run.revision().filter(|_| self.isolation.is_snapshot())
        };
        let range = Range {
            revision: revision.unwrap_or(0),
            ..Range::new(keys.clone())
        };
        let answer = self.client.range(range).await?;
        self.run.lock().reads.push(Read {
            keys,
            kvs: answer.kvs.clone(),
            revision: revision.unwrap_or(answer.header.revision),
        });
        Ok(answer.kvs)
    }

    async fn commit(self) -> Result<Commit> {
        let run = std::mem::take(&mut *self.run.lock());
        // A snapshot that was only read needs no proof.
        if run.writes.is_empty() && self.isolation.is_snapshot() {
            return Ok(Commit::Done);
        }
        let when = run.conflicts(self.isolation);
        let ranges: Vec<KeyRange> = run.reads.into_iter().map(|read| read.keys).collect();
        let then = run.writes.into_iter().map(|(key, write)| match write {
            Some(put) => Op::Put(put),
            None => Op::Delete(Delete::new(KeyRange::key(key))),
        });
        let again = ranges.iter().cloned();
        let txn = Txn::when(when)
            .then(then)
            .otherwise(again.map(|keys| Op::Range(Range::new(keys))));
        let done = self.client.txn(txn).await?;
        if done.succeeded {
            return Ok(Commit::Done);
        }
        let found = ranges.into_iter().zip(done.results);
        let found = found.filter_map(|(keys, result)| match result {
            OpResult::Range(read) => Some(Read {
                keys,
                kvs: read.kvs,
                revision: done.header.revision,
            }),
            _ => None,
        });
        Ok(Commit::Conflict(found.collect()))
    }
}

impl Run {
    /// What is known of `keys`, because this run has read it or because the failed commit did for it.
    fn recall(&mut self, keys: &KeyRange) -> Option<Vec<KeyValue>> {
        if let Some(found) = self.prefetched.iter().position(|read| read.keys == *keys) {
            let read = self.prefetched.swap_remove(found);
            self.reads.push(read);
        }
        let read = self.reads.iter().find(|read| read.keys == *keys)?;
        Some(read.kvs.clone())
    }

    /// The revision of the first read. What was prefetched is of one revision, and older than anything read since.
    fn revision(&self) -> Option<i64> {
        let reads = self.reads.iter().chain(&self.prefetched);
        reads.map(|read| read.revision).min()
    }

    /// What must hold for the commit.
    fn conflicts(&self, isolation: Isolation) -> Vec<Compare> {
        if isolation == Isolation::ReadCommitted {
            return Vec::new();
        }
        let mut compares: Vec<Compare> = self.reads.iter().flat_map(Read::unchanged).collect();
        if isolation == Isolation::SerializableSnapshot
            && let Some(revision) = self.revision()
        {
            let untouched = |key: &Bytes| not_since(KeyRange::key(key.clone()), revision);
            compares.extend(self.writes.keys().map(untouched));
        }
        compares
    }
}

/// How a commit ended.
enum Commit {
    Done,
    /// Something had changed; this is how it is now.
    Conflict(Vec<Read>),
}

impl Isolation {
    /// All reads are of one revision.
    fn is_snapshot(self) -> bool {
        matches!(
            self,
            Isolation::SerializableSnapshot | Isolation::Serializable
        )
    }
}

impl Read {
    /// Nobody has written, removed or added any of the keys.
    fn unchanged(&self) -> Vec<Compare> {
        if self.keys.is_single() {
            let revision = self.kvs.first().map_or(0, |kv| kv.mod_revision);
            let key = self.keys.key.clone();
            return vec![Compare::mod_revision(key, Relation::Equal, revision)];
        }
        // A compare over a range sees what is there: that a key is gone is told by a compare of its own.
        let each = self.kvs.iter().map(|kv| Compare::present(kv.key.clone()));
        each.chain([not_since(self.keys.clone(), self.revision)])
            .collect()
    }
}

/// None of `keys` was written after `revision`.
fn not_since(keys: KeyRange, revision: i64) -> Compare {
    Compare::mod_revision(keys.key.clone(), Relation::Less, revision + 1).over(keys)
}
