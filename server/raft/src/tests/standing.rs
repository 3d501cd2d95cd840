//! When a member may answer reads without asking anybody.

use std::collections::BTreeSet;

use crate::standing::Standing;
use crate::type_config::{LogId, Membership};

fn voters<const N: usize>(ids: [u64; N]) -> Membership {
    Membership::new_with_defaults(vec![BTreeSet::from(ids)], [1, 2])
}

#[test]
fn only_the_one_that_has_the_only_vote_reads_without_asking() {
    let standing = Standing::of(1);
    standing.set_applied(&LogId::new_term_index(3, 7));
    standing.set_leading(true);
    for (membership, alone) in [
        (voters([1, 2]), false),
        (voters([1]), true),
        // It removes itself, and still leads.
        (voters([2]), false),
    ] {
        standing.set_membership(&membership);
        assert_eq!(standing.reads_are_current(), alone, "{membership}");
    }
    standing.set_membership(&voters([1]));
    standing.doubt_membership();
    assert!(!standing.reads_are_current(), "the log was truncated");
}
