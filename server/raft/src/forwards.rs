//! Writes that came to this member while another leads: they go to the leader's log, and are answered from this member's.
//!
//! Each batch has a number under which it stands in the log, so that whatever becomes of the leader and of its answer, this
//! member knows its batch when it applies it, and has the outcomes, which are the same on every member. The leader takes a
//! batch only in the term that it was meant for: once an entry of a later term is applied here, a batch that was not seen
//! will never be.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use keystead_proto::internal::Origin;
use keystead_state::{Outcome, Refusal};
use parking_lot::Mutex;

use crate::replies::Replies;

/// The batches that are on their way.
pub(crate) struct Forwards {
    sender: u64,
    sent: Mutex<Sent>,
}

#[derive(Default)]
struct Sent {
    last_number: u64,
    /// Who waits, and the term of the leader that a batch was meant for, by number.
    batches: BTreeMap<u64, (u64, Arc<Replies>)>,
}

impl Forwards {
    /// For one run of the process: a batch of an earlier one is not mistaken for one of this.
    pub(crate) fn of(member_id: u64) -> Self {
        Self {
            // Its keys are the system's random numbers.
            sender: RandomState::new().hash_one(member_id),
            sent: Mutex::default(),
        }
    }

    /// Whose batches these are.
    pub(crate) fn sender(&self) -> u64 {
        self.sender
    }

    /// Gives a batch its number.
    pub(crate) fn begin(&self, term: u64, replies: Arc<Replies>) -> u64 {
        let mut sent = self.sent.lock();
        sent.last_number += 1;
        let number = sent.last_number;
        sent.batches.insert(number, (term, replies));
        number
    }

    /// A batch surely came into no log: it is as if it had not begun.
    pub(crate) fn take_back(&self, number: u64) -> Option<Arc<Replies>> {
        let (_, replies) = self.sent.lock().batches.remove(&number)?;
        Some(replies)
    }

    /// An entry was applied that says whose its records were: answers those that are this member's.
    pub(crate) fn applied(&self, origins: &[Origin], outcomes: &mut [Outcome]) {
        for origin in origins.iter().filter(|origin| origin.sender == self.sender) {
            let Some(replies) = self.take_back(origin.number) else {
                continue;
            };
            let first = origin.first as usize;
            let ours = outcomes.get_mut(first..first + origin.count as usize);
            let ours = ours.unwrap_or_default().iter_mut();
            let taken = ours.map(|outcome| std::mem::replace(outcome, Err(Refusal::Stopped)));
            replies.deliver(taken.collect());
        }
    }

    /// Entries of `term` are applied: what was meant for an earlier one will not come.
    pub(crate) fn term_applied(&self, term: u64) {
        let late = {
            let mut sent = self.sent.lock();
            let mut late = Vec::new();
            sent.batches.retain(|_, (meant, replies)| {
                let is_late = *meant < term;
                if is_late {
                    late.push(replies.clone());
                }
                !is_late
            });
            late
        };
        for replies in late {
            replies.refuse(&Refusal::LeaderChanged);
        }
    }

    /// Forgets those for whom nobody waits any more.
    pub(crate) fn forget_answered(&self) {
        let mut sent = self.sent.lock();
        sent.batches
            .retain(|_, (_, replies)| !replies.are_delivered());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replies::Waiters;
    use crate::sink::ReplySink;
    use keystead_state::Reply;

    #[derive(Default)]
    struct Told(Mutex<Vec<(u64, Outcome)>>);

    impl ReplySink for Told {
        fn deliver(&self, replies: Vec<(u64, Outcome)>) {
            self.0.lock().extend(replies);
        }
    }

    fn waiting(told: &Arc<Told>, tokens: &[u64]) -> Arc<Replies> {
        Replies::to(vec![Waiters {
            sink: told.clone(),
            tokens: tokens.to_vec(),
        }])
    }

    fn done(revision: i64) -> Outcome {
        Ok(Reply::Done { revision })
    }

    #[test]
    fn a_batch_is_answered_with_its_own_part_of_the_entry_and_once() {
        let (forwards, told) = (Forwards::of(1), Arc::new(Told::default()));
        let number = forwards.begin(3, waiting(&told, &[7, 8]));
        let origin = |sender, first| Origin {
            sender,
            number,
            first,
            count: 2,
        };
        let origins = [
            origin(forwards.sender() ^ 1, 0),
            origin(forwards.sender(), 1),
        ];
        let outcomes = || [done(1), done(2), Err(Refusal::KeyNotFound), done(4)];
        forwards.applied(&origins, &mut outcomes());
        forwards.applied(&origins, &mut outcomes());
        let expected = [(7, done(2)), (8, Err(Refusal::KeyNotFound))];
        assert_eq!(*told.0.lock(), expected);
        assert!(forwards.sent.lock().batches.is_empty());
    }

    #[test]
    fn what_a_later_term_has_passed_is_refused_and_nothing_else() {
        let (forwards, told) = (Forwards::of(1), Arc::new(Told::default()));
        forwards.begin(3, waiting(&told, &[1]));
        let later = forwards.begin(4, waiting(&told, &[2]));
        forwards.term_applied(3);
        assert_eq!(*told.0.lock(), []);
        forwards.term_applied(4);
        assert_eq!(*told.0.lock(), [(1, Err(Refusal::LeaderChanged))]);
        assert!(forwards.take_back(later).is_some());
    }

    #[test]
    fn two_runs_have_different_names() {
        assert_ne!(Forwards::of(1).sender(), Forwards::of(1).sender());
    }
}
