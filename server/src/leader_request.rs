//! What a member asks of the leader for its clients, beside writes and reads: leases live by the leader's clock, and the
//! leader changes who the members are.
//!
//! The question travels as bytes that consensus does not look into; both sides of it are here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keystead_proto::etcdserverpb::Member as MemberRecord;
use keystead_proto::peer::{
    self, LeaderAnswer, LeaderRequest, LeaseRemaining, MemberUrls, Members, Status, leader_answer,
    leader_request, member_change,
};
use keystead_raft::{Consensus, MemberChange};
use keystead_state::Refusal;
use prost::Message;

use crate::error::{Code, GrpcStatus};
use crate::lease::{Lessor, Remaining, Renewal};
use crate::member_changes::Changes;

/// Answers what another member asks; none where this member does not lead, or does not know the question.
pub(crate) async fn answer(lessor: Arc<Lessor>, changes: Changes, request: Bytes) -> Option<Bytes> {
    let what = LeaderRequest::decode(request.clone()).ok()?.what?;
    let leader_request::What::Change(change) = what else {
        return answer_about_leases(lessor, request).await;
    };
    let what = Some(told(changes.make(read_change(change)?).await));
    Some(LeaderAnswer { what }.encode_to_vec().into())
}

/// Answers what another member asks about leases; none where this member does not lead, or where it asks something else.
pub async fn answer_about_leases(lessor: Arc<Lessor>, request: Bytes) -> Option<Bytes> {
    let what = match LeaderRequest::decode(request).ok()?.what? {
        leader_request::What::Renew(id) => match lessor.renew(id).await {
            Renewal::Alive { ttl_secs } => leader_answer::What::Renewed(ttl_secs),
            Renewal::Gone => leader_answer::What::Renewed(0),
            Renewal::NotLeading => return None,
        },
        leader_request::What::Change(_) => return None,
        leader_request::What::Remaining(_) if !lessor.is_leading() => return None,
        leader_request::What::Remaining(id) => {
            let remaining = lessor.remaining(id);
            leader_answer::What::Remaining(remaining.map_or_else(LeaseRemaining::default, |it| {
                LeaseRemaining {
                    exists: true,
                    remaining_secs: it.remaining_secs,
                    granted_secs: it.granted_secs,
                }
            }))
        }
    };
    let what = Some(what);
    Some(LeaderAnswer { what }.encode_to_vec().into())
}

/// What another member is told of the change that it asked for.
fn told(changed: Result<Vec<MemberRecord>, GrpcStatus>) -> leader_answer::What {
    match changed {
        Ok(members) => {
            let members = members.iter().map(|member| member.encode_to_vec().into());
            leader_answer::What::Changed(Members {
                members: members.collect(),
            })
        }
        Err(status) => leader_answer::What::Refused(Status {
            code: status.code.into(),
            text: status.message.into_owned(),
        }),
    }
}

fn read_change(change: peer::MemberChange) -> Option<MemberChange> {
    Some(match change.what? {
        member_change::What::Add(record) => MemberChange::Add(MemberRecord::decode(record).ok()?),
        member_change::What::Remove(id) => MemberChange::Remove(id),
        member_change::What::Update(MemberUrls { id, peer_urls }) => {
            MemberChange::Update { id, peer_urls }
        }
        member_change::What::Promote(id) => MemberChange::Promote(id),
    })
}

fn write_change(change: MemberChange) -> peer::MemberChange {
    let what = match change {
        MemberChange::Add(record) => member_change::What::Add(record.encode_to_vec().into()),
        MemberChange::Remove(id) => member_change::What::Remove(id),
        MemberChange::Update { id, peer_urls } => {
            member_change::What::Update(MemberUrls { id, peer_urls })
        }
        MemberChange::Promote(id) => member_change::What::Promote(id),
    };
    peer::MemberChange { what: Some(what) }
}

/// Has the leader change who the members are; returns the members after it.
///
/// # Errors
/// The leader's own refusal. [`Refusal::NoLeader`]: there is none to ask. [`Refusal::Timeout`]: it did not answer, and may
/// have made the change.
pub(crate) async fn change(
    consensus: &Consensus,
    change: MemberChange,
    patience: Duration,
) -> Result<Vec<MemberRecord>, GrpcStatus> {
    if consensus.status().leader == 0 {
        return Err(Refusal::NoLeader.into());
    }
    let what = leader_request::What::Change(write_change(change));
    match ask(consensus, what, patience).await {
        Ok(leader_answer::What::Changed(Members { members })) => members
            .into_iter()
            .map(|member| MemberRecord::decode(member).map_err(|_| Refusal::Timeout.into()))
            .collect(),
        Ok(leader_answer::What::Refused(Status { code, text })) => {
            Err(GrpcStatus::new(Code::from_i32(code), text))
        }
        Ok(_) | Err(_) => Err(Refusal::Timeout.into()),
    }
}

/// Has the leader give a lease its whole TTL again.
///
/// # Errors
/// [`Refusal::NoLeader`]: nobody answered who leads. It may have been renewed.
pub(crate) async fn renew(
    consensus: &Consensus,
    id: i64,
    patience: Duration,
) -> Result<Renewal, Refusal> {
    match ask(consensus, leader_request::What::Renew(id), patience).await? {
        leader_answer::What::Renewed(0) => Ok(Renewal::Gone),
        leader_answer::What::Renewed(ttl_secs) => Ok(Renewal::Alive { ttl_secs }),
        _ => Err(Refusal::NoLeader),
    }
}

/// How long a lease has left by the leader's clock; none when there is no such lease.
///
/// # Errors
/// [`Refusal::NoLeader`].
pub(crate) async fn remaining(
    consensus: &Consensus,
    id: i64,
    patience: Duration,
) -> Result<Option<Remaining>, Refusal> {
    match ask(consensus, leader_request::What::Remaining(id), patience).await? {
        leader_answer::What::Remaining(it) => Ok(it.exists.then_some(Remaining {
            remaining_secs: it.remaining_secs,
            granted_secs: it.granted_secs,
        })),
        _ => Err(Refusal::NoLeader),
    }
}

async fn ask(
    consensus: &Consensus,
    what: leader_request::What,
    patience: Duration,
) -> Result<leader_answer::What, Refusal> {
    let what = Some(what);
    let request = LeaderRequest { what }.encode_to_vec();
    let answer = consensus.ask_leader(request.into(), patience).await?;
    let answer = LeaderAnswer::decode(answer).ok();
    answer
        .and_then(|answer| answer.what)
        .ok_or(Refusal::NoLeader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_arrives_as_it_was_sent() {
        let added = MemberRecord {
            id: 7,
            peer_urls: vec!["http://127.0.0.1:1".to_owned()],
            is_learner: true,
            ..MemberRecord::default()
        };
        for change in [
            MemberChange::Add(added),
            MemberChange::Remove(u64::MAX),
            MemberChange::Update {
                id: 3,
                peer_urls: vec!["http://127.0.0.1:2".to_owned()],
            },
            MemberChange::Promote(9),
        ] {
            assert_eq!(read_change(write_change(change.clone())), Some(change));
        }
        assert_eq!(read_change(peer::MemberChange::default()), None);
    }
}
