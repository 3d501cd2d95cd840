//! A member whose log says that it is none any more asks the others, who may have committed that without telling it: one that
//! was removed is refused, and hears why.

use std::time::Duration;

use keystead_proto::peer::{Nothing, ask};
use openraft::async_runtime::WatchReceiver as _;

use super::Peers;
use crate::type_config::Raft;

/// Asks now and then, while there is a reason to. Runs until it is dropped.
pub(crate) async fn suspect(raft: Raft, peers: Peers, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let others: Vec<u64> = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            let membership = metrics.membership_config.membership();
            if membership.get_node(&metrics.id).is_some() {
                continue;
            }
            membership.nodes().map(|(id, _)| *id).collect()
        };
        for other in others {
            let lines = peers.lines(other);
            // Only a refusal means anything, and that is heard elsewhere.
            let asked = lines.calls.call(ask::What::Ping(Nothing {}));
            drop(tokio::time::timeout(interval, asked).await);
        }
    }
}
