//! What a request costs of the store's quota, counted as etcd counts it: from the request, not from the file.
//!
//! Members' files differ in size, so nothing that is applied may depend on them. The service that takes a request asks
//! [`Reader::over_quota`](crate::Reader::over_quota) and, when there is no room, proposes the alarm NOSPACE; only the
//! alarm, which is replicated, makes the state refuse.

use keystead_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request};

/// The quota of a member that was given none.
pub const DEFAULT_BYTES: u64 = 2 << 30;

/// What a key costs beside its own bytes and its value's.
const KEY_OVERHEAD_BYTES: u64 = 256;

/// What granting a lease costs.
pub const LEASE_COST: u64 = 64;

/// How much a member stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// etcd's `quota-backend-bytes`: 0 for [`DEFAULT_BYTES`], below 0 for no limit.
    pub quota_bytes: i64,
}

impl Limits {
    /// The quota in force; none when there is no limit.
    pub fn quota(&self) -> Option<u64> {
        match self.quota_bytes {
            0 => Some(DEFAULT_BYTES),
            bytes => u64::try_from(bytes).ok(),
        }
    }
}

/// What a put costs.
pub fn put_cost(put: &PutRequest) -> u64 {
    KEY_OVERHEAD_BYTES + put.key.len() as u64 + put.value.len() as u64
}

/// What the costlier branch of a transaction costs; 0 when neither puts anything.
///
/// Transactions nested in it are counted too. etcd leaves them out, which lets a nested put pass a raised NOSPACE.
pub fn txn_cost(txn: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| ops.iter().map(op_cost).sum::<u64>();
    branch(&txn.success).max(branch(&txn.failure))
}

fn op_cost(op: &RequestOp) -> u64 {
    match &op.request {
        Some(Request::RequestPut(put)) => put_cost(put),
        Some(Request::RequestTxn(txn)) => txn_cost(txn),
        Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => 0,
    }
}
