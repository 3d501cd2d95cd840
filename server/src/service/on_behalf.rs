//! What Lock and Election do for a client with its own rights: every operation that they are made of is one of the client's, and
//! its token is looked at for each.

use std::sync::Arc;

use bytes::Bytes;
use keystead_proto::etcdserverpb::RangeRequest;
use keystead_proto::internal::{Record, RecordKind};
use keystead_state::{Outcome, RangeAnswer, Refusal, range};

use crate::member::Member;
use crate::net::grpc::Metadata;

/// A client, by the metadata of its call.
pub(super) struct OnBehalf {
    pub(super) member: Arc<Member>,
    pub(super) metadata: Metadata,
}

impl OnBehalf {
    /// Proposes one request and waits for what became of it.
    pub(super) async fn propose(&self, kind: RecordKind, payload: Bytes) -> Outcome {
        let caller = self.member.caller(&self.metadata).await?;
        self.member.propose_for(&caller, kind, payload).await
    }

    /// Proposes the grant of a lease, which any user may have.
    pub(super) async fn grant(&self, mut record: Record) -> Outcome {
        let caller = self.member.require_user(&self.metadata).await?;
        caller.sign(&mut record);
        self.member.consensus.propose_one(record).await
    }

    /// A linearizable read.
    pub(super) async fn read(&self, request: &RangeRequest) -> Result<RangeAnswer, Refusal> {
        let (consensus, reader) = (&self.member.consensus, &self.member.reader);
        consensus.read_barrier().await?;
        let caller = self.member.caller(&self.metadata).await?;
        caller.permit(reader, |auth, caller| {
            auth.permit_read(caller, &request.key, &request.range_end)
        })?;
        let answer = range::range(&reader.store().view(), request)?;
        caller.still_permitted(reader)?;
        Ok(answer)
    }
}
