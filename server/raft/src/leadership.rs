//! Follows whether this member leads, and tells it to whoever asks.
//!
//! A leader counts as one only when an entry of its own term was applied here: then everything that was acknowledged in
//! earlier terms is applied too.

use std::sync::Arc;

use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::watch;

use crate::sink::Observer;
use crate::standing::Standing;
use crate::type_config::Raft;

/// The term in which this member leads.
pub(crate) type Leading = Option<u64>;

/// Runs until the core ends.
pub(crate) async fn follow(
    raft: Raft,
    standing: Arc<Standing>,
    observer: Arc<dyn Observer>,
    leading: watch::Sender<Leading>,
) {
    let mut metrics = raft.server_metrics();
    loop {
        let (term, elected) = {
            let metrics = metrics.borrow_watched();
            (metrics.vote.leader_id.term, metrics.state.is_leader())
        };
        let now = (elected && standing.applied_term() == term).then_some(term);
        if *leading.borrow() != now {
            standing.set_leading(now);
            observer.leader_changed(now.is_some(), term);
            leading.send_replace(now);
        }
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            () = standing.term_applied.notified() => {}
        }
    }
}
