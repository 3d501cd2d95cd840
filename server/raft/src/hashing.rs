//! The hashes of this member and of the others, for whoever compares them.

use std::io;
use std::thread;
use std::time::Duration;

use keystead_mvcc::{HashKv, ReadError, Store};
use tokio::sync::oneshot;

use crate::consensus::Consensus;
use crate::peers::{HashAnswer, ask_for_hashes};
use crate::priority::give_way;

impl Consensus {
    /// The hash of this member's history up to `revision`, 0 for the current one. Reads all of it, at low priority.
    ///
    /// # Errors
    /// As [`Store::hash_kv`].
    pub async fn hash_at(&self, revision: i64) -> Result<HashKv, ReadError> {
        aside(self.0.store.clone(), revision).await
    }

    /// What all other members say that theirs is; one that does not answer within `patience` has not answered. To be
    /// awaited where there is I/O.
    pub async fn hashes_of_others(&self, revision: i64, patience: Duration) -> Vec<HashAnswer> {
        ask_for_hashes(self.0.identity, self.members(), revision, patience).await
    }
}

/// Hashes on a thread of its own that gives way to the others, and is not waited for when its member stops.
pub(crate) async fn aside(store: Store, revision: i64) -> Result<HashKv, ReadError> {
    let (done, hashed) = oneshot::channel();
    let hashing = move || {
        give_way();
        // Who no longer waits needs no hash.
        done.send(store.hash_kv(revision)).ok();
    };
    thread::Builder::new()
        .name("hash".to_owned())
        .spawn(hashing)
        .map_err(storage)?;
    hashed
        .await
        .unwrap_or_else(|_| Err(storage(io::Error::other("the hash ended by a panic"))))
}

fn storage(error: io::Error) -> ReadError {
    ReadError::Storage(error.into())
}
