//! What is refused before it is proposed: requests that are wrong whatever the state is, in etcd's order of precedence.
//!
//! Called by the services, and by nothing that applies: what is in the log was checked.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use keystead_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keystead_proto::etcdserverpb::request_op::Request;
use keystead_proto::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use crate::Refusal;

/// The longest that a lease may live between renewals; etcd's limit.
pub const MAX_LEASE_TTL_SECS: i64 = 9_000_000_000;

/// Checks a range.
///
/// # Errors
/// [`Refusal::EmptyKey`], [`Refusal::InvalidSortOption`].
pub fn range(request: &RangeRequest) -> Result<(), Refusal> {
    key(&request.key)?;
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() {
        return Err(Refusal::InvalidSortOption);
    }
    Ok(())
}

/// Checks a put.
///
/// # Errors
/// [`Refusal::EmptyKey`], [`Refusal::ValueProvided`], [`Refusal::LeaseProvided`].
pub fn put(request: &PutRequest) -> Result<(), Refusal> {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
///
/// # Errors
/// [`Refusal::EmptyKey`].
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Refusal> {
    key(&request.key)
}

/// Checks the granting of a lease.
///
/// # Errors
/// [`Refusal::LeaseTtlTooLarge`].
pub fn lease_grant(request: &LeaseGrantRequest) -> Result<(), Refusal> {
    if request.ttl > MAX_LEASE_TTL_SECS {
        Err(Refusal::LeaseTtlTooLarge)
    } else {
        Ok(())
    }
}

/// Checks a transaction and all that are nested in it. A level with `n` operations (its longest list) leaves
/// `max_ops - n` to each transaction nested in it.
///
/// # Errors
/// [`Refusal::TooManyOps`], [`Refusal::KeyNotFound`] for an operation of no kind, those of the single operations, and,
/// when all of these pass, [`Refusal::DuplicateKey`].
pub fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), Refusal> {
    ops(request, max_ops)?;
    writes(&request.success)?;
    writes(&request.failure)?;
    Ok(())
}

fn key(key: &Bytes) -> Result<(), Refusal> {
    if key.is_empty() {
        Err(Refusal::EmptyKey)
    } else {
        Ok(())
    }
}

/// Recursion ends: each level that nests takes at least one of `max_ops`.
fn ops(request: &TxnRequest, max_ops: usize) -> Result<(), Refusal> {
    let longest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let left = max_ops.checked_sub(longest).ok_or(Refusal::TooManyOps)?;
    request
        .compare
        .iter()
        .try_for_each(|compare| key(&compare.key))?;
    request
        .success
        .iter()
        .chain(&request.failure)
        .try_for_each(|op| match &op.request {
            Some(Request::RequestRange(request)) => range(request),
            Some(Request::RequestPut(request)) => put(request),
            Some(Request::RequestDeleteRange(request)) => delete_range(request),
            Some(Request::RequestTxn(request)) => ops(request, left),
            None => Err(Refusal::KeyNotFound),
        })
}

/// What a list of operations may write.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

/// Refuses a list of operations that may put a key twice, or put and delete it.
///
/// As in etcd, transactions side by side are looked at in order: a put is held against the deletions of this list and
/// of the transactions before it. The two branches of one transaction never both run, so they may put the same key.
fn writes(ops: &[RequestOp]) -> Result<Writes<'_>, Refusal> {
    let mut all = Writes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            all.deletes.insert_range(&delete.key, &delete.range_end);
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(txn)) = &op.request {
            let (success, failure) = (writes(&txn.success)?, writes(&txn.failure)?);
            let twice = |key: &&[u8]| all.puts.contains(*key) || all.deletes.contains(key);
            if success.puts.iter().any(twice) || failure.puts.iter().any(twice) {
                return Err(Refusal::DuplicateKey);
            }
            for branch in [success, failure] {
                all.absorb(branch);
            }
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            let key: &[u8] = &put.key;
            if all.deletes.contains(key) || !all.puts.insert(key) {
                return Err(Refusal::DuplicateKey);
            }
        }
    }
    Ok(all)
}

impl<'a> Writes<'a> {
    /// Adds what another list may write; the smaller set moves, so that deep nesting stays cheap.
    fn absorb(&mut self, mut other: Self) {
        if other.puts.len() > self.puts.len() {
            std::mem::swap(&mut self.puts, &mut other.puts);
        }
        if other.deletes.0.len() > self.deletes.0.len() {
            std::mem::swap(&mut self.deletes, &mut other.deletes);
        }
        self.puts.extend(other.puts);
        for (start, end) in other.deletes.0 {
            self.deletes.insert(start, end);
        }
    }
}

/// Where a deletion ends. Ordered as the keys are that it reaches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End<'a> {
    key: &'a [u8],
    included: bool,
}

impl End<'_> {
    fn reaches(self, key: &[u8]) -> bool {
        key < self.key || (self.included && key == self.key)
    }
}

/// Disjoint ranges of keys by their first key.
#[derive(Default)]
struct Intervals<'a>(BTreeMap<&'a [u8], End<'a>>);

impl<'a> Intervals<'a> {
    /// Takes a range in etcd's convention, save that its end is taken as it is: one zero byte ("from the key on") is
    /// below every key, and such a deletion overlaps with nothing. That is how etcd compares them.
    fn insert_range(&mut self, key: &'a [u8], end: &'a [u8]) {
        if end.is_empty() {
            self.insert(
                key,
                End {
                    key,
                    included: true,
                },
            );
        } else if key < end {
            self.insert(
                key,
                End {
                    key: end,
                    included: false,
                },
            );
        }
    }

    fn insert(&mut self, mut start: &'a [u8], mut end: End<'a>) {
        if let Some((&before, &until)) = self.0.range::<[u8], _>(upto(start)).next_back()
            && until.reaches(start)
        {
            start = before;
            end = end.max(until);
        }
        while let Some((&next, &until)) = self.0.range::<[u8], _>(from(start)).next() {
            if !end.reaches(next) {
                break;
            }
            self.0.remove(next);
            end = end.max(until);
        }
        self.0.insert(start, end);
    }

    fn contains(&self, key: &[u8]) -> bool {
        let before = self.0.range::<[u8], _>(upto(key)).next_back();
        before.is_some_and(|(_, end)| end.reaches(key))
    }
}

fn upto(key: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Unbounded, Bound::Included(key))
}

fn from(key: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Included(key), Bound::Unbounded)
}
