//! Changes of who the members are, made by the leader: each is judged, then written as one entry of the log that has all
//! members in it. Nothing else changes the membership after the founding.
//!
//! An entry counts with the voters that it names from the moment that it stands in the log. So one that gives a vote to
//! a member which is not there yet may wait for it; it is answered as soon as a quorum of the voters before has it on
//! disk. That is enough: whoever leads next needs one of them, by the old count and by the new, and has the entry.

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use keystead_proto::etcdserverpb::Member;
use keystead_state::{Reader, Refusal};
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::Precondition;
use openraft::{ChangeMembers, Instant as _, RaftMetrics, ServerState};
use tokio::sync::Mutex;

use crate::config::Config;
use crate::node::{Node, published_by};
use crate::standing::position_after;
use crate::type_config::{Membership, Payload, Raft, StoredMembership, TypeConfig};
use rules::Facts;

pub use rules::MemberChange;

/// How long a change waits before it looks again whether the one before is done.
const RETRY: Duration = Duration::from_millis(10);

/// The members, as they can be changed on this member while it leads.
pub(crate) struct Members {
    raft: Raft,
    reader: Reader,
    strict: bool,
    max_learners: usize,
    heartbeat: Duration,
    /// A member that was silent for so long counts as one that doesn't answer.
    silence: Duration,
    deadline: Duration,
    /// Held by the one change that is being made: the next is judged by what became of it.
    turn: Mutex<()>,
}

/// Why a change was not written.
enum Unwritten {
    /// Something is under way that it must be judged after.
    NotYet,
    Refused(Refusal),
}

impl Members {
    pub(crate) fn new(raft: Raft, reader: Reader, config: &Config) -> Self {
        Self {
            raft,
            reader,
            strict: config.strict_reconfig_check,
            max_learners: config.max_learners,
            heartbeat: config.heartbeat,
            silence: config.election_timeout,
            deadline: config.proposal_deadline(),
            turn: Mutex::new(()),
        }
    }

    /// The members by the membership in force, with what they published as far as it is applied here.
    pub(crate) fn list(&self) -> Vec<Member> {
        let membership = self.metrics().membership_config;
        published_by(membership.membership(), &self.reader)
    }

    /// Makes a change, and returns the members after it.
    ///
    /// # Errors
    /// [`Refusal::NotLeader`] and the refusals of `rules`: nothing was changed. [`Refusal::Timeout`],
    /// [`Refusal::LeaderChanged`] and [`Refusal::Stopped`]: it may have been, or may yet be.
    pub(crate) async fn change(&self, change: &MemberChange) -> Result<Vec<Member>, Refusal> {
        let changing = async {
            let _turn = self.turn.lock().await;
            loop {
                let metrics = self.metrics();
                let before = metrics.membership_config.clone();
                self.judge(change, &metrics)?;
                let held = self.held_by_voters_of(before.clone());
                let written = tokio::select! {
                    written = self.write(change, &before) => written,
                    () = held => Ok(()),
                };
                match written {
                    Ok(()) => return Ok(self.list()),
                    Err(Unwritten::NotYet) => tokio::time::sleep(RETRY).await,
                    Err(Unwritten::Refused(refusal)) => return Err(refusal),
                }
            }
        };
        let changed = tokio::time::timeout(self.deadline, changing).await;
        changed.unwrap_or(Err(Refusal::Timeout))
    }

    fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    fn judge(
        &self,
        change: &MemberChange,
        metrics: &RaftMetrics<TypeConfig>,
    ) -> Result<(), Refusal> {
        let (ServerState::Leader, Some(heard), Some(progress)) =
            (metrics.state, &metrics.heartbeat, &metrics.replication)
        else {
            return Err(Refusal::NotLeader);
        };
        let facts = Facts {
            members: &published_by(metrics.membership_config.membership(), &self.reader),
            was_removed: &|id| self.reader.was_removed(id),
            answers: &|id| match heard.get(&id) {
                Some(Some(at)) => at.elapsed() < self.silence,
                _ => false,
            },
            entries: &|id| match progress.get(&id) {
                Some(Some(last)) => position_after(last.index),
                _ => 0,
            },
            leader: metrics.id,
            strict: self.strict,
            max_learners: self.max_learners,
        };
        rules::judge(change, &facts)
    }

    /// Writes the one entry, where `before` is still in force, and returns when it is applied.
    async fn write(
        &self,
        change: &MemberChange,
        before: &StoredMembership,
    ) -> Result<(), Unwritten> {
        let unchanged = [Precondition::LastMembershipLogId {
            last_membership_log_id: *before.log_id(),
        }];
        let written = match after(change, before.membership()).map_err(Unwritten::Refused)? {
            After::Members(membership) => {
                let append = self
                    .raft
                    .append_membership(membership, Payload::Blank, unchanged);
                append.await
            }
            After::Node(id, node) => {
                let nodes = ChangeMembers::SetNodes(BTreeMap::from([(id, node)]));
                self.raft.change_membership_if(nodes, true, unchanged).await
            }
        };
        written.map(drop).map_err(unwritten)
    }

    /// Waits until a change of `before` is on the disks of a quorum of its voters, and not of one of those after it: where
    /// these have it, too, it is about to be applied.
    fn held_by_voters_of(&self, before: Arc<StoredMembership>) -> impl Future<Output = ()> {
        let mut metrics = self.raft.metrics();
        let grace = 2 * self.heartbeat;
        async move {
            while !is_held(&metrics.borrow_watched(), &before) {
                if metrics.changed().await.is_err() {
                    // The core has ended: the writing hears of it.
                    std::future::pending::<()>().await;
                }
            }
            // The others may be about to answer.
            tokio::time::sleep(grace).await;
        }
    }
}

fn is_held(metrics: &RaftMetrics<TypeConfig>, before: &StoredMembership) -> bool {
    let (Some(progress), after) = (&metrics.replication, &metrics.membership_config) else {
        return false;
    };
    let has = |voter: &u64| {
        let matched = progress.get(voter);
        matched.is_some_and(|matched| matched >= after.log_id())
    };
    let by_quorum = |membership: &Membership| {
        let voters = membership.voter_ids();
        voters.filter(has).count() > membership.voter_ids().count() / 2
    };
    after.log_id() > before.log_id()
        && by_quorum(before.membership())
        && !by_quorum(after.membership())
}

/// What the membership is after a change.
enum After {
    Members(Membership),
    /// The same, with other facts of one member.
    Node(u64, Node),
}

fn after(change: &MemberChange, before: &Membership) -> Result<After, Refusal> {
    let mut voters: BTreeSet<u64> = before.voter_ids().collect();
    let nodes = before.nodes().map(|(id, node)| (*id, node.clone()));
    let mut nodes: BTreeMap<u64, Node> = nodes.collect();
    match change {
        MemberChange::Add(member) => {
            nodes.insert(member.id, Node::of(member));
            if !member.is_learner {
                voters.insert(member.id);
            }
        }
        MemberChange::Remove(id) => {
            nodes.remove(id);
            voters.remove(id);
        }
        MemberChange::Promote(id) => {
            voters.insert(*id);
        }
        MemberChange::Update { id, peer_urls } => {
            let mut node = nodes.remove(id).unwrap_or_default();
            node.peer_urls.clone_from(peer_urls);
            return Ok(After::Node(*id, node));
        }
    }
    // Without the check that is called strict, the last voter may be asked to go.
    let membership = Membership::new(vec![voters], nodes);
    membership
        .map(After::Members)
        .map_err(|_| Refusal::NotEnoughStarted)
}

fn unwritten(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Unwritten {
    use ChangeMembershipError::{InProgress, UncommittedLeaderLog};
    Unwritten::Refused(match error {
        RaftError::Fatal(_) => Refusal::Stopped,
        RaftError::APIError(error) => match error {
            ClientWriteError::ForwardToLeader(_) => Refusal::NotLeader,
            ClientWriteError::LogEntryDiscarded(_) => Refusal::LeaderChanged,
            ClientWriteError::PreconditionFailed(_)
            | ClientWriteError::ChangeMembershipError(InProgress(_) | UncommittedLeaderLog(_)) => {
                return Unwritten::NotYet;
            }
            ClientWriteError::ChangeMembershipError(other) => {
                tracing::error!(error = %other, "a change of members was not understood");
                Refusal::Unhealthy
            }
        },
    })
}
