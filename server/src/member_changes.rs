//! Changes of who the members are, whichever member was asked: the leader makes them, one after the other.

use std::sync::Arc;

use keystead_proto::etcdserverpb::Member as MemberRecord;
use keystead_raft::MemberChange;
use keystead_state::Refusal;
use tokio::sync::{mpsc, oneshot};

use crate::error::GrpcStatus;
use crate::leader_request;
use crate::member::Member;

/// Changes that other members ask for and that wait for their turn.
const WAITING: usize = 16;

type Changed = Result<Vec<MemberRecord>, GrpcStatus>;

/// Where other members' changes are asked for.
#[derive(Clone)]
pub(crate) struct Changes(mpsc::Sender<Wanted>);

/// A change that another member asked for.
pub(crate) struct Wanted {
    change: MemberChange,
    answer: oneshot::Sender<Changed>,
}

/// The way of the changes to whoever makes them.
pub(crate) fn channel() -> (Changes, mpsc::Receiver<Wanted>) {
    let (asking, asked) = mpsc::channel(WAITING);
    (Changes(asking), asked)
}

impl Changes {
    /// Has this member make a change, if it leads.
    ///
    /// # Errors
    /// Why it was not made, or that it may have been.
    pub(crate) async fn make(&self, change: MemberChange) -> Changed {
        let (answer, answered) = oneshot::channel();
        let wanted = Wanted { change, answer };
        self.0
            .try_send(wanted)
            .map_err(|_| Refusal::TooManyRequests)?;
        answered
            .await
            .unwrap_or_else(|_| Err(Refusal::Stopped.into()))
    }
}

/// Makes the changes that other members ask for, until nobody can ask any more.
pub(crate) async fn make_all(member: Arc<Member>, mut wanted: mpsc::Receiver<Wanted>) {
    while let Some(Wanted { change, answer }) = wanted.recv().await {
        let changed = member.consensus.change_members(&change).await;
        // Who no longer waits needs no answer.
        answer.send(changed.map_err(GrpcStatus::from)).ok();
    }
}

/// Makes a change on this member or on the one that leads; returns the members after it.
///
/// # Errors
/// etcd's reasons against it, and what leaves it open whether it was made.
pub(crate) async fn change(member: &Member, change: MemberChange) -> Changed {
    match member.consensus.change_members(&change).await {
        Err(Refusal::NotLeader) => {
            let patience = member.config.request_timeout();
            leader_request::change(&member.consensus, change, patience).await
        }
        changed => Ok(changed?),
    }
}
