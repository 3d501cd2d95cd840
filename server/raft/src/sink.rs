//! Whom consensus calls back: the owner of a proposal, and whoever follows what is applied.
//!
//! Implemented by the server. Both are called on threads that must not be held up: no blocking, no locks held long.

use keystead_state::{Applied, Outcome};

/// Takes the outcomes of proposals.
pub trait ReplySink: Send + Sync {
    /// Hands over the outcomes of what was proposed, each under the token that it was proposed with. Each proposal
    /// is answered exactly once. All that one log entry answers for this sink comes in one call.
    ///
    /// Called on the core thread; on the proposing thread, from inside `propose`, when the proposal is refused there.
    fn deliver(&self, replies: Vec<(u64, Outcome)>);
}

/// Follows the member's state. Called on the core thread, in the order in which things happen.
pub trait Observer: Send + Sync {
    /// A log entry was applied. Readers see it already; its proposers are told after this returns.
    fn applied(&self, applied: &Applied);

    /// This member began to lead in `term`, with everything from earlier terms applied; or it ceased to lead.
    fn leader_changed(&self, leading: bool, term: u64);
}
