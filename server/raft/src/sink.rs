//! Whom consensus calls back: the owner of a proposal, and whoever follows what is applied.
//!
//! Implemented by the server. Both are called on threads that must not be held up: no blocking, no locks held long.

use std::pin::Pin;

use bytes::Bytes;
use keystead_state::{Applied, Outcome, Reader};

use crate::wal::EntryId;

/// Takes the outcomes of proposals.
pub trait ReplySink: Send + Sync {
    /// Hands over the outcomes of what was proposed, each under the token that it was proposed with. Each proposal
    /// is answered exactly once. All that one log entry answers for this sink comes in one call.
    ///
    /// Called on the core thread; on the proposing thread, from inside `propose`, when the proposal is refused there.
    fn deliver(&self, replies: Vec<(u64, Outcome)>);
}

/// An answer to another member that is being found.
pub type Answering = Pin<Box<dyn Future<Output = Option<Bytes>> + Send>>;

/// Follows the member's state. Called on the core thread, in the order in which things happen, save where it says
/// otherwise.
pub trait Observer: Send + Sync {
    /// A log entry was applied. Readers see it already; its proposers, and whoever waits until it is applied, are told after
    /// this returns.
    fn applied(&self, entry: EntryId, applied: &Applied);

    /// The state was replaced by another member's, which is ahead of it: what lies between was not applied here one by
    /// one. Readers see it already.
    fn restored(&self, reader: &Reader);

    /// Another member says that this one was removed from the cluster for good. Called on any thread, more than once.
    fn removed(&self);

    /// Another member asks what the leader alone knows; none where this member can't say. Called on the core thread.
    fn asked(&self, request: Bytes) -> Answering;

    /// This member began to lead in `term`, with everything from earlier terms applied; or it does not lead, and the term
    /// may be another.
    fn leader_changed(&self, leading: bool, term: u64);
}
