//! Who waits for one log entry, and the promise that each of them hears exactly once.
//!
//! Made by the proposer, completed by apply, by a refusal, by a deadline, or by being dropped: whichever comes first.

use std::sync::Arc;

use keystead_state::{Outcome, Refusal};
use parking_lot::Mutex;

use crate::sink::ReplySink;

/// A run of records that came from one sink in one call.
pub(crate) struct Waiters {
    pub(crate) sink: Arc<dyn ReplySink>,
    pub(crate) tokens: Vec<u64>,
}

impl Waiters {
    /// Tells all of them the same.
    pub(crate) fn refuse(self, refusal: &Refusal) {
        self.sink.deliver(
            self.tokens
                .into_iter()
                .map(|token| (token, Err(refusal.clone())))
                .collect(),
        );
    }
}

/// What one sink hears in one call.
type Parcel = (Arc<dyn ReplySink>, Vec<(u64, Outcome)>);

/// Everyone who waits for one entry, in the order of its records. Empty once they were told.
#[derive(Default)]
pub(crate) struct Replies(Mutex<Vec<Waiters>>);

impl Replies {
    pub(crate) fn to(waiters: Vec<Waiters>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(waiters)))
    }

    /// Whether nobody waits any more.
    pub(crate) fn are_delivered(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Hands out one outcome for each record, in one call for each sink.
    pub(crate) fn deliver(&self, outcomes: Vec<Outcome>) {
        let mut outcomes = outcomes.into_iter();
        let mut parcels: Vec<Parcel> = Vec::new();
        for Waiters { sink, tokens } in self.take() {
            let replies = tokens.into_iter().zip(outcomes.by_ref());
            match parcels
                .iter_mut()
                .find(|(known, _)| Arc::ptr_eq(known, &sink))
            {
                Some((_, parcel)) => parcel.extend(replies),
                None => parcels.push((sink, replies.collect())),
            }
        }
        for (sink, parcel) in parcels {
            sink.deliver(parcel);
        }
    }

    /// Tells everyone who still waits that this is all they will hear.
    pub(crate) fn refuse(&self, refusal: &Refusal) {
        for waiters in self.take() {
            waiters.refuse(refusal);
        }
    }

    /// Those who still wait, who are to be told by somebody else from now on.
    pub(crate) fn take(&self) -> Vec<Waiters> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.refuse(&Refusal::Stopped);
    }
}
