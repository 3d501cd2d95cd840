//! Checkpoints on their way through the log, a batch at a time.

use keystead_proto::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest};
use keystead_proto::internal::{Record, RecordKind};
use keystead_raft::Consensus;
use prost::Message;

use super::checkpointer::Checkpoint;

/// Has checkpoints kept through consensus.
pub struct Checkpoints(Consensus);

impl Checkpoints {
    /// Has them kept through `consensus`.
    pub fn new(consensus: Consensus) -> Self {
        Checkpoints(consensus)
    }
}

impl Checkpoint for Checkpoints {
    async fn checkpoint(&self, term: u64, checkpoints: Vec<LeaseCheckpoint>) -> bool {
        let leases = checkpoints.len();
        let payload = LeaseCheckpointRequest { checkpoints }.encode_to_vec();
        let record = Record {
            kind: RecordKind::LeaseCheckpoint.into(),
            payload: payload.into(),
            own: true,
            ..Record::default()
        };
        // What this member knows of renewals the next leader does not, nor this member when it is that.
        let outcome = self.0.propose_one_in_term(record, term).await;
        outcome
            .inspect_err(|refusal| tracing::debug!(leases, %refusal, "no checkpoint of leases"))
            .is_ok()
    }
}
