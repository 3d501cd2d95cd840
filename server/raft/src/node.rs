//! What a membership says of each member beside whether it votes. It stands in the log, so that whoever has the entry knows
//! where to find all members, before anything is applied.

use std::collections::BTreeSet;

use keystead_proto::etcdserverpb::Member;
use keystead_state::Reader;

use crate::type_config::Membership;

/// The facts of one member that go with the change that brought it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Node {
    /// What the member was called when it was added; empty where that was not said. It publishes its own later.
    pub(crate) name: String,
    /// Where the other members reach it.
    pub(crate) peer_urls: Vec<String>,
}

impl Node {
    /// The facts in etcd's record.
    pub(crate) fn of(member: &Member) -> Self {
        Self {
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
        }
    }

    /// etcd's record of the member, as far as the membership knows it.
    pub(crate) fn record(&self, id: u64, is_learner: bool) -> Member {
        Member {
            id,
            name: self.name.clone(),
            peer_urls: self.peer_urls.clone(),
            client_urls: Vec::new(),
            is_learner,
        }
    }
}

/// etcd's records of all members, by id, as far as the membership knows them. Who has no vote is a learner.
pub(crate) fn members_of(membership: &Membership) -> Vec<Member> {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let nodes = membership.nodes();
    nodes
        .map(|(id, node)| node.record(*id, !voters.contains(id)))
        .collect()
}

/// The same, with what each of them published of itself as far as that is applied here.
pub(crate) fn published_by(membership: &Membership, reader: &Reader) -> Vec<Member> {
    let known = reader.members();
    let mut members = members_of(membership);
    for member in &mut members {
        if let Some(known) = known.iter().find(|known| known.id == member.id) {
            member.name.clone_from(&known.name);
            member.client_urls.clone_from(&known.client_urls);
        }
    }
    members
}
