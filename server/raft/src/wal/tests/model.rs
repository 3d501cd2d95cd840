//! What a log must hold, kept in the plainest way, and random programs run on both.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::super::{Entry, EntryId, Wal, WalError};
use super::memory::Memory;
use super::{done, entry, id, open, settle};

/// One call that changes the log.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Append(Vec<Entry>),
    Truncate(Option<u64>),
    Purge(EntryId),
    Vote(Bytes),
}

/// What the log holds.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub vote: Option<Bytes>,
    pub purged: Option<EntryId>,
    pub entries: BTreeMap<u64, Entry>,
}

/// Short enough to be compared by eye.
impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vote {:?}, purged {:?}, entries", self.vote, self.purged)?;
        let mut entries = self.entries.values();
        entries.try_for_each(|Entry { id, payload }| {
            write!(f, " {}.{}:{}", id.term, id.index, payload.len())
        })
    }
}

impl Model {
    pub(super) fn last(&self) -> Option<EntryId> {
        self.entries
            .values()
            .next_back()
            .map(|entry| entry.id)
            .or(self.purged)
    }

    pub(super) fn apply(&mut self, step: &Step) {
        match step {
            Step::Append(entries) => {
                self.entries
                    .extend(entries.iter().map(|entry| (entry.id.index, entry.clone())));
            }
            Step::Truncate(None) => self.entries.clear(),
            Step::Truncate(Some(last_kept)) => drop(self.entries.split_off(&(last_kept + 1))),
            Step::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = Some(*upto);
            }
            Step::Vote(vote) => self.vote = Some(vote.clone()),
        }
    }

    /// What an open log holds, read through its own calls.
    pub(super) fn of(wal: &Wal, vote: Option<Bytes>) -> Model {
        let entries = wal.read(0..u64::MAX, usize::MAX).expect("read");
        let entries = entries
            .into_iter()
            .map(|entry| (entry.id.index, entry))
            .collect();
        Model {
            vote,
            purged: wal.purged(),
            entries,
        }
    }
}

/// Gives the step to the log; `acknowledge` is called when it is known to be durable.
pub(super) fn submit(
    wal: &Wal,
    step: &Step,
    acknowledge: impl FnOnce() + Send + 'static,
) -> Result<(), WalError> {
    let done = Box::new(move |result: std::io::Result<()>| {
        if result.is_ok() {
            acknowledge();
        }
    });
    match step {
        Step::Append(entries) => wal.append(entries.clone(), done),
        Step::Vote(vote) => wal.save_vote(vote.clone(), done),
        Step::Truncate(last_kept) => wal
            .truncate_after(*last_kept)
            .and_then(|()| wal.barrier(done)),
        Step::Purge(upto) => wal.purge(*upto).and_then(|()| wal.barrier(done)),
    }
}

/// A step before it is fitted to what the log holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    Append {
        entries: u64,
        len: usize,
    },
    /// Drops this share of the entries from the end, in sixteenths.
    Truncate(u64),
    /// Purges this share of the entries, in sixteenths; beyond sixteen, beyond the last.
    Purge(u64),
    Vote(u8),
}

impl Wish {
    pub(super) fn fit(self, model: &Model, term: u64) -> Option<Step> {
        let next = model.last().map_or(1, |last| last.index + 1);
        let held = model.entries.len() as u64;
        match self {
            Wish::Append { entries, len } => Some(Step::Append(
                (next..next + entries)
                    .map(|index| entry(term, index, len))
                    .collect(),
            )),
            Wish::Truncate(_) if held == 0 => None,
            Wish::Truncate(share) => {
                Some(Step::Truncate((next - 1).checked_sub(held * share / 16)))
            }
            Wish::Purge(share) if share > 16 => Some(Step::Purge(id(term, next + share))),
            Wish::Purge(_) if held == 0 => None,
            Wish::Purge(share) => model
                .entries
                .values()
                .nth((held * share / 16) as usize)
                .map(|it| Step::Purge(it.id)),
            Wish::Vote(vote) => Some(Step::Vote(vec![vote; usize::from(vote % 32)].into())),
        }
    }
}

/// Fits wishes one after the other; also gives what the log holds before each step, and at the end.
pub(super) fn fit(wishes: &[Wish], start: &Model) -> (Vec<Step>, Vec<Model>) {
    let mut model = start.clone();
    let (mut steps, mut models) = (Vec::new(), vec![model.clone()]);
    let first_term = start.last().map_or(0, |last| last.term) + 1;
    for (term, wish) in (first_term..).zip(wishes) {
        let Some(step) = wish.fit(&model, term) else {
            continue;
        };
        model.apply(&step);
        steps.push(step);
        models.push(model.clone());
    }
    (steps, models)
}

pub(super) fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        8 => (1..6u64, 0..1500usize).prop_map(|(entries, len)| Wish::Append { entries, len }),
        1 => (1..3u64, 4_000..20_000usize).prop_map(|(entries, len)| Wish::Append { entries, len }),
        2 => (0..17u64).prop_map(Wish::Truncate),
        4 => (8..17u64).prop_map(Wish::Purge),
        1 => (17..20u64).prop_map(Wish::Purge),
        2 => any::<u8>().prop_map(Wish::Vote),
    ]
}

#[test]
fn a_log_holds_what_the_model_holds_over_restarts_and_recycling() {
    let recycled = AtomicU64::new(0);
    let program = proptest::collection::vec(
        (proptest::collection::vec(wish(), 1..40), any::<bool>()),
        1..6,
    );
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..Default::default()
    });
    let ran = runner.run(&program, |sessions| {
        let files = Memory::default();
        let mut model = Model::default();
        for (wishes, wait_for_each) in sessions {
            let (wal, recovered) = open(&files);
            prop_assert_eq!(&Model::of(&wal, recovered.vote), &model);
            prop_assert_eq!(recovered.last, model.last());
            let (steps, models) = fit(&wishes, &model);
            for (step, model) in steps.iter().zip(&models[1..]) {
                submit(&wal, step, || ()).expect("accepted");
                if wait_for_each {
                    settle(&wal);
                }
                prop_assert_eq!(wal.last(), model.last());
                prop_assert_eq!(&Model::of(&wal, model.vote.clone()), model);
            }
            settle(&wal);
            model = models.last().cloned().unwrap_or_default();
            prop_assert_eq!(wal.synced_index(), model.last().map(|last| last.index));
            recycled.fetch_add(wal.counters().segments_recycled, Relaxed);
        }
        Ok(())
    });
    ran.expect("the log and the model agree");
    assert!(
        recycled.load(Relaxed) > 500,
        "only {recycled:?} segments were recycled: the test misses its point"
    );
}

#[test]
fn operations_queued_together_keep_their_order() {
    let files = Memory::default();
    let (wal, _) = open(&files);
    let wishes = [
        Wish::Append {
            entries: 5,
            len: 100,
        },
        Wish::Vote(3),
        Wish::Truncate(8),
        Wish::Append {
            entries: 5,
            len: 200,
        },
        Wish::Purge(4),
        Wish::Vote(9),
        Wish::Truncate(16),
        Wish::Append {
            entries: 1,
            len: 300,
        },
    ];
    let (steps, models) = fit(&wishes, &Model::default());
    let (first, wait) = done();
    wal.barrier(first).expect("barrier");
    for step in &steps {
        submit(&wal, step, || ()).expect("accepted");
    }
    wait().expect("durable");
    drop(wal);
    let (wal, recovered) = open(&files);
    assert_eq!(Some(&Model::of(&wal, recovered.vote)), models.last());
}
