//! Leases as far as they are replicated: which exist, with what time to live, and which keys are attached.
//!
//! Written by the applier, read by services. No deadline is known here: that a lease has expired is the leader's finding,
//! which arrives as a revocation in the log.
//!
//! ```text
//! table LEASE   key:   lease id, 8 bytes, big endian
//!               value: version 1, 1 byte | time to live in seconds, 8 bytes, big endian
//!                      version 2: the same | what was left of it at the last checkpoint, in seconds, 8 bytes, big endian
//! ```
//! Attachments are not stored: every key carries its lease, so they are gathered from the keys on opening.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use keystead_mvcc::{Meta, Read, Store, Writer};
use keystead_proto::etcdserverpb::{
    LeaseCheckpointRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest,
    LeaseRevokeResponse,
};
use keystead_seeded::{Bug, planted};
use parking_lot::RwLock;

use crate::apply::header;
use crate::table::{LEASE, MalformedEntry};
use crate::{OpenError, Refusal};

/// Of a value without a checkpoint, and of one with it.
const PLAIN: u8 = 1;
const WITH_CHECKPOINT: u8 = 2;

/// Keys of a lease that are copied before the lock is released: the applier waits for it.
const KEYS_PER_LOCK: usize = 256;

/// What is known of a lease in every member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseFacts {
    /// How long it lives after it was granted or renewed.
    pub ttl_secs: i64,
    /// How much of that was left at its last checkpoint; none where it was renewed since, or had no checkpoint. A new
    /// leader gives it this much.
    pub left_secs: Option<i64>,
}

impl LeaseFacts {
    /// Those of a lease that was just granted.
    pub const fn granted(ttl_secs: i64) -> Self {
        Self {
            ttl_secs,
            left_secs: None,
        }
    }
}

/// A change that whoever keeps deadlines must follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// A lease began.
    Granted {
        /// Its id.
        id: i64,
        /// How long it lives after each renewal.
        ttl_secs: i64,
    },
    /// A lease had a checkpoint, or an earlier one was taken back.
    Checkpointed {
        /// Its id.
        id: i64,
        /// What it has left, for a new leader; none is its whole time.
        left_secs: Option<i64>,
    },
    /// A lease ended, and its keys with it.
    Revoked {
        /// Its id.
        id: i64,
    },
}

/// The leases, by id. The applier changes it; services read it, so that they may see a change moments before the
/// revision that it comes with.
#[derive(Default)]
pub(crate) struct Lessor(RwLock<BTreeMap<i64, Lease>>);

struct Lease {
    facts: LeaseFacts,
    keys: BTreeSet<Box<[u8]>>,
}

impl Lessor {
    /// Takes over all of `other`.
    pub(crate) fn replace(&self, other: Self) {
        *self.0.write() = other.0.into_inner();
    }

    /// Reads the leases of a store and finds their keys.
    pub(crate) fn load(store: &Store) -> Result<Self, OpenError> {
        let mut leases = BTreeMap::new();
        for (key, value) in store.table(LEASE)? {
            let (id, facts) = decode_entry(&key, &value)?;
            let keys = BTreeSet::new();
            leases.insert(id, Lease { facts, keys });
        }
        if !leases.is_empty() {
            store.metas_in(b"\0", b"\0", &mut |key, meta| {
                if let Some(lease) = leases.get_mut(&meta.lease) {
                    lease.keys.insert(key.into());
                }
                true
            })?;
        }
        Ok(Self(RwLock::new(leases)))
    }

    pub(crate) fn facts(&self, id: i64) -> Option<LeaseFacts> {
        self.0.read().get(&id).map(|lease| lease.facts)
    }

    /// The keys of a lease in order; none when there is no such lease. Keys that come and go meanwhile may be in it.
    pub(crate) fn keys(&self, id: i64) -> Vec<Bytes> {
        let mut keys = Vec::new();
        loop {
            let some = self.keys_after(id, keys.last());
            if some.is_empty() {
                return keys;
            }
            keys.extend(some);
        }
    }

    /// Some keys of a lease, those that follow `after`.
    pub(crate) fn keys_after(&self, id: i64, after: Option<&Bytes>) -> Vec<Bytes> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(&key[..]));
        let leases = self.0.read();
        let keys = leases.get(&id).map(|lease| &lease.keys);
        keys.into_iter()
            .flat_map(|keys| keys.range::<[u8], _>((from, Bound::Unbounded)))
            .take(KEYS_PER_LOCK)
            .map(|key| Bytes::copy_from_slice(key))
            .collect()
    }

    /// How many keys a lease has.
    pub(crate) fn key_count(&self, id: i64) -> u64 {
        let leases = self.0.read();
        leases.get(&id).map_or(0, |lease| lease.keys.len() as u64)
    }

    /// Every lease, by id.
    pub(crate) fn all(&self) -> Vec<(i64, LeaseFacts)> {
        self.0
            .read()
            .iter()
            .map(|(id, lease)| (*id, lease.facts))
            .collect()
    }

    /// A key was written that was attached to `from` and is to `to` now; 0 stands for no lease. Without a lease on
    /// either side nothing is looked up.
    pub(crate) fn move_key(&self, key: &[u8], from: i64, to: i64) {
        if from == to {
            return;
        }
        let mut leases = self.0.write();
        if let Some(lease) = leases.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = leases.get_mut(&to) {
            lease.keys.insert(key.into());
        }
    }

    /// A key was deleted.
    pub(crate) fn detach(&self, key: &[u8], deleted: &Meta) {
        self.move_key(key, deleted.lease, 0);
    }

    fn insert(&self, id: i64, facts: LeaseFacts) {
        self.0.write().insert(
            id,
            Lease {
                facts,
                keys: BTreeSet::new(),
            },
        );
    }

    /// Notes what a lease has left; returns what is known of it now.
    fn note(&self, id: i64, left_secs: Option<i64>) -> Option<LeaseFacts> {
        let mut leases = self.0.write();
        let facts = &mut leases.get_mut(&id)?.facts;
        facts.left_secs = left_secs;
        Some(*facts)
    }

    fn remove(&self, id: i64) {
        let removed = self.0.write().remove(&id);
        // Its keys are given back without the lock: there may be many.
        drop(removed);
    }
}

/// Begins a lease. Its id was chosen, and its time to live raised to the least one, before it was proposed.
pub(crate) fn grant(
    writer: &mut Writer,
    lessor: &Lessor,
    request: &LeaseGrantRequest,
) -> Result<LeaseGrantResponse, Refusal> {
    if request.id == 0 {
        return Err(Refusal::LeaseNotFound);
    }
    if lessor.facts(request.id).is_some() {
        return Err(Refusal::LeaseExists);
    }
    let facts = LeaseFacts::granted(request.ttl);
    lessor.insert(request.id, facts);
    writer.set(LEASE, &request.id.to_be_bytes(), Some(&encode(facts)));
    let header = Some(header(writer.begin().commit()));
    Ok(LeaseGrantResponse {
        header,
        id: request.id,
        ttl: request.ttl,
        ..Default::default()
    })
}

/// Ends a lease and deletes its keys, in order and in one revision; without keys no revision is used.
pub(crate) fn revoke(
    writer: &mut Writer,
    lessor: &Lessor,
    request: &LeaseRevokeRequest,
) -> Result<LeaseRevokeResponse, Refusal> {
    if lessor.facts(request.id).is_none() {
        return Err(Refusal::LeaseNotFound);
    }
    writer.set(LEASE, &request.id.to_be_bytes(), None);
    let mut txn = writer.begin();
    let mut keys = lessor.keys_after(request.id, None);
    if planted(Bug::RemoveInOwnOrder) {
        static TURNED: AtomicBool = AtomicBool::new(false);
        if TURNED.fetch_xor(true, Ordering::Relaxed) {
            keys.reverse();
        }
    }
    while let Some(last) = keys.last() {
        for key in &keys {
            txn.delete_range(key, b"", &mut |_, _| ());
        }
        keys = lessor.keys_after(request.id, Some(last));
    }
    lessor.remove(request.id);
    Ok(LeaseRevokeResponse {
        header: Some(header(txn.commit())),
    })
}

/// Keeps what leases have left, for the next leader; nothing left stands for the whole time. A lease that is gone is
/// passed over.
pub(crate) fn checkpoint(
    writer: &mut Writer,
    lessor: &Lessor,
    request: &LeaseCheckpointRequest,
    changes: &mut Vec<LeaseChange>,
) {
    for checkpoint in &request.checkpoints {
        let id = checkpoint.id;
        let left_secs = Some(checkpoint.remaining_ttl).filter(|secs| *secs > 0);
        if let Some(facts) = lessor.note(id, left_secs) {
            writer.set(LEASE, &id.to_be_bytes(), Some(&encode(facts)));
            changes.push(LeaseChange::Checkpointed { id, left_secs });
        }
    }
}

fn encode(facts: LeaseFacts) -> Vec<u8> {
    let version = facts.left_secs.map_or(PLAIN, |_| WITH_CHECKPOINT);
    let mut value = vec![version];
    value.extend(facts.ttl_secs.to_be_bytes());
    value.extend(facts.left_secs.iter().flat_map(|secs| secs.to_be_bytes()));
    value
}

/// A lease's id and what is known of it, as table LEASE has them.
pub(crate) fn decode_entry(key: &[u8], value: &[u8]) -> Result<(i64, LeaseFacts), MalformedEntry> {
    let decoded = || {
        let id = i64::from_be_bytes(key.try_into().ok()?);
        let (version, rest) = value.split_first()?;
        let (ttl_secs, rest) = rest.split_first_chunk()?;
        let left_secs = match *version {
            PLAIN if rest.is_empty() => None,
            WITH_CHECKPOINT => Some(i64::from_be_bytes(rest.try_into().ok()?)),
            _ => return None,
        };
        let ttl_secs = i64::from_be_bytes(*ttl_secs);
        Some((
            id,
            LeaseFacts {
                ttl_secs,
                left_secs,
            },
        ))
    };
    decoded().ok_or_else(|| MalformedEntry::new(LEASE, key))
}
