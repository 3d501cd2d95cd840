//! Answering another member that asks for the hash of this one's history.

use std::io;

use keystead_mvcc::{HashKv, Read as _, ReadError};
use keystead_proto::peer::{Answer, Ask, Hash, Reason, Refused, answer, ask};
use tokio::sync::mpsc;

use super::{Reader, Served, gone, invalid};
use crate::hashing;

/// Answers question after question, until the asker leaves.
pub(super) async fn answer_all(
    served: &Served,
    mut frames: Reader,
    answers: mpsc::Sender<Answer>,
) -> io::Result<()> {
    while let Some(Ask { id, what }) = frames.next().await? {
        let Some(ask::What::HashAt(revision)) = what else {
            return Err(invalid("a call on a connection for hashes"));
        };
        let what = Some(answer(served, revision).await);
        let said = answers.send(Answer { id, what }).await;
        said.map_err(|_| gone())?;
    }
    Ok(())
}

async fn answer(served: &Served, revision: i64) -> answer::What {
    // One after the other: a hash reads all there is.
    let _turn = served.hashing.lock().await;
    let store = served.with.reader.store();
    let current_revision = store.current();
    match hashing::aside(store.clone(), revision).await {
        Ok(hash) => answer::What::Hash(said(hash, current_revision)),
        Err(error) => answer::What::Refused(Refused {
            reason: reason(&error).into(),
            text: error.to_string(),
        }),
    }
}

fn said(hash: HashKv, current_revision: i64) -> Hash {
    Hash {
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        hash_revision: hash.hash_revision,
        current_revision,
    }
}

fn reason(error: &ReadError) -> Reason {
    match error {
        ReadError::Compacted => Reason::Compacted,
        ReadError::Future => Reason::Future,
        ReadError::Corrupt(_) | ReadError::Storage(_) => Reason::UnknownRequest,
    }
}
