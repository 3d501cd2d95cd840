//! What members say to who asks whether they back it, and to who asks up to where to apply.

use std::time::{Duration, Instant};

use keystead_proto::peer::{ReadIndex, answer, ask};
use keystead_state::Refusal;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::cluster::Cluster;
use super::{eventually, put};
use crate::Config;
use crate::peers::translate;
use crate::standing::position_after;
use crate::type_config::Vote;

/// Three members, whoever leads them at the moment.
struct Three {
    cluster: Cluster,
    runtime: Runtime,
}

impl Three {
    fn start() -> Self {
        Self::with(|_| {})
    }

    fn with(adjust: fn(&mut Config)) -> Self {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        Self {
            cluster: Cluster::started_with(3, adjust),
            runtime: runtime.enable_all().build().unwrap(),
        }
    }

    fn vote(&self, member: usize) -> Vote {
        let raft = &self.cluster.member(member).0.raft;
        let vote = raft.with_raft_state(|state| *state.vote_ref());
        self.runtime.block_on(vote).unwrap()
    }

    /// Nothing where no answer came.
    fn ask(&self, from: usize, to: usize, what: ask::What) -> Option<answer::What> {
        let peers = &self.cluster.member(from).0.peers;
        let lines = peers.lines(Cluster::id(to));
        self.runtime.block_on(lines.calls.call(what)).ok()
    }

    /// Whether `follower` says to `leader` that it has this vote.
    fn backs(&self, leader: usize, follower: usize, vote: &Vote) -> bool {
        let asked = ask::What::Backing(translate::vote(vote));
        let answer = self.ask(leader, follower, asked);
        matches!(answer, Some(answer::What::Backed(_)))
    }
}

#[test]
fn who_has_another_vote_does_not_back_a_leader() {
    let three = Three::start();
    eventually("a follower that backs its leader", || {
        let (leader, follower) = (three.cluster.leader(), three.cluster.follower());
        three.backs(leader, follower, &three.vote(leader))
    });
    let (leader, follower) = (three.cluster.leader(), three.cluster.follower());
    let term = three.vote(leader).leader_id.term;
    // A leader that slept, another one of the same term, one of a time to come, and one that was not elected.
    for other in [
        Vote::new_committed(term - 1, Cluster::id(leader)),
        Vote::new_committed(term, Cluster::id(follower)),
        Vote::new_committed(term + 1000, Cluster::id(leader)),
        Vote::new(term, Cluster::id(leader)),
    ] {
        assert!(!three.backs(leader, follower, &other), "{other:?}");
    }
}

#[test]
fn a_leader_tells_everyone_up_to_where_to_apply_whatever_their_vote() {
    let three = Three::start();
    for round in ["1", "2", "3"] {
        let writer = three.cluster.leader();
        three.cluster.write(writer, &put("k", round));
        let written = three.cluster.member(writer).status().applied_index;
        for has_vote in [false, true] {
            for is_leaders in [false, true] {
                eventually("an answer", || {
                    let (leader, follower) = (three.cluster.leader(), three.cluster.follower());
                    let vote = match is_leaders {
                        true => three.vote(leader),
                        false => Vote::new_committed(0, 0),
                    };
                    let vote = has_vote.then(|| translate::vote(&vote));
                    let asked = ask::What::ReadIndex(ReadIndex { vote });
                    let told = match three.ask(follower, leader, asked) {
                        Some(answer::What::ReadIndex(told)) => told,
                        _ => return false,
                    };
                    assert!(told >= position_after(written), "{told}, {written}");
                    true
                });
            }
        }
    }
}

/// It leads still, and asks for a quorum in one round after the other.
#[test]
fn a_leader_without_a_quorum_refuses_its_reads_when_their_time_is_up() {
    const ELECTION: Duration = Duration::from_millis(500);
    let mut three = Three::with(|config| {
        config.election_timeout = ELECTION;
        config.heartbeat = ELECTION / 10;
    });
    let leader = three.cluster.leader();
    (0..3)
        .filter(|member| *member != leader)
        .for_each(|member| three.cluster.kill(member));
    let (began, deadline) = (Instant::now(), Duration::from_secs(5) + 2 * ELECTION);
    let reading = async {
        let barrier = three.cluster.member(leader).read_barrier();
        timeout(deadline + Duration::from_secs(5), barrier).await
    };
    assert_eq!(three.runtime.block_on(reading), Ok(Err(Refusal::Timeout)));
    assert!(began.elapsed() > deadline);
}
