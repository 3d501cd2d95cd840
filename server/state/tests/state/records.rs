//! Records made short, and answers as short texts.
//!
//! ```text
//! @5                        an answer whose header has revision 5
//! k=v[2.4.3]                key, value, create revision, mod revision, version; "~7" behind it for lease 7
//! ```

use std::fmt::Write;

use bytes::Bytes;
use keystead_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keystead_proto::etcdserverpb::request_op::Request;
use keystead_proto::etcdserverpb::response_op::Response;
use keystead_proto::etcdserverpb::*;
use keystead_proto::internal::{Record, RecordKind};
use keystead_proto::mvccpb::KeyValue;
use keystead_state::{Outcome, Reply};
use prost::Message;

pub fn record(kind: RecordKind, message: &impl Message) -> Record {
    Record {
        kind: kind.into(),
        payload: message.encode_to_vec().into(),
        ..Default::default()
    }
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn put_of(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..Default::default()
    }
}

pub fn delete_of(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        prev_kv: false,
    }
}

pub fn range_of(key: &str, end: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..Default::default()
    }
}

pub fn put(key: &str, value: &str) -> Record {
    record(RecordKind::Put, &put_of(key, value))
}

pub fn leased_of(key: &str, lease: i64) -> PutRequest {
    PutRequest {
        lease,
        ..put_of(key, "v")
    }
}

pub fn put_leased(key: &str, value: &str, lease: i64) -> Record {
    record(
        RecordKind::Put,
        &PutRequest {
            lease,
            ..put_of(key, value)
        },
    )
}

pub fn delete(key: &str, end: &str) -> Record {
    record(RecordKind::DeleteRange, &delete_of(key, end))
}

pub fn txn(request: &TxnRequest) -> Record {
    record(RecordKind::Txn, request)
}

pub fn compact(revision: i64) -> Record {
    record(
        RecordKind::Compaction,
        &CompactionRequest {
            revision,
            physical: false,
        },
    )
}

pub fn grant(id: i64, ttl: i64) -> Record {
    record(RecordKind::LeaseGrant, &LeaseGrantRequest { ttl, id })
}

pub fn revoke(id: i64) -> Record {
    record(RecordKind::LeaseRevoke, &LeaseRevokeRequest { id })
}

/// What leases have left, in seconds.
pub fn checkpoint(left: &[(i64, i64)]) -> Record {
    let left = left
        .iter()
        .map(|&(id, remaining_ttl)| LeaseCheckpoint { id, remaining_ttl });
    let checkpoints = left.collect();
    record(
        RecordKind::LeaseCheckpoint,
        &LeaseCheckpointRequest { checkpoints },
    )
}

pub fn alarm(action: alarm_request::AlarmAction, member_id: u64, alarm: AlarmType) -> Record {
    let request = AlarmRequest {
        action: action.into(),
        member_id,
        alarm: alarm.into(),
    };
    record(RecordKind::Alarm, &request)
}

pub fn op(request: impl Into<Op>) -> RequestOp {
    RequestOp {
        request: Some(request.into().0),
    }
}

pub struct Op(Request);

impl From<PutRequest> for Op {
    fn from(put: PutRequest) -> Self {
        Self(Request::RequestPut(put))
    }
}

impl From<DeleteRangeRequest> for Op {
    fn from(delete: DeleteRangeRequest) -> Self {
        Self(Request::RequestDeleteRange(delete))
    }
}

impl From<RangeRequest> for Op {
    fn from(range: RangeRequest) -> Self {
        Self(Request::RequestRange(range))
    }
}

impl From<TxnRequest> for Op {
    fn from(txn: TxnRequest) -> Self {
        Self(Request::RequestTxn(txn))
    }
}

/// A compare whose target follows from what is given.
pub fn compare(key: &str, end: &str, result: CompareResult, given: TargetUnion) -> Compare {
    let target = match given {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result.into(),
        target: target.into(),
        key: bytes(key),
        target_union: Some(given),
        range_end: bytes(end),
    }
}

pub fn if_then_else(
    compare: impl Into<Vec<Compare>>,
    success: impl Into<Vec<RequestOp>>,
    failure: impl Into<Vec<RequestOp>>,
) -> TxnRequest {
    TxnRequest {
        compare: compare.into(),
        success: success.into(),
        failure: failure.into(),
    }
}

pub fn show(outcome: &Outcome) -> String {
    match outcome {
        Err(refusal) => format!("{refusal:?}"),
        Ok(Reply::Put(put)) => show_put(put),
        Ok(Reply::DeleteRange(delete)) => show_delete(delete),
        Ok(Reply::Txn(txn)) => show_txn(txn),
        Ok(Reply::Compaction(compaction)) => show_header(&compaction.header),
        Ok(Reply::LeaseGrant(grant)) => format!(
            "{} ~{} {}s",
            show_header(&grant.header),
            grant.id,
            grant.ttl
        ),
        Ok(Reply::LeaseRevoke(revoke)) => show_header(&revoke.header),
        Ok(Reply::Alarm(alarm)) => {
            let alarms = alarm
                .alarms
                .iter()
                .map(|alarm| format!(" {:?} of {}", alarm.alarm(), alarm.member_id));
            show_header(&alarm.header) + &alarms.collect::<String>()
        }
        Ok(Reply::Authenticate(login)) => {
            format!("{} {:?}", show_header(&login.header), login.token)
        }
        Ok(Reply::Done { revision }) => format!("@{revision}"),
    }
}

fn show_header(header: &Option<ResponseHeader>) -> String {
    let header = header.expect("every answer has a header");
    assert_eq!(
        (header.cluster_id, header.member_id, header.raft_term),
        (0, 0, 0)
    );
    if header.revision == 0 {
        "@-".into()
    } else {
        format!("@{}", header.revision)
    }
}

fn show_kv(kv: &KeyValue) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut shown = format!(
        "{}={}[{}.{}.{}]",
        text(&kv.key),
        text(&kv.value),
        kv.create_revision,
        kv.mod_revision,
        kv.version
    );
    if kv.lease != 0 {
        write!(shown, "~{}", kv.lease).expect("a string grows");
    }
    shown
}

fn show_put(put: &PutResponse) -> String {
    let mut shown = show_header(&put.header);
    if let Some(prev_kv) = &put.prev_kv {
        write!(shown, " was {}", show_kv(prev_kv)).expect("a string grows");
    }
    shown
}

fn show_delete(delete: &DeleteRangeResponse) -> String {
    let prev_kvs = delete.prev_kvs.iter().map(|kv| format!(" {}", show_kv(kv)));
    format!(
        "{} -{}{}",
        show_header(&delete.header),
        delete.deleted,
        prev_kvs.collect::<String>()
    )
}

pub fn show_range(range: &RangeResponse) -> String {
    let kvs = range.kvs.iter().map(|kv| format!(" {}", show_kv(kv)));
    let more = if range.more { " more" } else { "" };
    format!(
        "{} #{}{}{more}",
        show_header(&range.header),
        range.count,
        kvs.collect::<String>()
    )
}

pub fn show_txn(txn: &TxnResponse) -> String {
    let answers: Vec<_> = txn
        .responses
        .iter()
        .map(|response| match &response.response {
            Some(Response::ResponseRange(range)) => show_range(range),
            Some(Response::ResponsePut(put)) => show_put(put),
            Some(Response::ResponseDeleteRange(delete)) => show_delete(delete),
            Some(Response::ResponseTxn(txn)) => show_txn(txn),
            None => "nothing".into(),
        })
        .collect();
    let taken = if txn.succeeded { "then" } else { "else" };
    format!(
        "{} {taken} {{{}}}",
        show_header(&txn.header),
        answers.join("; ")
    )
}
