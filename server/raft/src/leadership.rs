//! Follows who leads, and tells it to whoever asks.
//!
//! This member counts as the leader for its observers only when an entry of its own term was applied here: then everything
//! that was acknowledged in earlier terms is applied too.

use std::sync::Arc;

use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::watch;

use crate::sink::Observer;
use crate::standing::Standing;
use crate::type_config::Raft;

/// Who leads, as far as this member knows. That the leader is still there is another question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Leader {
    /// Nobody was elected in this term, or it was not heard of.
    #[default]
    Nobody,
    /// This member was elected in the term.
    Me {
        /// The term.
        term: u64,
    },
    /// Another member was.
    Other {
        /// Which one.
        id: u64,
        /// The term.
        term: u64,
    },
}

/// What is known of the leader, and how far the log was applied that earlier ones left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Leading {
    pub(crate) leader: Leader,
    /// The term of the last entry that was applied: nothing of an earlier one comes after it.
    pub(crate) applied_term: u64,
}

impl Leading {
    /// The term in which this member leads, with everything from earlier terms applied.
    pub(crate) fn term(&self) -> Option<u64> {
        match self.leader {
            Leader::Me { term } if self.applied_term == term => Some(term),
            _ => None,
        }
    }
}

/// Runs until the core ends.
pub(crate) async fn follow(
    raft: Raft,
    me: u64,
    standing: Arc<Standing>,
    observer: Arc<dyn Observer>,
    leading: watch::Sender<Leading>,
) {
    let mut metrics = raft.server_metrics();
    let mut known_term = 0;
    let mut known_membership = None;
    loop {
        let (term, leader) = {
            let metrics = metrics.borrow_watched();
            let term = metrics.vote.leader_id.term;
            let membership = &metrics.membership_config;
            if *membership.log_id() < known_membership {
                standing.take_back_membership(membership.membership());
            }
            known_membership = *membership.log_id();
            let leader = match metrics.current_leader {
                _ if metrics.state.is_leader() => Leader::Me { term },
                Some(id) if id != me => Leader::Other { id, term },
                // A leader that was restarted remembers itself.
                _ => Leader::Nobody,
            };
            (term, leader)
        };
        let now = Leading {
            leader,
            applied_term: standing.applied_term(),
        };
        let before = *leading.borrow();
        if before.leader != now.leader {
            tell(before.leader, now.leader);
        }
        if before.term() != now.term() || known_term != term {
            known_term = term;
            standing.set_leading(now.term().is_some());
            observer.leader_changed(now.term().is_some(), term);
        }
        if before != now {
            leading.send_replace(now);
        }
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            () = standing.term_applied.notified() => {}
        }
    }
}

fn tell(before: Leader, now: Leader) {
    match (before, now) {
        (_, Leader::Me { term }) => tracing::info!(term, "this member was elected leader"),
        (_, Leader::Other { id, term }) => {
            tracing::info!(term, leader = format!("{id:016x}"), "follows a leader");
        }
        (Leader::Me { term }, Leader::Nobody) => tracing::warn!(term, "this member leads no more"),
        (Leader::Other { id, term }, Leader::Nobody) => {
            tracing::warn!(term, leader = format!("{id:016x}"), "lost its leader");
        }
        (Leader::Nobody, Leader::Nobody) => {}
    }
}
