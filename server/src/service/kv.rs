//! KV: Range, Put, DeleteRange, Txn, Compact. Requests are decoded, checked and handed on; what they mean is the
//! state's business. The hot calls are answered on the shard's own thread: a read at once where no other member need
//! be asked, a write when its log entry is applied. RangeStream is in `range_stream.rs`.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use keystead_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, TxnResponse,
};
use keystead_proto::internal::{Record, RecordKind};
use keystead_state::{Refusal, Reply as Answer, check, nesting, quota, txn};

use super::{decode, identify, range_answer};
use crate::auth::Caller;
use crate::error::GrpcStatus;
use crate::member::Member;
use crate::net::grpc::{Metadata, framed};
use crate::net::{Call, Reply};
use crate::proposals::Proposals;

/// The service of one shard.
#[derive(Clone)]
pub(super) struct Kv {
    member: Arc<Member>,
    proposals: Rc<Proposals>,
}

impl Kv {
    pub(super) fn new(member: Arc<Member>, proposals: Rc<Proposals>) -> Self {
        Self { member, proposals }
    }

    pub(super) fn range(&self, call: Call) {
        let kv = self.clone();
        call.unary(move |message, metadata, reply| match read_range(message) {
            Ok(request) if request.serializable => kv.answer_range(request, metadata, reply),
            Ok(_) if kv.member.consensus.is_learner() => {
                reply.refuse(&Refusal::LearnerUnsupported.into());
            }
            Ok(request) => kv.when_current(metadata, reply, move |kv, metadata, reply| {
                kv.answer_range(request, metadata, reply);
            }),
            Err(status) => reply.refuse(&status),
        });
    }

    pub(super) fn put(&self, call: Call) {
        self.write(call, |kv, message| {
            let request: PutRequest = decode(&message)?;
            kv.member.admit_cost(quota::put_cost(&request))?;
            check::put(&request)?;
            Ok(kv.member.record(RecordKind::Put, message)?)
        });
    }

    pub(super) fn delete_range(&self, call: Call) {
        self.write(call, |kv, message| {
            let request: DeleteRangeRequest = decode(&message)?;
            check::delete_range(&request)?;
            Ok(kv.member.record(RecordKind::DeleteRange, message)?)
        });
    }

    pub(super) fn txn(&self, call: Call) {
        let kv = self.clone();
        call.unary(
            move |message, metadata, reply| match kv.read_txn(&message) {
                Ok(request) if txn::is_serializable(&request) => {
                    kv.answer_txn(request, metadata, reply);
                }
                Ok(request) if txn::is_read_only(&request) => {
                    kv.when_current(metadata, reply, move |kv, metadata, reply| {
                        kv.answer_txn(request, metadata, reply);
                    })
                }
                Ok(_) => match kv.member.record(RecordKind::Txn, message) {
                    Ok(record) => kv.submit(record, metadata, reply),
                    Err(refusal) => reply.refuse(&refusal.into()),
                },
                Err(status) => reply.refuse(&status),
            },
        );
    }

    pub(super) fn compact(&self, call: Call) {
        let member = self.member.clone();
        call.unary(move |message, metadata, reply| {
            tokio::task::spawn_local(async move {
                match compact(&member, message, &metadata).await {
                    Ok(answer) => reply.answer(answer),
                    Err(status) => reply.refuse(&status),
                }
            });
        });
    }

    /// Proposes what `admit` makes of the request.
    fn write(
        &self,
        call: Call,
        admit: impl FnOnce(&Self, Bytes) -> Result<Record, GrpcStatus> + 'static,
    ) {
        let kv = self.clone();
        call.unary(move |message, metadata, reply| match admit(&kv, message) {
            Ok(record) => kv.submit(record, metadata, reply),
            Err(status) => reply.refuse(&status),
        });
    }

    /// Proposes a record for whoever calls; whether that is permitted is seen when it is applied.
    fn submit(&self, mut record: Record, metadata: Metadata, reply: Reply) {
        let timeout = metadata.timeout;
        identify(
            self,
            &self.member,
            metadata,
            reply,
            move |kv, caller, reply| {
                caller.sign(&mut record);
                kv.proposals.submit(record, reply, timeout);
            },
        );
    }

    /// Calls `then` when what is applied here is current: at once, where that is known.
    fn when_current(
        &self,
        metadata: Metadata,
        reply: Reply,
        then: impl FnOnce(&Self, Metadata, Reply) + 'static,
    ) {
        match self.member.consensus.try_read_barrier() {
            Some(Ok(())) => then(self, metadata, reply),
            Some(Err(refusal)) => reply.refuse(&refusal.into()),
            None => {
                let kv = self.clone();
                tokio::task::spawn_local(async move {
                    match read_barrier(&kv.member, &metadata).await {
                        Ok(()) => then(&kv, metadata, reply),
                        Err(status) => reply.refuse(&status),
                    }
                });
            }
        }
    }

    fn read_txn(&self, message: &Bytes) -> Result<TxnRequest, GrpcStatus> {
        let request = nesting::decode_txn(message)?;
        self.member.admit_cost(quota::txn_cost(&request))?;
        check::txn(&request, self.member.config.max_txn_ops)?;
        Ok(request)
    }

    fn answer_range(&self, request: RangeRequest, metadata: Metadata, reply: Reply) {
        identify(
            self,
            &self.member,
            metadata,
            reply,
            move |kv, caller, reply| {
                range_answer::answer(&kv.member, request, caller, reply);
            },
        );
    }

    fn answer_txn(&self, request: TxnRequest, metadata: Metadata, reply: Reply) {
        identify(
            self,
            &self.member,
            metadata,
            reply,
            move |kv, caller, reply| match read_for(&kv.member, &request, &caller) {
                Ok(mut response) => {
                    kv.member.headers.complete(&mut response.header);
                    reply.answer(framed(&response));
                }
                Err(refusal) => reply.refuse(&refusal.into()),
            },
        );
    }
}

/// Waits until what is applied here is current, as long as the server and the client have patience.
pub(super) async fn read_barrier(member: &Member, metadata: &Metadata) -> Result<(), GrpcStatus> {
    let patience = member.patience(metadata);
    match tokio::time::timeout(patience, member.consensus.read_barrier()).await {
        Ok(current) => Ok(current?),
        Err(_) if metadata.timeout == Some(patience) => Err(GrpcStatus::deadline_exceeded()),
        Err(_) => Err(Refusal::Timeout.into()),
    }
}

/// Decodes and checks what every range must be.
pub(super) fn read_range(message: Bytes) -> Result<RangeRequest, GrpcStatus> {
    let request: RangeRequest = decode(&message)?;
    check::range(&request)?;
    Ok(request)
}

/// What a transaction reads that only reads.
fn read_for(
    member: &Member,
    request: &TxnRequest,
    caller: &Caller,
) -> Result<TxnResponse, Refusal> {
    let reader = &member.reader;
    caller.permit(reader, |_, caller| reader.permit_txn(caller, request))?;
    let response = txn::read(&reader.store().view(), request)?;
    caller.still_permitted(reader)?;
    Ok(response)
}

async fn compact(
    member: &Member,
    message: Bytes,
    metadata: &Metadata,
) -> Result<Bytes, GrpcStatus> {
    let request: CompactionRequest = decode(&message)?;
    let caller = member.require_root_for_all(metadata).await?;
    match member
        .propose_for(&caller, RecordKind::Compaction, message)
        .await?
    {
        Answer::Compaction(mut response) => {
            if request.physical {
                member
                    .consensus
                    .physically_compacted(request.revision)
                    .await;
            }
            member.headers.complete(&mut response.header);
            Ok(framed(&response))
        }
        other => Err(GrpcStatus::mismatched(&other)),
    }
}
