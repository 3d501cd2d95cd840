//! Lease: Grant and Revoke go through the log, TimeToLive and Leases are answered by the lessor, and
//! KeepAlive is a long stream of renewals that touch neither log nor store.

use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use keystead_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeRequest, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use keystead_proto::internal::{Record, RecordKind};
use keystead_state::{Auth, Refusal, check};
use prost::Message;

use super::streams::Streams;
use super::{decode, decode_in_stream, identify};
use crate::auth::Caller;
use crate::error::GrpcStatus;
use crate::lease::{Lessor, Renewal, Renewals};
use crate::member::Member;
use crate::net::grpc::{Incoming, Metadata, Outgoing, framed};
use crate::net::{Call, Reply};
use crate::proposals::Proposals;

/// What a lease adds to the store, as etcd's quota counts it.
const LEASE_COST_BYTES: u64 = 64;

/// Renewals that are answered before the connection must have taken their answers.
const UNSENT_RENEWALS: usize = 1024;

/// The service of one shard.
#[derive(Clone)]
pub(super) struct Lease {
    member: Arc<Member>,
    lessor: Arc<Lessor>,
    renewals: Renewals,
    proposals: Rc<Proposals>,
    streams: Rc<Streams>,
}

impl Lease {
    pub(super) fn new(
        member: Arc<Member>,
        lessor: Arc<Lessor>,
        proposals: Rc<Proposals>,
        streams: Rc<Streams>,
    ) -> Self {
        let (patience, limit) = (
            member.config.election_timeout,
            member.config.request_timeout(),
        );
        let renewals = Renewals::new(member.consensus.clone(), lessor.clone(), patience, limit);
        Self {
            member,
            lessor,
            renewals,
            proposals,
            streams,
        }
    }

    pub(super) fn grant(&self, call: Call) {
        self.write(call, |lease, message| {
            let request = decode(&message)?;
            lease.member.admit_cost(LEASE_COST_BYTES)?;
            Ok(grant_record(&lease.member, request)?)
        });
    }

    pub(super) fn revoke(&self, call: Call) {
        self.write(call, |lease, message| {
            decode::<LeaseRevokeRequest>(&message)?;
            Ok(lease.member.record(RecordKind::LeaseRevoke, message)?)
        });
    }

    pub(super) fn time_to_live(&self, call: Call) {
        let lease = self.clone();
        call.unary(move |message, metadata, reply| {
            tokio::task::spawn_local(async move {
                match lease.find_time_to_live(&message, &metadata).await {
                    Ok(response) => reply.answer(framed(&response)),
                    Err(status) => reply.refuse(&status),
                }
            });
        });
    }

    pub(super) fn leases(&self, call: Call) {
        let lease = self.clone();
        call.unary(move |_, metadata, reply| {
            let list = |lease: &Self, caller: Caller, reply: Reply| match lease.list(&caller) {
                Ok(response) => reply.answer(framed(&response)),
                Err(refusal) => reply.refuse(&refusal.into()),
            };
            identify(&lease, &lease.member, metadata, reply, list);
        });
    }

    pub(super) fn keep_alive(&self, call: Call) {
        // A client that has gone already needs no answer.
        if let Ok((metadata, incoming, outgoing)) = call.stream() {
            tokio::task::spawn_local(self.clone().serve(metadata, incoming, outgoing));
        }
    }

    /// Every lease; who may not read a key that is attached to one of them gets none.
    fn list(&self, caller: &Caller) -> Result<LeaseLeasesResponse, Refusal> {
        let (reader, leases) = (&self.member.reader, self.lessor.by_expiry());
        caller.permit(reader, |auth, caller| {
            auth.permit_user(caller)?;
            let permitted = |id: &i64| reader.permit_lease_read(caller, *id);
            leases.iter().try_for_each(permitted)
        })?;
        Ok(LeaseLeasesResponse {
            header: Some(self.member.header()),
            leases: leases.into_iter().map(|id| LeaseStatus { id }).collect(),
        })
    }

    /// Proposes what `admit` makes of the request, for any user.
    fn write(
        &self,
        call: Call,
        admit: impl FnOnce(&Self, Bytes) -> Result<Record, GrpcStatus> + 'static,
    ) {
        let lease = self.clone();
        call.unary(
            move |message, metadata, reply| match admit(&lease, message) {
                Ok(record) => lease.submit(record, metadata, reply),
                Err(status) => reply.refuse(&status),
            },
        );
    }

    fn submit(&self, mut record: Record, metadata: Metadata, reply: Reply) {
        let timeout = metadata.timeout;
        identify(
            self,
            &self.member,
            metadata,
            reply,
            move |lease, caller, reply| {
                if let Err(refusal) = caller.permit(&lease.member.reader, Auth::permit_user) {
                    return reply.refuse(&refusal.into());
                }
                caller.sign(&mut record);
                lease.proposals.submit(record, reply, timeout);
            },
        );
    }

    async fn find_time_to_live(
        &self,
        message: &Bytes,
        metadata: &Metadata,
    ) -> Result<LeaseTimeToLiveResponse, GrpcStatus> {
        let LeaseTimeToLiveRequest { id, keys } = decode(message)?;
        let caller = self.member.require_user(metadata).await?;
        let found = self.renewals.remaining(id).await?;
        if found.is_some() && keys && !self.lessor.is_leading() {
            // The keys are read here: as of now, not of when this member heard of the leader last.
            self.member.consensus.read_barrier().await?;
        }
        if keys {
            let reader = &self.member.reader;
            caller.permit(reader, |_, caller| reader.permit_lease_read(caller, id))?;
        }
        let keys = keys && found.is_some();
        Ok(LeaseTimeToLiveResponse {
            header: Some(self.member.header()),
            id,
            ttl: found.map_or(-1, |lease| lease.remaining_secs),
            granted_ttl: found.map_or(0, |lease| lease.granted_secs),
            keys: if keys {
                self.member.reader.lease_keys(id)
            } else {
                Vec::new()
            },
        })
    }

    async fn serve(self, metadata: Metadata, mut incoming: Incoming, mut outgoing: Outgoing) {
        let status = tokio::select! {
            status = self.renew_until_end(&metadata, &mut incoming, &mut outgoing) => status,
            status = self.streams.ended(&metadata) => status,
        };
        outgoing.finish(status);
    }

    async fn renew_until_end(
        &self,
        metadata: &Metadata,
        incoming: &mut Incoming,
        outgoing: &mut Outgoing,
    ) -> GrpcStatus {
        loop {
            let more = match self.renew_arrived(metadata, incoming, outgoing).await {
                Ok(more) => more,
                Err(status) => return status,
            };
            if !more {
                return GrpcStatus::OK;
            }
            if outgoing.ready().await.is_err() {
                return GrpcStatus::cancelled();
            }
        }
    }

    /// Waits for a request and answers it and all that came with it, one after the other, so that their
    /// answers share a frame. False when the client has sent its last.
    async fn renew_arrived(
        &self,
        metadata: &Metadata,
        incoming: &mut Incoming,
        outgoing: &mut Outgoing,
    ) -> Result<bool, GrpcStatus> {
        let mut next = incoming.message().await?;
        for unsent in 1.. {
            let Some(message) = next else {
                return Ok(false);
            };
            outgoing.push_message(&self.renew(metadata, &message).await?);
            if unsent == UNSENT_RENEWALS {
                break;
            }
            next = match arrived(incoming).await {
                Poll::Ready(next) => next?,
                Poll::Pending => break,
            };
        }
        Ok(true)
    }

    async fn renew(
        &self,
        metadata: &Metadata,
        message: &Bytes,
    ) -> Result<LeaseKeepAliveResponse, GrpcStatus> {
        let LeaseKeepAliveRequest { id } = decode_in_stream(message)?;
        // As in etcd the header is older than the renewal: a revision that a client could take for that of
        // an alive lease must not be one at which it was revoked.
        let header = Some(self.member.header());
        let (caller, reader) = (
            self.member.require_user(metadata).await?,
            &self.member.reader,
        );
        caller.permit(reader, |_, caller| reader.permit_lease_write(caller, id))?;
        let ttl = match self.renewals.renew(id).await? {
            Renewal::Alive { ttl_secs } => ttl_secs,
            _ => 0,
        };
        Ok(LeaseKeepAliveResponse { header, id, ttl })
    }
}

/// The record that grants a lease: with an id of its own choosing where the request has none, and at least
/// the shortest TTL.
///
/// # Errors
/// [`Refusal::LeaseTtlTooLarge`].
pub(super) fn grant_record(
    member: &Member,
    mut request: LeaseGrantRequest,
) -> Result<Record, Refusal> {
    check::lease_grant(&request)?;
    request.ttl = request.ttl.max(member.config.min_lease_ttl_secs());
    if request.id == 0 {
        request.id = random_id(member);
    }
    member.record(RecordKind::LeaseGrant, request.encode_to_vec().into())
}

/// A positive id that no lease has.
fn random_id(member: &Member) -> i64 {
    loop {
        // Keyed by the system's randomness, anew for every state.
        let id = (RandomState::new().hash_one(member.headers.member_id()) >> 1) as i64;
        if id != 0 && member.reader.lease(id).is_none() {
            return id;
        }
    }
}

/// The next request, if it has arrived.
async fn arrived(incoming: &mut Incoming) -> Poll<Result<Option<Bytes>, GrpcStatus>> {
    poll_fn(|cx| Poll::Ready(incoming.poll_message(cx))).await
}
