//! Short forms of the requests that scripts send most.

use keystead_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keystead_proto::etcdserverpb::request_op::Request;
use keystead_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, WatchCreateRequest,
};

/// The `range_end` that means "from the key on".
pub const FROM_KEY: &str = "\0";

pub fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

pub fn get(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

pub fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..Default::default()
    }
}

pub fn everything() -> RangeRequest {
    range("\0", FROM_KEY)
}

pub fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

pub fn delete_range(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        range_end: range_end.to_owned().into(),
        ..delete(key)
    }
}

pub fn compact(revision: i64) -> CompactionRequest {
    CompactionRequest {
        revision,
        physical: true,
    }
}

pub fn grant(id: i64, ttl: i64) -> LeaseGrantRequest {
    LeaseGrantRequest { ttl, id }
}

pub fn watch(key: &str, range_end: &str, start_revision: i64) -> WatchCreateRequest {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    WatchCreateRequest {
        key,
        range_end,
        start_revision,
        ..Default::default()
    }
}

pub fn compare(key: &str, result: CompareResult, target: TargetUnion) -> Compare {
    let kind = match &target {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result as i32,
        target: kind as i32,
        key: key.to_owned().into(),
        target_union: Some(target),
        ..Default::default()
    }
}

/// An operation of a txn.
pub fn op(request: impl Into<Operation>) -> RequestOp {
    RequestOp {
        request: Some(request.into().0),
    }
}

pub struct Operation(Request);

impl From<RangeRequest> for Operation {
    fn from(request: RangeRequest) -> Self {
        Operation(Request::RequestRange(request))
    }
}

impl From<PutRequest> for Operation {
    fn from(request: PutRequest) -> Self {
        Operation(Request::RequestPut(request))
    }
}

impl From<DeleteRangeRequest> for Operation {
    fn from(request: DeleteRangeRequest) -> Self {
        Operation(Request::RequestDeleteRange(request))
    }
}

impl From<TxnRequest> for Operation {
    fn from(request: TxnRequest) -> Self {
        Operation(Request::RequestTxn(request))
    }
}

pub fn txn(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        compare,
        success,
        failure,
    }
}
