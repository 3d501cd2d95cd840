//! Election: one leader a name. The leader is the oldest key under the name; its value is what the leader
//! proclaims.

use std::sync::Arc;

use bytes::Bytes;
use keystead_mvcc::ReadError;
use keystead_proto::mvccpb::KeyValue;
use keystead_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use prost::Message;

use super::contenders::{
    Contenders, as_told_by_sessions, proclaim, resign, session, session_error, wait_failed,
};
use super::decode_in_stream;
use super::on_behalf::OnBehalf;
use super::patience::{Patience, answer_unary};
use super::streams::Streams;
use crate::error::{Code, GrpcStatus};
use crate::member::Member;
use crate::net::Call;
use crate::net::grpc::{Incoming, Metadata, Outgoing};
use crate::watch::{Change, Changes, Span, WaitError};

const NOT_LEADER: &str = "election: not leader";
const NO_LEADER: &str = "election: no leader";
const MISSING_LEADER: &str = "\"leader\" field must be provided";

/// The service of one shard.
#[derive(Clone)]
pub(super) struct Election {
    member: Arc<Member>,
    changes: Changes,
    streams: std::rc::Rc<Streams>,
}

impl Election {
    pub(super) fn new(
        member: Arc<Member>,
        changes: Changes,
        streams: std::rc::Rc<Streams>,
    ) -> Self {
        Self {
            member,
            changes,
            streams,
        }
    }

    pub(super) fn campaign(&self, call: Call) {
        let election = self.clone();
        answer_unary(call, async move |request, metadata, patience| {
            election.win(request, metadata, patience).await
        });
    }

    pub(super) fn proclaim(&self, call: Call) {
        let member = self.member.clone();
        answer_unary(call, async move |request: ProclaimRequest, metadata, _| {
            let client = OnBehalf { member, metadata };
            let leader = request
                .leader
                .ok_or_else(|| session_error(MISSING_LEADER))?;
            let lease = session(&client, leader.lease).await?;
            let written = proclaim(&client, leader.key, leader.rev, request.value, lease).await?;
            let written = written.ok_or_else(|| session_error(NOT_LEADER))?;
            Ok(ProclaimResponse {
                header: written.header,
            })
        });
    }

    pub(super) fn leader(&self, call: Call) {
        let election = self.clone();
        answer_unary(call, async move |request: LeaderRequest, metadata, _| {
            let contenders = election.contenders(&request.name, metadata);
            let (header, leader) = contenders.first().await?;
            let leader = leader.ok_or_else(|| session_error(NO_LEADER))?;
            Ok(LeaderResponse {
                header: Some(header),
                kv: Some(leader),
            })
        });
    }

    pub(super) fn resign(&self, call: Call) {
        let member = self.member.clone();
        answer_unary(call, async move |request: ResignRequest, metadata, _| {
            let client = OnBehalf { member, metadata };
            let leader = request
                .leader
                .ok_or_else(|| session_error(MISSING_LEADER))?;
            let response = resign(&client, leader.key, leader.rev).await?;
            Ok(ResignResponse {
                header: response.header,
            })
        });
    }

    pub(super) fn observe(&self, call: Call) {
        // A client that has gone already needs no answer.
        if let Ok((metadata, incoming, outgoing)) = call.stream() {
            tokio::task::spawn_local(self.clone().serve(metadata, incoming, outgoing));
        }
    }

    fn contenders(&self, name: &[u8], metadata: Metadata) -> Contenders {
        let member = self.member.clone();
        let client = OnBehalf { member, metadata };
        Contenders::new(client, self.changes.clone(), name)
    }

    /// Enters and waits to be the oldest. A client that goes away meanwhile, or whose lease expires, does
    /// not lead.
    async fn win(
        &self,
        request: CampaignRequest,
        metadata: Metadata,
        patience: &mut Patience,
    ) -> Result<CampaignResponse, GrpcStatus> {
        let contenders = self.contenders(&request.name, metadata);
        let own = contenders
            .enter(request.lease, request.value.clone())
            .await?;
        let won = patience
            .wait(async {
                if own
                    .found
                    .as_ref()
                    .is_some_and(|found| found.value != request.value)
                {
                    let value = request.value.clone();
                    let written = proclaim(
                        contenders.client(),
                        own.key.clone(),
                        own.create_revision,
                        value,
                        own.lease,
                    )
                    .await?;
                    written.ok_or_else(|| session_error(NOT_LEADER))?;
                }
                contenders.wait_turn(&own).await?;
                let (_, key) = contenders.find(&own).await?;
                key.map(drop).ok_or_else(|| session_error(NOT_LEADER))
            })
            .await;
        if let Err(status) = won {
            contenders.leave(&own).await?;
            return Err(status);
        }
        let leader = LeaderKey {
            name: request.name,
            key: own.key,
            rev: own.create_revision,
            lease: own.lease,
        };
        Ok(CampaignResponse {
            header: own.header,
            leader: Some(leader),
        })
    }

    async fn serve(self, metadata: Metadata, mut incoming: Incoming, mut outgoing: Outgoing) {
        let request = match incoming.message().await {
            Ok(Some(message)) => decode_in_stream::<LeaderRequest>(&message),
            Ok(None) => Err(GrpcStatus::new(
                Code::Internal,
                "a call needs a request message",
            )),
            Err(status) => Err(status),
        };
        let status = match request {
            Ok(request) => tokio::select! {
                status = self.tell_leaders(&request.name, &metadata, incoming, &mut outgoing) => status,
                status = self.streams.ended(&metadata) => status,
            },
            Err(status) => status,
        };
        outgoing.finish(status);
    }

    async fn tell_leaders(
        &self,
        name: &[u8],
        metadata: &Metadata,
        incoming: Incoming,
        outgoing: &mut Outgoing,
    ) -> GrpcStatus {
        let contenders = self.contenders(name, metadata.clone());
        let mut leaders = Leaders {
            contenders,
            leader: None,
            from: 0,
            member: self.member.clone(),
        };
        let mut client = Client {
            incoming,
            half_closed: false,
        };
        loop {
            let told = tokio::select! {
                told = leaders.next() => told,
                status = client.gone(outgoing) => return status,
            };
            match told {
                Ok(leader) => outgoing.try_send(leader.encode_to_vec().into()),
                Err(status) => return as_told_by_sessions(status),
            }
            if outgoing.ready().await.is_err() {
                return GrpcStatus::cancelled();
            }
        }
    }
}

/// The client of an Observe, who says nothing after its request.
struct Client {
    incoming: Incoming,
    half_closed: bool,
}

impl Client {
    /// Returns when the client has gone.
    async fn gone(&mut self, outgoing: &mut Outgoing) -> GrpcStatus {
        while !self.half_closed {
            match self.incoming.message().await {
                Ok(Some(_)) => {}
                Ok(None) => self.half_closed = true,
                Err(status) => return status,
            }
        }
        outgoing.closed().await;
        GrpcStatus::cancelled()
    }
}

/// The leaders of a name, one after the other, and everything that they proclaim.
struct Leaders {
    member: Arc<Member>,
    contenders: Contenders,
    /// The key of the present leader.
    leader: Option<Bytes>,
    /// The revision from which its next change is looked for.
    from: i64,
}

impl Leaders {
    async fn next(&mut self) -> Result<LeaderResponse, GrpcStatus> {
        loop {
            let Some(key) = self.leader.clone() else {
                return self.next_leader().await;
            };
            let Some(change) = self.change(Span::Key(key)).await? else {
                self.leader = None;
                continue;
            };
            self.from = change.revision + 1;
            if change.rows.iter().any(|row| row.tombstone) {
                self.leader = None;
            } else if let Some(row) = change.rows.into_iter().next() {
                return self.tell(row.payload, change.revision);
            }
        }
    }

    /// The oldest key as it is, or the first that is put when there is none.
    async fn next_leader(&mut self) -> Result<LeaderResponse, GrpcStatus> {
        loop {
            let (header, first) = self.contenders.first().await?;
            self.from = header.revision + 1;
            if let Some(kv) = first {
                self.leader = Some(kv.key.clone());
                return Ok(LeaderResponse {
                    header: Some(header),
                    kv: Some(kv),
                });
            }
            while let Some(change) = self.change(self.contenders.span()).await? {
                self.from = change.revision + 1;
                if let Some(row) = change.rows.into_iter().find(|row| !row.tombstone) {
                    return self.tell(row.payload, change.revision);
                }
            }
        }
    }

    /// The next change of a span; none when compaction took it and the present must be read.
    async fn change(&self, span: Span) -> Result<Option<Change>, GrpcStatus> {
        match self.contenders.next_change(span, self.from).await {
            Ok(change) => Ok(Some(change)),
            Err(WaitError::History(ReadError::Compacted)) => Ok(None),
            Err(error) => Err(wait_failed(error)),
        }
    }

    fn tell(&mut self, payload: Bytes, revision: i64) -> Result<LeaderResponse, GrpcStatus> {
        let kv = KeyValue::decode(payload).map_err(|error| GrpcStatus::undecodable(&error))?;
        self.leader = Some(kv.key.clone());
        Ok(LeaderResponse {
            header: Some(self.member.headers.at(revision)),
            kv: Some(kv),
        })
    }
}
