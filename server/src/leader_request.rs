//! What a member asks of the leader for its clients, beside writes and reads: leases live by the leader's clock.
//!
//! The question travels as bytes that consensus does not look into; both sides of it are here.

use std::sync::Arc;

use bytes::Bytes;
use keystead_proto::peer::{
    LeaderAnswer, LeaderRequest, LeaseRemaining, leader_answer, leader_request,
};
use keystead_raft::Consensus;
use keystead_state::Refusal;
use prost::Message;

use crate::lease::{Lessor, Remaining, Renewal};

/// Answers what another member asks; none where this member does not lead, or does not know the question.
pub(crate) async fn answer(lessor: Arc<Lessor>, request: Bytes) -> Option<Bytes> {
    let what = LeaderRequest::decode(request).ok()?.what?;
    let what = match what {
        leader_request::What::Renew(id) => match lessor.renew(id).await {
            Renewal::Alive { ttl_secs } => leader_answer::What::Renewed(ttl_secs),
            Renewal::Gone => leader_answer::What::Renewed(0),
            Renewal::NotLeading => return None,
        },
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

/// Has the leader give a lease its whole TTL again.
///
/// # Errors
/// [`Refusal::NoLeader`]: nobody answered who leads. It may have been renewed.
pub(crate) async fn renew(consensus: &Consensus, id: i64) -> Result<Renewal, Refusal> {
    match ask(consensus, leader_request::What::Renew(id)).await? {
        leader_answer::What::Renewed(0) => Ok(Renewal::Gone),
        leader_answer::What::Renewed(ttl_secs) => Ok(Renewal::Alive { ttl_secs }),
        leader_answer::What::Remaining(_) => Err(Refusal::NoLeader),
    }
}

/// How long a lease has left by the leader's clock; none when there is no such lease.
///
/// # Errors
/// [`Refusal::NoLeader`].
pub(crate) async fn remaining(
    consensus: &Consensus,
    id: i64,
) -> Result<Option<Remaining>, Refusal> {
    match ask(consensus, leader_request::What::Remaining(id)).await? {
        leader_answer::What::Remaining(it) => Ok(it.exists.then_some(Remaining {
            remaining_secs: it.remaining_secs,
            granted_secs: it.granted_secs,
        })),
        leader_answer::What::Renewed(_) => Err(Refusal::NoLeader),
    }
}

async fn ask(
    consensus: &Consensus,
    what: leader_request::What,
) -> Result<leader_answer::What, Refusal> {
    let what = Some(what);
    let request = LeaderRequest { what }.encode_to_vec();
    let answer = consensus.ask_leader(request.into()).await?;
    let answer = LeaderAnswer::decode(answer).ok();
    answer
        .and_then(|answer| answer.what)
        .ok_or(Refusal::NoLeader)
}
