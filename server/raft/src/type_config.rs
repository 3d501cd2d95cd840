//! The types that openraft is built with here, and the names the rest of the crate has for them.
//!
//! Standard leader ids: one leader a term, so a log id is (term, index). Nothing of this is visible outside the crate.

use std::fmt;

use bytes::Bytes;
use keystead_state::Outcome;
use openraft::RaftTypeConfig;
use openraft::raft::responder::Responder;
use openraft::vote::RaftLeaderId;

use crate::node::Node;
use crate::queue::Ticket;
use crate::runtime::CoreRuntime;

/// Keystead's choice of openraft's types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;

impl RaftTypeConfig for TypeConfig {
    type D = Proposal;
    type R = Vec<Outcome>;
    type NodeId = u64;
    /// Applied, it becomes the replicated state's record of the member.
    type Node = Node;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = openraft::impls::Vote<LeaderId>;
    type Payload = openraft::EntryPayload<Proposal, u64, Node>;
    type Entry = openraft::impls::Entry<CommittedLeaderId, Self::Payload>;
    type AsyncRuntime = CoreRuntime;
    type Responder<T: Send + 'static> = Callback<T>;
    type Batch<T: Send + 'static> = openraft::impls::InlineBatch<T>;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type Payload = openraft::type_config::alias::PayloadOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Node>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotOf<D> = openraft::type_config::alias::SnapshotOf<TypeConfig, D>;
pub(crate) type Raft = openraft::Raft<TypeConfig, crate::machine::Machine>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

/// What openraft carries for one entry: the bytes as the log keeps them (`stored::entry`), and on the member that
/// proposed them the ticket that holds back its next proposal until these are on its disk.
#[derive(Clone)]
pub(crate) struct Proposal {
    pub(crate) stored: Bytes,
    pub(crate) ticket: Option<Ticket>,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proposal of {} bytes", self.stored.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Runs when an entry was applied, or will not be: straight on the core thread, with no channel between.
pub(crate) struct Callback<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Callback<T> {
    pub(crate) fn new(call: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(call))
    }
}

impl<T: Send + 'static> Responder<TypeConfig, T> for Callback<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}
