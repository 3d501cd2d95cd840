//! The keys under `name/`, one for each client that contends for it, in the order of their creation:
//! the first one has the lock, or leads. Lock and Election are two faces of it, with the key layout of
//! etcd's concurrency package, so that its clients and ours exclude each other.

use bytes::Bytes;
use keystead_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keystead_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keystead_proto::etcdserverpb::request_op::Request;
use keystead_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
    ResponseHeader, TxnRequest, TxnResponse,
};
use keystead_proto::internal::RecordKind;
use keystead_proto::mvccpb::KeyValue;
use keystead_state::{Refusal, Reply as Answer, check, quota};
use prost::Message;

use super::lease::grant_record;
use super::on_behalf::OnBehalf;
use crate::error::{Code, GrpcStatus};
use crate::watch::{Changes, Span, WaitError};

/// The TTL of the lease that a client without one gets: that of etcd's sessions.
const SESSION_TTL_SECS: i64 = 60;

/// Everyone who contends for one name.
pub(super) struct Contenders {
    client: OnBehalf,
    changes: Changes,
    prefix: Vec<u8>,
}

/// One of them: its key as it was created.
pub(super) struct Contender {
    pub(super) key: Bytes,
    pub(super) create_revision: i64,
    pub(super) lease: i64,
    /// Of the transaction that entered it, or found it.
    pub(super) header: Option<ResponseHeader>,
    /// What was written under the key before, if the lease contended already.
    pub(super) found: Option<KeyValue>,
}

impl Contenders {
    /// Those for `name`, as one client sees them and acts among them.
    pub(super) fn new(client: OnBehalf, changes: Changes, name: &[u8]) -> Self {
        let prefix = [name, b"/"].concat();
        Self {
            client,
            changes,
            prefix,
        }
    }

    /// Who asks.
    pub(super) fn client(&self) -> &OnBehalf {
        &self.client
    }

    /// Everything under the name.
    pub(super) fn span(&self) -> Span {
        Span::prefix(&self.prefix)
    }

    /// Enters with `lease`, or with a new one of a minute if that is 0, unless it contends already.
    pub(super) async fn enter(&self, lease: i64, value: Bytes) -> Result<Contender, GrpcStatus> {
        let lease = session(&self.client, lease).await?;
        let key: Bytes = [&self.prefix[..], hex(lease).as_bytes()].concat().into();
        let put = PutRequest {
            key: key.clone(),
            value,
            lease,
            ..PutRequest::default()
        };
        let get = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        let txn = TxnRequest {
            compare: vec![created_at(key.clone(), 0)],
            success: vec![operation(Request::RequestPut(put))],
            failure: vec![operation(Request::RequestRange(get))],
        };
        let response = commit(&self.client, txn).await?;
        let header = response.header;
        let found = found_by(response);
        let create_revision = match &found {
            Some(kv) => kv.create_revision,
            None => header.map_or(0, |header| header.revision),
        };
        Ok(Contender {
            key,
            create_revision,
            lease,
            header,
            found,
        })
    }

    /// Waits until everyone who entered before is gone.
    pub(super) async fn wait_turn(&self, contender: &Contender) -> Result<(), GrpcStatus> {
        let earlier = RangeRequest {
            max_create_revision: contender.create_revision - 1,
            sort_order: SortOrder::Descend.into(),
            ..self.by_creation()
        };
        loop {
            let (header, last) = self.read(earlier.clone()).await?;
            let Some(last) = last else {
                return Ok(());
            };
            self.wait_deleted(last.key, header.revision).await?;
        }
    }

    /// The one who entered first, and a header as of then.
    pub(super) async fn first(&self) -> Result<(ResponseHeader, Option<KeyValue>), GrpcStatus> {
        self.read(RangeRequest {
            sort_order: SortOrder::Ascend.into(),
            ..self.by_creation()
        })
        .await
    }

    /// The contender's key as it is now.
    pub(super) async fn find(
        &self,
        contender: &Contender,
    ) -> Result<(ResponseHeader, Option<KeyValue>), GrpcStatus> {
        let (header, kv) = self
            .read(RangeRequest {
                key: contender.key.clone(),
                ..RangeRequest::default()
            })
            .await?;
        Ok((
            header,
            kv.filter(|kv| kv.create_revision == contender.create_revision),
        ))
    }

    /// Takes a contender out. Its key under a later creation is somebody else's.
    pub(super) async fn leave(&self, contender: &Contender) -> Result<TxnResponse, GrpcStatus> {
        resign(
            &self.client,
            contender.key.clone(),
            contender.create_revision,
        )
        .await
    }

    fn by_creation(&self) -> RangeRequest {
        let (key, range_end) = match self.span() {
            Span::Key(key) => (key, Bytes::new()),
            Span::Range { start, end } => (start, end.unwrap_or(Bytes::from_static(b"\0"))),
        };
        RangeRequest {
            key,
            range_end,
            limit: 1,
            sort_target: SortTarget::Create.into(),
            ..RangeRequest::default()
        }
    }

    /// A linearizable read of at most one key.
    async fn read(
        &self,
        request: RangeRequest,
    ) -> Result<(ResponseHeader, Option<KeyValue>), GrpcStatus> {
        let answer = self.client.read(&request).await?;
        let header = self.client.member.headers.at(answer.current);
        let row = answer.rows.into_iter().next();
        let kv = row.map(|row| KeyValue::decode(row.payload)).transpose();
        Ok((header, kv.map_err(|error| GrpcStatus::undecodable(&error))?))
    }

    /// Waits for the deletion of a key that was there at `revision`.
    async fn wait_deleted(&self, key: Bytes, revision: i64) -> Result<(), GrpcStatus> {
        let span = Span::Key(key);
        let mut from = revision + 1;
        loop {
            match self.next_change(span.clone(), from).await {
                Ok(change) if change.rows.iter().any(|row| row.tombstone) => return Ok(()),
                Ok(change) => from = change.revision + 1,
                // Compaction went over what was to be read: the caller reads the present.
                Err(WaitError::History(keystead_mvcc::ReadError::Compacted)) => return Ok(()),
                Err(error) => return Err(wait_failed(error)),
            }
        }
    }

    /// The next revision that touches a span, from `from` on.
    pub(super) async fn next_change(
        &self,
        span: Span,
        from: i64,
    ) -> Result<crate::watch::Change, WaitError> {
        self.changes.next(span, from).await
    }
}

/// Writes under a key while it is the one created at `create_revision`. None when it is not.
pub(super) async fn proclaim(
    client: &OnBehalf,
    key: Bytes,
    create_revision: i64,
    value: Bytes,
    lease: i64,
) -> Result<Option<TxnResponse>, GrpcStatus> {
    let put = PutRequest {
        key: key.clone(),
        value,
        lease,
        ..PutRequest::default()
    };
    let txn = TxnRequest {
        compare: vec![created_at(key, create_revision)],
        success: vec![operation(Request::RequestPut(put))],
        failure: Vec::new(),
    };
    let response = commit(client, txn).await?;
    Ok(response.succeeded.then_some(response))
}

/// Deletes a key if it is the one created at `create_revision`.
pub(super) async fn resign(
    client: &OnBehalf,
    key: Bytes,
    create_revision: i64,
) -> Result<TxnResponse, GrpcStatus> {
    let delete = DeleteRangeRequest {
        key: key.clone(),
        ..DeleteRangeRequest::default()
    };
    let txn = TxnRequest {
        compare: vec![created_at(key, create_revision)],
        success: vec![operation(Request::RequestDeleteRange(delete))],
        failure: Vec::new(),
    };
    commit(client, txn).await
}

/// The lease of a client: its own, or a new one where it has none.
pub(super) async fn session(client: &OnBehalf, lease: i64) -> Result<i64, GrpcStatus> {
    if lease != 0 {
        return Ok(lease);
    }
    let record = grant_record(
        &client.member,
        LeaseGrantRequest {
            ttl: SESSION_TTL_SECS,
            id: 0,
        },
    )?;
    match client.grant(record).await? {
        Answer::LeaseGrant(granted) => Ok(granted.id),
        other => Err(GrpcStatus::mismatched(&other)),
    }
}

pub(super) fn wait_failed(error: WaitError) -> GrpcStatus {
    match error {
        WaitError::History(error) => Refusal::from(error).into(),
        WaitError::Stopped => Refusal::Stopped.into(),
    }
}

/// A refusal of the calls that Lock and Election are made of, as their clients are told it. etcd's own make them through
/// its client, whose errors have lost their codes: the texts stay, the code is UNKNOWN.
pub(super) fn as_told_by_sessions(status: GrpcStatus) -> GrpcStatus {
    match status.code {
        Code::Cancelled | Code::DeadlineExceeded => status,
        _ => GrpcStatus::new(Code::Unknown, status.message),
    }
}

/// An error of etcd's session code, which has no code of its own.
pub(super) fn session_error(text: &'static str) -> GrpcStatus {
    GrpcStatus::new(Code::Unknown, text)
}

async fn commit(client: &OnBehalf, txn: TxnRequest) -> Result<TxnResponse, GrpcStatus> {
    let member = &client.member;
    member.admit_cost(quota::txn_cost(&txn))?;
    check::txn(&txn, member.config.max_txn_ops)?;
    match client
        .propose(RecordKind::Txn, txn.encode_to_vec().into())
        .await?
    {
        Answer::Txn(mut response) => {
            member.headers.complete(&mut response.header);
            Ok(response)
        }
        other => Err(GrpcStatus::mismatched(&other)),
    }
}

/// The key-value that the `failure` branch of `enter` read.
fn found_by(response: TxnResponse) -> Option<KeyValue> {
    use keystead_proto::etcdserverpb::response_op::Response;
    match response.responses.into_iter().next()?.response? {
        Response::ResponseRange(range) => range.kvs.into_iter().next(),
        _ => None,
    }
}

fn created_at(key: Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key,
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

fn operation(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// Go's `%x` of a lease id: a negative one has a sign.
fn hex(lease: i64) -> String {
    let sign = if lease < 0 { "-" } else { "" };
    format!("{sign}{:x}", lease.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::hex;

    #[test]
    fn lease_ids_are_written_as_go_writes_them() {
        assert_eq!(hex(0x694d_9a3c), "694d9a3c");
        assert_eq!(hex(-1), "-1");
        assert_eq!(hex(i64::MIN), "-8000000000000000");
    }
}
