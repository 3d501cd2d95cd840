//! What ends a call that would otherwise go on for ever: the member stops, or there is no leader for a
//! client that asked for one. One monitor a shard, whatever the number of streams.

use std::rc::Rc;
use std::sync::Arc;

use keystead_state::Refusal;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::error::GrpcStatus;
use crate::member::Member;
use crate::net::grpc::Metadata;

/// Election timeouts without a leader after which streams are ended, as in etcd.
const LEADERLESS_ELECTIONS: u32 = 3;

/// The ends of a shard's streams.
pub(super) struct Streams {
    stopping: watch::Receiver<bool>,
    /// Changes whenever the leader has been missing for long.
    leaderless: watch::Sender<()>,
}

impl Streams {
    /// Starts the shard's monitor, which lives as long as its runtime.
    pub(super) fn start(member: Arc<Member>) -> Rc<Self> {
        let streams = Rc::new(Self {
            stopping: member.stopping.clone(),
            leaderless: watch::Sender::new(()),
        });
        tokio::task::spawn_local(streams.clone().monitor(member));
        streams
    }

    /// Returns when a stream with this metadata must end, with the status to end it with.
    pub(super) async fn ended(&self, metadata: &Metadata) -> GrpcStatus {
        let mut stopping = self.stopping.clone();
        let mut leaderless = self.leaderless.subscribe();
        let refusal = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => Refusal::Stopped,
            _ = leaderless.changed(), if metadata.require_leader => Refusal::NoLeader,
        };
        refusal.into()
    }

    async fn monitor(self: Rc<Self>, member: Arc<Member>) {
        let mut elections = tokio::time::interval(member.config.election_timeout);
        elections.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut without = 0;
        loop {
            elections.tick().await;
            without = if member.consensus.status().leader == 0 {
                without + 1
            } else {
                0
            };
            if without == LEADERLESS_ELECTIONS {
                self.leaderless.send_replace(());
                without = 0;
            }
        }
    }
}
