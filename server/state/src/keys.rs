//! About how many keys requests go through, beside the one that each operation has to itself: what they may cost, told by
//! the counts alone before anything is applied.

use bytes::Bytes;
use keystead_mvcc::Writer;
use keystead_proto::etcdserverpb::request_op::Request as Operation;
use keystead_proto::etcdserverpb::{RangeRequest, RequestOp, TxnRequest};

use crate::lease::Lessor;
use crate::range;
use crate::request::{Request, Requests};

/// Where the counts are.
pub(crate) struct Counts<'a> {
    pub(crate) writer: &'a Writer,
    pub(crate) lessor: &'a Lessor,
    /// Authentication is enabled: who attaches a key to a lease is held against all of its keys.
    pub(crate) guarded: bool,
}

impl Counts<'_> {
    /// What a transaction reads at an old revision can't be told and counts as endless.
    pub(crate) fn keys(&self, requests: &Requests) -> u64 {
        sum(requests.0.iter().map(|asked| self.request(&asked.request)))
    }

    fn request(&self, request: &Request) -> u64 {
        match request {
            Request::Put(put) => self.attached(put.lease),
            Request::DeleteRange(delete) => self.within(&delete.key, &delete.range_end),
            Request::LeaseRevoke(revoke) => self.lessor.key_count(revoke.id),
            Request::LeaseCheckpoint(request) => request.checkpoints.len() as u64,
            Request::Txn(txn) => self.txn(txn),
            Request::Compaction(_)
            | Request::LeaseGrant(_)
            | Request::Alarm(_)
            | Request::Membership(_)
            | Request::MemberAttributes(_)
            | Request::ClusterVersion(_)
            | Request::LogIn(_)
            | Request::Auth(_) => 0,
        }
    }

    fn attached(&self, lease: i64) -> u64 {
        if self.guarded && lease != 0 {
            self.lessor.key_count(lease)
        } else {
            0
        }
    }

    fn within(&self, key: &Bytes, end: &Bytes) -> u64 {
        if end.is_empty() {
            0
        } else {
            self.writer.count(key, end)
        }
    }

    /// Which branch will run is not known yet: the longer one counts.
    fn txn(&self, txn: &TxnRequest) -> u64 {
        let compared = txn
            .compare
            .iter()
            .map(|compare| self.within(&compare.key, &compare.range_end));
        let branch = |ops: &[RequestOp]| sum(ops.iter().map(|op| self.op(op)));
        sum(compared).saturating_add(branch(&txn.success).max(branch(&txn.failure)))
    }

    fn op(&self, op: &RequestOp) -> u64 {
        match &op.request {
            Some(Operation::RequestRange(range)) => self.range(range),
            Some(Operation::RequestPut(put)) => self.attached(put.lease),
            Some(Operation::RequestDeleteRange(delete)) => {
                self.within(&delete.key, &delete.range_end)
            }
            Some(Operation::RequestTxn(txn)) => self.txn(txn),
            None => 0,
        }
    }

    fn range(&self, range: &RangeRequest) -> u64 {
        if range.range_end.is_empty() {
            0
        } else if range.revision > 0 {
            u64::MAX
        } else if range.count_only {
            0
        } else {
            let keys = self.within(&range.key, &range.range_end);
            match range::fetched(range) {
                0 => keys,
                most => keys.min(most as u64),
            }
        }
    }
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}
