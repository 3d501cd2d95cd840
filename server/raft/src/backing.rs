//! Proof that a member leads still, for the price of a question. Who says that its own vote is the leader's has given it to no other: so until
//! it said so nobody can have been elected without it, and where such words and the leader's own make a quorum, nobody was elected at all.
//!
//! openraft has heartbeats to everyone for the same; they cost several times as much.

use std::collections::BTreeSet;

use openraft::{RaftState, ServerState};

use crate::standing::{Position, position_after};
use crate::type_config::{TypeConfig, Vote};

/// What a leader knows at one moment.
pub(crate) struct Backed {
    /// What it leads by.
    pub(crate) vote: Vote,
    /// Up to where everything is that was acknowledged so far, should it lead still.
    pub(crate) position: Position,
    /// Whose votes make quorums: a majority of each of these is one.
    voters: Vec<BTreeSet<u64>>,
}

impl Backed {
    /// None where this member does not lead, or has not committed an entry of its own term: earlier ones may have acknowledged more than
    /// it knows to be committed.
    pub(crate) fn of(state: &RaftState<TypeConfig>) -> Option<Self> {
        let vote = *state.vote_ref();
        let committed = state.cluster_committed()?;
        let leads = state.server_state == ServerState::Leader
            && committed.leader_id.term == vote.leader_id.term;
        let membership = state.membership_state.effective().membership();
        leads.then(|| Self {
            vote,
            position: position_after(committed.index),
            voters: membership.get_joint_config().clone(),
        })
    }

    /// Everyone who has a vote, but `me`.
    pub(crate) fn others(&self, me: u64) -> Vec<u64> {
        let voters: BTreeSet<u64> = self.voters.iter().flatten().copied().collect();
        voters.into_iter().filter(|voter| *voter != me).collect()
    }

    /// Whether the words of `backers` are enough.
    pub(crate) fn is_proven_by(&self, backers: &[u64]) -> bool {
        self.voters.iter().all(|voters| {
            let backing = voters.iter().filter(|voter| backers.contains(voter));
            2 * backing.count() > voters.len()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backed<const N: usize>(configs: [&[u64]; N]) -> Backed {
        Backed {
            vote: Vote::new(7, 1),
            position: 9,
            voters: configs
                .iter()
                .map(|it| it.iter().copied().collect())
                .collect(),
        }
    }

    #[test]
    fn a_majority_of_the_voters_proves_it_and_nobody_else_counts() {
        let three = backed([&[1, 2, 3]]);
        for (backers, proven) in [
            (&[1][..], false),
            (&[1, 2], true),
            (&[1, 3], true),
            // A learner, or a member that was removed.
            (&[1, 4, 5], false),
        ] {
            assert_eq!(three.is_proven_by(backers), proven, "{backers:?}");
        }
        assert!(!backed([&[1, 2, 3, 4]]).is_proven_by(&[1, 2]));
        assert!(!backed([&[1, 2, 3, 4, 5]]).is_proven_by(&[1, 2]));
        assert!(backed([&[1, 2, 3, 4, 5]]).is_proven_by(&[1, 2, 5]));
        // A leader that has no vote any more.
        assert!(!backed([&[2, 3, 4]]).is_proven_by(&[1, 2]));
        assert_eq!(three.others(1), [2, 3]);
    }

    #[test]
    fn while_members_change_both_majorities_are_needed() {
        let joint = backed([&[1, 2, 3], &[1, 4, 5]]);
        assert!(!joint.is_proven_by(&[1, 2]));
        assert!(!joint.is_proven_by(&[1, 4]));
        assert!(joint.is_proven_by(&[1, 2, 4]));
        assert_eq!(joint.others(1), [2, 3, 4, 5]);
    }
}
