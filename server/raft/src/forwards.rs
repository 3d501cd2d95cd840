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
use tokio::sync::oneshot;

use crate::replies::Replies;

/// The batches that are on their way.
pub(crate) struct Forwards {
    sender: u64,
    sent: Mutex<Sent>,
}

#[derive(Default)]
struct Sent {
    last_number: u64,
    /// By number.
    batches: BTreeMap<u64, Batch>,
}

struct Batch {
    /// Of the leader that it was meant for.
    term: u64,
    replies: Arc<Replies>,
    /// Dropped with it.
    _under_way: oneshot::Sender<()>,
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

    /// Gives a batch its number, and what resolves when nothing more is to be heard of the batch.
    pub(crate) fn begin(&self, term: u64, replies: Arc<Replies>) -> (u64, oneshot::Receiver<()>) {
        let (_under_way, over) = oneshot::channel();
        let mut sent = self.sent.lock();
        sent.last_number += 1;
        let number = sent.last_number;
        let batch = Batch {
            term,
            replies,
            _under_way,
        };
        sent.batches.insert(number, batch);
        (number, over)
    }

    /// A batch surely came into no log: it is as if it had not begun.
    pub(crate) fn take_back(&self, number: u64) -> Option<Arc<Replies>> {
        let batch = self.sent.lock().batches.remove(&number)?;
        Some(batch.replies)
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
            sent.batches.retain(|_, batch| {
                let is_late = batch.term < term;
                if is_late {
                    late.push(batch.replies.clone());
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
            .retain(|_, batch| !batch.replies.are_delivered());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replies::Waiters;
    use crate::sink::ReplySink;
    use keystead_state::Reply;
    use tokio::sync::oneshot::error::TryRecvError;

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
        let (number, mut over) = forwards.begin(3, waiting(&told, &[7, 8]));
        assert_eq!(over.try_recv(), Err(TryRecvError::Empty));
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
        assert_eq!(over.try_recv(), Err(TryRecvError::Closed));
    }

    #[test]
    fn what_a_later_term_has_passed_is_refused_and_nothing_else() {
        let (forwards, told) = (Forwards::of(1), Arc::new(Told::default()));
        forwards.begin(3, waiting(&told, &[1]));
        let (later, _) = forwards.begin(4, waiting(&told, &[2]));
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
