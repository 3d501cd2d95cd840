//! Lock: mutual exclusion that the server keeps for a client. The lock is a key that lives as long as
//! its lease; holding it means that no older key is there.

use std::sync::Arc;

use bytes::Bytes;
use keystead_proto::etcdserverpb::DeleteRangeRequest;
use keystead_proto::internal::RecordKind;
use keystead_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use keystead_state::{Reply as Answer, check};
use prost::Message;

use super::contenders::{Contender, Contenders, session_error};
use super::on_behalf::OnBehalf;
use super::patience::{Patience, answer_unary};
use crate::error::GrpcStatus;
use crate::member::Member;
use crate::net::Call;
use crate::net::grpc::Metadata;
use crate::watch::Changes;

/// The service of one shard.
#[derive(Clone)]
pub(super) struct Lock {
    member: Arc<Member>,
    changes: Changes,
}

impl Lock {
    pub(super) fn new(member: Arc<Member>, changes: Changes) -> Self {
        Self { member, changes }
    }

    pub(super) fn lock(&self, call: Call) {
        let lock = self.clone();
        answer_unary(call, async move |request, metadata, patience| {
            lock.acquire(request, metadata, patience).await
        });
    }

    pub(super) fn unlock(&self, call: Call) {
        let member = self.member.clone();
        answer_unary(call, async move |request, metadata, _| {
            release(&OnBehalf { member, metadata }, request).await
        });
    }

    async fn acquire(
        &self,
        request: LockRequest,
        metadata: Metadata,
        patience: &mut Patience,
    ) -> Result<LockResponse, GrpcStatus> {
        let member = self.member.clone();
        let client = OnBehalf { member, metadata };
        let contenders = Contenders::new(client, self.changes.clone(), &request.name);
        let own = contenders.enter(request.lease, Bytes::new()).await?;
        let held = patience.wait(hold(&contenders, &own)).await;
        if held.is_err() {
            // Nobody would release it: the client does not know that it has it.
            contenders.leave(&own).await?;
        }
        held
    }
}

async fn release(client: &OnBehalf, request: UnlockRequest) -> Result<UnlockResponse, GrpcStatus> {
    let request = DeleteRangeRequest {
        key: request.key,
        ..DeleteRangeRequest::default()
    };
    check::delete_range(&request)?;
    match client
        .propose(RecordKind::DeleteRange, request.encode_to_vec().into())
        .await?
    {
        Answer::DeleteRange(mut response) => {
            client.member.headers.complete(&mut response.header);
            Ok(UnlockResponse {
                header: response.header,
            })
        }
        other => Err(GrpcStatus::mismatched(&other)),
    }
}

/// Waits until the lock is the contender's. Its key is read again after waiting: its lease may have
/// expired meanwhile, and then the lock is another's.
async fn hold(contenders: &Contenders, own: &Contender) -> Result<LockResponse, GrpcStatus> {
    let (_, first) = contenders.first().await?;
    let key = own.key.clone();
    if first.is_some_and(|first| first.create_revision == own.create_revision) {
        return Ok(LockResponse {
            header: own.header,
            key,
        });
    }
    contenders.wait_turn(own).await?;
    match contenders.find(own).await? {
        (header, Some(_)) => Ok(LockResponse {
            header: Some(header),
            key,
        }),
        (_, None) => Err(session_error("mutex: session is expired")),
    }
}
