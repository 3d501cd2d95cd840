//! What HashKV answers at a compacted revision: the hash of the history as it was before that compaction.
//!
//! etcd reads the whole history when it compacts, hashes it on the way and remembers ten of these hashes. Here removal
//! walks only what was superseded, so the flusher hashes before the first row is removed, in steps of so many rows:
//!
//! ```text
//!  left by the compaction before │ written since
//!  ──────────────────────────────┼───────────────▶ compacted revision
//!  second: what still holds      │ first: every row, and which rows on the left it replaced
//! ```
//!
//! A compaction that arrives before the one before it is through leaves no hash, and a restart forgets all: as in etcd.

use parking_lot::Mutex;

use crate::env::Snapshot;
use crate::hash::{BUCKET, bucket_key};
use crate::row::Header;
use crate::{HashKv, ReadError, Revision};

/// How many hashes are kept; etcd's number.
const KEPT: usize = 10;

/// The hashes of the last compactions that are through, oldest first.
#[derive(Default)]
pub(crate) struct KeptHashes(Mutex<Vec<HashKv>>);

impl KeptHashes {
    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<HashKv> {
        self.0.lock().clone()
    }

    pub(crate) fn at(&self, revision: i64) -> Option<HashKv> {
        let kept = self.0.lock();
        kept.iter()
            .find(|kept| kept.hash_revision == revision)
            .copied()
    }

    fn add(&self, hash: HashKv) {
        let mut kept = self.0.lock();
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(hash);
    }
}

/// The hash of one compaction, while its rows are still there.
pub(crate) struct CompactionHash {
    /// The compaction before this one, which is through.
    before: i64,
    revision: i64,
    next: Revision,
    newer: Part,
    /// A key lives at the compacted revision because of a row since, or ends at it.
    newer_holds: bool,
    /// How many keys the rows since leave alive, less those that they end.
    alive: i64,
    /// Rows up to `before` that were replaced since; those ahead of the walk, the next one last.
    replaced: Vec<Revision>,
    older: Older,
}

/// What the compaction before has left.
enum Older {
    /// Rows since are walked first.
    Waits,
    Walking {
        all: Part,
        held: Part,
    },
    Hashed(Part),
}

/// The hash of a run of rows, and its length.
#[derive(Clone, Copy, Default)]
struct Part {
    hash: u32,
    bytes: usize,
}

impl Part {
    fn add(&mut self, revision: Revision, header: Header, payload: &[u8]) {
        let key = bucket_key(revision, header.tombstone);
        self.hash = crc32c::crc32c_append(self.hash, &key);
        self.hash = crc32c::crc32c_append(self.hash, payload);
        self.bytes += key.len() + payload.len();
    }

    fn then(self, next: Self) -> Self {
        Self {
            hash: crc32c::crc32c_combine(self.hash, next.hash, next.bytes),
            bytes: self.bytes + next.bytes,
        }
    }
}

impl CompactionHash {
    /// Of the compaction at `revision`, of a history in which the one at `before` (-1 for none) is through.
    pub(crate) fn new(before: i64, revision: i64) -> Self {
        Self {
            before,
            revision,
            next: Revision::new(before + 1, 0),
            newer: Part::default(),
            newer_holds: false,
            alive: 0,
            replaced: Vec::new(),
            older: Older::Waits,
        }
    }

    /// Hashes `rows` more rows at most. Says whether all are.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] and [`ReadError::Storage`]: there will be no hash.
    pub(crate) fn step(&mut self, snapshot: &Snapshot, rows: usize) -> Result<bool, ReadError> {
        let left = match self.older {
            Older::Waits => self.walk_newer(snapshot, rows)?,
            Older::Walking { .. } | Older::Hashed(_) => rows,
        };
        self.walk_older(snapshot, left)?;
        Ok(matches!(self.older, Older::Hashed(_)))
    }

    /// Says how many rows less than `rows` there were.
    fn walk_newer(&mut self, snapshot: &Snapshot, mut rows: usize) -> Result<usize, ReadError> {
        snapshot.walk(self.next, self.revision, |revision, header, payload| {
            if rows == 0 {
                return Ok(false);
            }
            rows -= 1;
            self.next = revision.next();
            self.newer.add(revision, header, payload);
            self.alive += i64::from(!header.tombstone);
            match header.previous {
                Some(replaced) if replaced.main <= self.before => self.replaced.push(replaced),
                Some(_) => self.alive -= 1,
                None => {}
            }
            self.newer_holds |= header.tombstone && revision.main == self.revision;
            Ok(true)
        })?;
        if rows > 0 {
            self.newer_holds |= self.alive > 0;
            self.replaced.sort_unstable_by(|a, b| b.cmp(a));
            self.next = Revision::new(0, 0);
            self.older = Older::Walking {
                all: Part::default(),
                held: Part::default(),
            };
        }
        Ok(rows)
    }

    fn walk_older(&mut self, snapshot: &Snapshot, mut rows: usize) -> Result<(), ReadError> {
        let Older::Walking { all, held } = &mut self.older else {
            return Ok(());
        };
        snapshot.walk(self.next, self.before, |revision, header, payload| {
            if rows == 0 {
                return Ok(false);
            }
            rows -= 1;
            self.next = revision.next();
            // A tombstone at the compaction before does not count, as in every hash.
            if header.tombstone {
                return Ok(true);
            }
            all.add(revision, header, payload);
            if self.replaced.last() == Some(&revision) {
                self.replaced.pop();
            } else {
                held.add(revision, header, payload);
            }
            Ok(true)
        })?;
        if rows > 0 {
            // When no key is left at the compacted revision all rows count: etcd's rule.
            let none_holds = !self.newer_holds && held.bytes == 0;
            self.older = Older::Hashed(if none_holds { *all } else { *held });
        }
        Ok(())
    }

    /// Hands the hash out, now that its compaction is through.
    pub(crate) fn keep(self, kept: &KeptHashes) {
        let Older::Hashed(older) = self.older else {
            return;
        };
        let bucket = Part {
            hash: crc32c::crc32c(BUCKET),
            bytes: BUCKET.len(),
        };
        kept.add(HashKv {
            hash: bucket.then(older).then(self.newer).hash,
            compact_revision: self.before,
            hash_revision: self.revision,
        });
    }
}
