//! Purges the log behind the flusher. openraft purges only what a snapshot covers and the snapshot is the store's last
//! flush, so each purge first lets openraft learn of that flush.

use std::time::Duration;

use openraft::LogIdOptionExt as _;

use crate::flusher::Purgeable;
use crate::type_config::Raft;

/// How long a flush may take to become known; the next purge tries again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs until the flusher or the core ends.
pub(crate) async fn follow(raft: Raft, mut purgeable: Purgeable) {
    while purgeable.changed().await.is_ok() {
        let position = *purgeable.borrow_and_update();
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
        let known = raft.wait(Some(PATIENCE));
        let known = known.metrics(
            |metrics| metrics.snapshot.next_index() >= position,
            "the store's last flush",
        );
        if known.await.is_ok() && raft.trigger().purge_log(position - 1).await.is_err() {
            return;
        }
    }
}
