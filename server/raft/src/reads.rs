//! Linearizable reads where this member is not the only voter: one round of heartbeats answers everyone who asked
//! before it began. Who asks while a round is under way waits for the next.

use keystead_state::Refusal;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};

use crate::type_config::{Raft, TypeConfig};

/// How many reads may wait for a round; beyond, a read is refused at once.
const WAITING_READS: usize = 16 << 10;

type Asker = oneshot::Sender<Result<(), Refusal>>;

/// Where reads ask for a round.
#[derive(Clone)]
pub(crate) struct Reads(mpsc::Sender<Asker>);

/// Answers the reads; lives on the core thread.
pub(crate) struct Rounds(mpsc::Receiver<Asker>);

pub(crate) fn channel() -> (Reads, Rounds) {
    let (asking, asked) = mpsc::channel(WAITING_READS);
    (Reads(asking), Rounds(asked))
}

impl Reads {
    /// Returns when everything that was acknowledged anywhere before the call is applied here.
    pub(crate) async fn barrier(&self) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(answer).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => Refusal::Stopped,
        })?;
        answered.await.unwrap_or(Err(Refusal::Stopped))
    }
}

impl Rounds {
    /// Runs until the last `Reads` is gone.
    pub(crate) async fn run(mut self, raft: Raft) {
        let mut askers = Vec::new();
        while self.0.recv_many(&mut askers, WAITING_READS).await > 0 {
            let answer = round(&raft).await;
            for asker in askers.drain(..) {
                // Who no longer waits needs no answer.
                asker.send(answer.clone()).ok();
            }
        }
    }
}

async fn round(raft: &Raft) -> Result<(), Refusal> {
    let current = raft
        .get_read_linearizer(ReadPolicy::ReadIndex)
        .await
        .map_err(refusal)?;
    current
        .await_ready(raft)
        .await
        .map_err(|_| Refusal::Stopped)?;
    Ok(())
}

fn refusal(error: RaftError<TypeConfig, LinearizableReadError<TypeConfig>>) -> Refusal {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(_)) => Refusal::NoLeader,
        RaftError::APIError(_) => Refusal::Timeout,
        RaftError::Fatal(_) => Refusal::Stopped,
    }
}
