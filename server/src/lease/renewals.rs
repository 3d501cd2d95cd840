//! Renewals for clients of this member, whoever leads.

use std::sync::Arc;
use std::time::Duration;

use keystead_raft::Consensus;
use keystead_state::Refusal;

use super::{Lessor, Renewal};
use crate::leader_request;

/// How often a renewal looks for a leader while there is none.
const LEADER_INTERVAL: Duration = Duration::from_millis(100);

/// Has the leader renew leases, which may be this member.
#[derive(Clone)]
pub struct Renewals {
    consensus: Consensus,
    lessor: Arc<Lessor>,
    patience: Duration,
    limit: Duration,
}

impl Renewals {
    /// Asks through `consensus`, or `lessor` where this member leads. A leader that knows the answer may take as long as
    /// `patience`, and one is waited for no longer than `limit`.
    pub fn new(
        consensus: Consensus,
        lessor: Arc<Lessor>,
        patience: Duration,
        limit: Duration,
    ) -> Self {
        Self {
            consensus,
            lessor,
            patience,
            limit,
        }
    }

    /// Gives a lease its whole TTL again.
    ///
    /// # Errors
    /// [`Refusal::NoLeader`]: there was none in all that time, or it did not answer. It may have been renewed.
    pub async fn renew(&self, id: i64) -> Result<Renewal, Refusal> {
        let mut waited = Duration::ZERO;
        loop {
            let renewal = match self.lessor.renew(id).await {
                Renewal::NotLeading => self.renew_elsewhere(id).await,
                // A leader that slept may not know yet that another leads, by whose clock the lease is gone.
                _ if !self.consensus.leads() => Err(Refusal::NoLeader),
                Renewal::Gone => self.renew_when_current(id).await,
                alive => Ok(alive),
            };
            if renewal.is_ok() {
                return renewal;
            }
            if waited >= self.limit {
                return Err(Refusal::NoLeader);
            }
            tokio::time::sleep(LEADER_INTERVAL).await;
            waited += LEADER_INTERVAL;
        }
    }

    /// Asks the leader. Where it knows no such lease and this member does, either has yet to apply what the other has: the
    /// grant, of which this member may have told already, or the end.
    async fn renew_elsewhere(&self, id: i64) -> Result<Renewal, Refusal> {
        let renewal = leader_request::renew(&self.consensus, id, self.patience).await?;
        if renewal == Renewal::Gone && self.lessor.remaining(id).is_some() {
            return Err(Refusal::NoLeader);
        }
        Ok(renewal)
    }

    /// Looks again as the leader when all is applied that any member may have told of: the grant may be among it.
    async fn renew_when_current(&self, id: i64) -> Result<Renewal, Refusal> {
        self.consensus.read_barrier().await?;
        match self.lessor.renew(id).await {
            Renewal::NotLeading => Err(Refusal::NoLeader),
            renewal => Ok(renewal),
        }
    }
}
