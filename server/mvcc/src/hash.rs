//! HashKV: one number for the history as compaction leaves it, comparable between members.
//!
//! The bytes are etcd's: the name of its bucket, then for each row its key (main revision, `_`, sub revision, `t` for a
//! tombstone) and its encoded `KeyValue`. Of the rows up to the compaction revision only those count that compaction
//! leaves and that still hold at the hashed revision; a tombstone exactly at it never does, because older versions of
//! etcd removed it. (When no key lives at the hashed revision, all that compaction leaves count: etcd's rule.)
//! At a compacted revision the answer is the one kept from before that compaction: see [`crate::compaction_hash`].

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use crate::hold::Hold;
use crate::row::Header;
use crate::shared::KEYS_PER_LOCK;
use crate::{HashKv, KeyValueRef, Query, Read, ReadError, Revision, Row, Store};

pub(crate) const BUCKET: &[u8] = b"key";

/// Rows hashed before the read transaction is renewed.
const ROWS_PER_SNAPSHOT: usize = 4096;

impl Store {
    /// The hash of the history up to `revision`, 0 for the current one. Reads the whole history, unless a compaction at
    /// `revision` has left its hash.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] below the compaction revision, or when so much waits for compaction that it could not be
    /// held; [`ReadError::Future`] above the current revision; [`ReadError::Corrupt`] and [`ReadError::Storage`].
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, ReadError> {
        if let Some(kept) = self.0.kept_hashes.at(revision) {
            return Ok(kept);
        }
        let hold = self.0.holds.hold();
        let (current, compacted) = {
            let state = self.0.state.read();
            (state.published, state.compacted)
        };
        if revision > current {
            return Err(ReadError::Future);
        }
        if revision > 0 && revision < compacted {
            return Err(ReadError::Compacted);
        }
        if revision < 0 {
            // As in etcd: a revision before all rows.
            return Ok(HashKv {
                hash: crc32c::crc32c(BUCKET),
                compact_revision: compacted,
                hash_revision: revision,
            });
        }
        let upto = if revision == 0 { current } else { revision };
        let holding = if self.any_key_at(upto, &hold)? {
            upto
        } else {
            compacted
        };
        let superseded = self.superseded(compacted, holding, &hold)?;
        let mut hash = crc32c::crc32c(BUCKET);
        self.each_row(
            Revision::new(0, 0),
            upto,
            &hold,
            |revision, header, payload| {
                if revision.main > compacted || kept(revision, header, compacted, &superseded) {
                    hash = crc32c::crc32c_append(hash, &bucket_key(revision, header.tombstone));
                    hash = crc32c::crc32c_append(hash, payload);
                }
            },
        )?;
        Ok(HashKv {
            hash,
            compact_revision: compacted,
            hash_revision: upto,
        })
    }

    /// The hashes that the last compactions have left, oldest first: at most ten, and none of before the last start.
    pub fn compaction_hashes(&self) -> Vec<HashKv> {
        self.0.kept_hashes.all()
    }

    /// The hash of the whole history at the current revision.
    ///
    /// # Errors
    /// As [`hash_kv`](Self::hash_kv).
    pub fn hash(&self) -> Result<u32, ReadError> {
        Ok(self.hash_kv(0)?.hash)
    }

    /// Whether a key lives at a revision; as etcd counts, not one that is written again by the transaction that deleted it.
    fn any_key_at(&self, revision: i64, hold: &Hold) -> Result<bool, ReadError> {
        let all = Query {
            key: b"\0",
            end: b"\0",
            revision,
            limit: 0,
            count_only: true,
        };
        let mut live = self.read(&all)?.count;
        let mut deleted = HashSet::new();
        self.each_row(
            Revision::new(revision, 0),
            revision,
            hold,
            |_, header, payload| {
                let Ok(row) = KeyValueRef::decode(payload) else {
                    return;
                };
                if header.tombstone {
                    deleted.insert(row.key.to_vec());
                } else if header.previous.is_none() && deleted.contains(row.key) {
                    live -= 1;
                }
            },
        )?;
        Ok(live > 0)
    }

    /// The rows up to `compacted` that a row up to `holding` replaced.
    fn superseded(
        &self,
        compacted: i64,
        holding: i64,
        hold: &Hold,
    ) -> Result<HashSet<Revision>, ReadError> {
        let mut superseded = HashSet::new();
        if compacted <= 0 {
            return Ok(superseded);
        }
        let walked = self.0.physically_compacted.load(Ordering::Acquire);
        let from = Revision::new(walked.max(0), 0);
        self.each_row(from, holding, hold, |_, header, _| {
            superseded.extend(header.previous.filter(|row| row.main <= compacted));
        })?;
        Ok(superseded)
    }

    /// Calls `each` for the rows up to `upto`, from LMDB in short transactions and then from the ring. What is durable
    /// comes from LMDB although the ring may have it: the ring does not forget what compaction removes.
    fn each_row(
        &self,
        mut next: Revision,
        upto: i64,
        hold: &Hold,
        mut each: impl FnMut(Revision, Header, &[u8]),
    ) -> Result<(), ReadError> {
        loop {
            let state = self.0.state.read();
            if hold.is_broken() {
                return Err(ReadError::Compacted);
            }
            if next.main > state.durable {
                let rows: Vec<Row> = state.ring.from(next).take(KEYS_PER_LOCK).cloned().collect();
                drop(state);
                for row in rows.iter().take_while(|row| row.revision.main <= upto) {
                    each(
                        row.revision,
                        Header {
                            previous: row.previous,
                            tombstone: row.tombstone,
                        },
                        &row.payload,
                    );
                    next = row.revision.next();
                }
                if rows.last().is_none_or(|row| row.revision.main > upto) {
                    return Ok(());
                }
                continue;
            }
            let on_disk = state.durable;
            let snapshot = state.env.snapshot()?;
            drop(state);
            let mut left = ROWS_PER_SNAPSHOT;
            snapshot.walk(next, on_disk.min(upto), |revision, header, payload| {
                each(revision, header, payload);
                next = revision.next();
                left -= 1;
                Ok(left > 0)
            })?;
            if left > 0 {
                if on_disk >= upto {
                    return Ok(());
                }
                next = next.max(Revision::new(on_disk + 1, 0));
            }
        }
    }
}

/// Whether a row up to the compaction revision counts.
fn kept(
    revision: Revision,
    header: Header,
    compacted: i64,
    superseded: &HashSet<Revision>,
) -> bool {
    debug_assert!(revision.main <= compacted);
    !header.tombstone && !superseded.contains(&revision)
}

/// The key of a row in etcd's bucket.
pub(crate) fn bucket_key(revision: Revision, tombstone: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.extend_from_slice(&revision.main.to_be_bytes());
    key.push(b'_');
    key.extend_from_slice(&i64::from(revision.sub).to_be_bytes());
    if tombstone {
        key.push(b't');
    }
    key
}
