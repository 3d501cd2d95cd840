//! `--force-new-cluster`: goes on alone with the data of one member, when the others are lost for good.
//!
//! Before anything else sees the log, it gets one more entry, whose membership has no other member. Nothing that is in the
//! log is given up, committed or not: somebody may have been told of it. Whoever of the others is still alive knows
//! nothing of this entry, so both would go on: they must never be started again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::blocking::heard;
use crate::node::Node;
use crate::standing::position_after;
use crate::stored::{self, Note, Unreadable};
use crate::type_config::{Membership, Payload, Vote};
use crate::wal::{self, Done, EntryId, Recovered, Wal, WalError};

/// Bytes of the log in memory at a time.
const READ_BYTES: usize = 4 << 20;

/// Why no cluster of one member was forced. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ForceError {
    /// The member is none by its own data.
    #[error(
        "--force-new-cluster: member {0:016x} was removed from its cluster; start from a snapshot of another member"
    )]
    NoMember(u64),
    /// The log can't be read.
    #[error("--force-new-cluster: the log holds {0}")]
    Unreadable(String),
    /// The log failed.
    #[error("--force-new-cluster: the log failed: {0}")]
    Log(#[from] WalError),
    /// The entry was not written.
    #[error("--force-new-cluster: the log was not written: {0}")]
    Write(#[from] io::Error),
}

impl From<Unreadable> for ForceError {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable.to_string())
    }
}

/// Makes `member_id` the only member by its own log, where it is not. A fresh directory is left to its founding.
pub(crate) async fn force(
    wal: &Wal,
    recovered: &mut Recovered,
    note: Option<&Note>,
    member_id: u64,
) -> Result<(), ForceError> {
    let (Some(last), Some(membership)) = (wal.last(), in_force(wal, note)?) else {
        return Ok(());
    };
    let me = membership.get_node(&member_id).cloned();
    let me = me.ok_or(ForceError::NoMember(member_id))?;
    let others = membership.nodes().count() - 1;
    if others == 0 {
        return Ok(());
    }
    let vote = recovered.vote.clone().map(stored::parse_vote).transpose()?;
    // Nobody else has written in this term.
    let term = 1 + vote.map_or(last.term, |vote| vote.leader_id.term.max(last.term));
    let vote = stored::vote(&Vote::new(term, member_id));
    written(|done| wal.save_vote(vote.clone(), done)).await?;
    let id = EntryId {
        term,
        leader: last.leader,
        index: last.index + 1,
    };
    let payload = alone(member_id, me);
    written(|done| wal.append(vec![wal::Entry { id, payload }], done)).await?;
    recovered.vote = Some(vote);
    tracing::warn!(
        others,
        "forced a new cluster of this member alone; the others must never be started again"
    );
    Ok(())
}

/// The membership that counts: the last one in the log, or what the store has seen.
fn in_force(wal: &Wal, note: Option<&Note>) -> Result<Option<Membership>, ForceError> {
    let mut found = note.map(|note| note.membership().membership().clone());
    let seen = note.and_then(|note| note.last);
    let mut next = seen.map_or(0, |last| position_after(last.index));
    while let Some(last) = wal.last().filter(|last| last.index >= next) {
        let entries = wal.read(next..last.index + 1, READ_BYTES)?;
        for entry in entries {
            next = entry.id.index + 1;
            if let Payload::Membership(membership) = stored::parse_payload(entry.payload)? {
                found = Some(membership);
            }
        }
    }
    Ok(found)
}

fn alone(member_id: u64, me: Node) -> Bytes {
    let voters = vec![BTreeSet::from([member_id])];
    let nodes = BTreeMap::from([(member_id, me)]);
    let membership = Membership::new(voters, nodes).expect("the voter is a member");
    stored::payload(&Payload::Membership(membership))
}

/// Waits until what `write` queues is on the disk.
async fn written(write: impl FnOnce(Done) -> Result<(), WalError>) -> Result<(), ForceError> {
    let (done, reached) = oneshot::channel();
    write(Box::new(move |result| {
        // The receiver waits below.
        done.send(result).ok();
    }))?;
    let result = heard(reached).await;
    Ok(result.unwrap_or_else(|_| Err(io::Error::other("the log ended")))?)
}
