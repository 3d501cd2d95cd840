//! What clients of this member ask of the leader's clock, whoever leads: renewals, and how long a lease has left.

use std::sync::Arc;
use std::time::Duration;

use keystead_raft::Consensus;
use keystead_state::Refusal;

use super::{Lessor, Remaining, Renewal};
use crate::leader_request;

/// How often a leader is looked for while there is none, or is asked again that has yet to apply something.
const LEADER_INTERVAL: Duration = Duration::from_millis(100);

/// Has the leader renew leases or look at them, which may be this member.
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

    /// How long a lease has left; none when there is no such lease.
    ///
    /// # Errors
    /// [`Refusal::NoLeader`]: there is none, or it did not answer. Those of a read barrier.
    pub async fn remaining(&self, id: i64) -> Result<Option<Remaining>, Refusal> {
        let mut waited = Duration::ZERO;
        loop {
            if self.lessor.is_leading() {
                let found = self.lessor.remaining(id);
                if found.is_some() {
                    return Ok(found);
                }
                self.consensus.read_barrier().await?;
                return Ok(self.lessor.remaining(id));
            }
            let found = leader_request::remaining(&self.consensus, id, self.patience).await?;
            if found.is_some() || !self.knows(id) || waited >= self.limit {
                return Ok(found);
            }
            tokio::time::sleep(LEADER_INTERVAL).await;
            waited += LEADER_INTERVAL;
        }
    }

    /// Whether the lease exists as far as this member has applied the log. Where the leader knows no such one, either has yet to
    /// apply what the other has: the grant, of which this member may have told already, or the end.
    fn knows(&self, id: i64) -> bool {
        self.lessor.remaining(id).is_some()
    }

    /// Asks the leader; it is to be asked again where it knows no such lease and this member does.
    async fn renew_elsewhere(&self, id: i64) -> Result<Renewal, Refusal> {
        let renewal = leader_request::renew(&self.consensus, id, self.patience).await?;
        if renewal == Renewal::Gone && self.knows(id) {
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
