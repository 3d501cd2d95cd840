//! The leader makes another member lead: because it was asked to, or because it stops.
//!
//! From the moment that it begins, a leader takes no more proposals and sends no heartbeats, so it begins only where the
//! other is sure to answer: it has just done so, and lacks next to nothing of the log.

use std::time::Duration;

use keystead_state::Refusal;
use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, RaftMetrics};

use crate::config::Config;
use crate::standing::position_after;
use crate::type_config::{Raft, TypeConfig};

/// Entries that a member may lack that is about to lead: as many as are on their way to it under load.
const LAG_ENTRIES: u64 = 64;
/// How many heartbeats ago a member may have answered last.
const SILENT_HEARTBEATS: u32 = 3;

/// How the leadership is handed over on this member.
pub(crate) struct Handover {
    raft: Raft,
    heartbeat: Duration,
    election_timeout: Duration,
    deadline: Duration,
}

/// What a look at the cluster says of a handover.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Done,
    /// The next leader is fit, and was not told yet.
    Ready,
    NotYet,
    Refused(Refusal),
}

impl Handover {
    pub(crate) fn new(raft: Raft, config: &Config) -> Self {
        Self {
            raft,
            heartbeat: config.heartbeat,
            election_timeout: config.election_timeout,
            deadline: config.proposal_deadline(),
        }
    }

    /// Makes `target` lead.
    ///
    /// # Errors
    /// See `Consensus::move_leader`.
    pub(crate) async fn to(&self, target: u64) -> Result<(), Refusal> {
        let moving = self.moving(target);
        let moved = tokio::time::timeout(self.deadline, moving).await;
        moved.unwrap_or(Err(Refusal::TransferTimeout))
    }

    /// Makes the member lead that has most of the log, of those that could. Gives up soon: who stops anyway leaves no
    /// more than an election behind.
    pub(crate) async fn before_stop(&self) {
        let Some(target) = self.successor(&self.raft.metrics().borrow_watched()) else {
            return;
        };
        let patience = 2 * self.election_timeout;
        let to = format!("{target:016x}");
        match tokio::time::timeout(patience, self.moving(target)).await {
            Ok(Ok(())) => tracing::info!(to, "handed the leadership over before stopping"),
            Ok(Err(reason)) => tracing::warn!(to, %reason, "could not hand the leadership over"),
            Err(_) => tracing::warn!(to, "the next leader did not take over in time"),
        }
    }

    async fn moving(&self, target: u64) -> Result<(), Refusal> {
        let mut metrics = self.raft.metrics();
        let mut told = false;
        loop {
            let look = self.look(&metrics.borrow_watched(), target, told);
            match look {
                Look::Done => return Ok(()),
                Look::Refused(refusal) => return Err(refusal),
                Look::Ready => {
                    let to = format!("{target:016x}");
                    tracing::info!(to, "handing the leadership over");
                    let trigger = self.raft.trigger();
                    let begun = trigger.transfer_leader(target).await;
                    begun.map_err(|_| Refusal::Stopped)?;
                    told = true;
                }
                Look::NotYet => {
                    // An answer that is too old is seen by the clock alone.
                    let next = tokio::time::timeout(self.heartbeat, metrics.changed()).await;
                    if let Ok(Err(_)) = next {
                        return Err(Refusal::Stopped);
                    }
                }
            }
        }
    }

    fn look(&self, metrics: &RaftMetrics<TypeConfig>, target: u64, told: bool) -> Look {
        let leader = metrics.current_leader;
        if leader == Some(target) {
            return Look::Done;
        }
        if leader != Some(metrics.id) {
            return match (told, leader) {
                // Nobody yet.
                (true, None) => Look::NotYet,
                (true, Some(_)) => Look::Refused(Refusal::TransferTimeout),
                (false, _) => Look::Refused(Refusal::NotLeader),
            };
        }
        let membership = metrics.membership_config.membership();
        if !membership.voter_ids().any(|voter| voter == target) {
            return Look::Refused(Refusal::BadTransferee);
        }
        if !told && self.is_fit(metrics, target) {
            return Look::Ready;
        }
        Look::NotYet
    }

    /// Whether a member could lead now.
    fn is_fit(&self, metrics: &RaftMetrics<TypeConfig>, id: u64) -> bool {
        let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(&id));
        let answers = match heard {
            Some(Some(at)) => at.elapsed() < SILENT_HEARTBEATS * self.heartbeat,
            _ => false,
        };
        let last = metrics.last_log_index.map_or(0, position_after);
        answers && last <= entries(metrics, id) + LAG_ENTRIES
    }

    fn successor(&self, metrics: &RaftMetrics<TypeConfig>) -> Option<u64> {
        if metrics.current_leader != Some(metrics.id) {
            return None;
        }
        let membership = metrics.membership_config.membership();
        let others = membership.voter_ids().filter(|voter| *voter != metrics.id);
        others
            .filter(|voter| self.is_fit(metrics, *voter))
            .max_by_key(|voter| entries(metrics, *voter))
    }
}

/// How many entries of the log a member has on its disk.
fn entries(metrics: &RaftMetrics<TypeConfig>, id: u64) -> u64 {
    let progress = metrics.replication.as_ref().and_then(|all| all.get(&id));
    match progress {
        Some(Some(last)) => position_after(last.index),
        _ => 0,
    }
}
