//! Revocations on their way through the log, a batch at a time.

use std::sync::Arc;

use keystead_proto::etcdserverpb::LeaseRevokeRequest;
use keystead_proto::internal::{Record, RecordKind};
use keystead_raft::{Consensus, ReplySink};
use keystead_state::{Outcome, Refusal};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::oneshot;

use super::reaper::Revoke;

/// Revokes through consensus.
pub struct Revocations(Consensus);

impl Revocations {
    /// Revokes through `consensus`.
    pub fn new(consensus: Consensus) -> Self {
        Revocations(consensus)
    }
}

impl Revoke for Revocations {
    async fn revoke(&self, term: u64, ids: Vec<i64>) -> Vec<i64> {
        let (done, outcomes) = oneshot::channel();
        let batch = Batch {
            unanswered: ids.len(),
            left: Vec::new(),
            done: Some(done),
        };
        let sink: Arc<dyn ReplySink> = Arc::new(Answers(Mutex::new(batch)));
        let records = ids.iter().map(|id| (*id as u64, record(*id))).collect();
        // What this member takes for expired in its term the next leader may not, nor this member when it is that.
        self.0.propose_in_term(&sink, records, term);
        drop(sink);
        // Without an answer to all of them, all may exist still.
        outcomes.await.unwrap_or(ids)
    }
}

fn record(id: i64) -> Record {
    let payload = LeaseRevokeRequest { id }.encode_to_vec().into();
    Record {
        kind: RecordKind::LeaseRevoke.into(),
        payload,
        own: true,
        ..Record::default()
    }
}

/// Gathers the outcomes of one batch; a lease's id is its token.
struct Answers(Mutex<Batch>);

struct Batch {
    unanswered: usize,
    left: Vec<i64>,
    done: Option<oneshot::Sender<Vec<i64>>>,
}

impl ReplySink for Answers {
    fn deliver(&self, replies: Vec<(u64, Outcome)>) {
        let mut batch = self.0.lock();
        batch.unanswered = batch.unanswered.saturating_sub(replies.len());
        for (token, outcome) in replies {
            if let Err(refusal) = outcome
                && refusal != Refusal::LeaseNotFound
            {
                tracing::warn!(lease = token as i64, %refusal, "an expired lease was not revoked");
                batch.left.push(token as i64);
            }
        }
        if batch.unanswered == 0
            && let Some(done) = batch.done.take()
        {
            // The reaper ends with the member.
            done.send(std::mem::take(&mut batch.left)).ok();
        }
    }
}
