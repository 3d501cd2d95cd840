//! Exactly once: a transaction that may be sent again whatever became of it. A key of this client, its slot, remembers the number of the
//! last one that ran:
//!
//! ```text
//!   if slot < 7 then [ the user's: if .. then [.., slot = 7+] else [.., slot = 7-] ]
//!               else [ read the slot ]     it ran before: its revision, and which way it went
//! ```
//!
//! A slot is one transaction's at a time, its numbers only grow, and its lease takes it away when the client has gone. A copy that comes
//! late finds its number passed, or no slot at all, and does nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keystead_seeded::{Bug, planted};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Code;

use crate::backoff::ATTEMPTS;
use crate::client::Client;
use crate::error::{Error, Kind, Outcome, Result};
use crate::header::Header;
use crate::key_range::KeyRange;
use crate::kv::put::{Put, PutResult};
use crate::kv::range::Range;
use crate::locks::Mutex;
use crate::session::hold::Hold;
use crate::txn::compare::{Compare, Relation};
use crate::txn::{Op, OpResult, Txn, TxnResult};

/// The most operations in a list: etcd takes 128, the transaction is within another, and the slot is written, too.
const MOST_OPS: usize = 126;
/// How many run at a time for each client and namespace; the others wait. So many keys there are at most.
const SLOTS: usize = 64;
/// How long the slots outlive their client, and how long it may be without a connection before it is never known any more whether
/// a transaction ran whose answer it lost.
const SLOTS_TTL: Duration = Duration::from_secs(60);
/// No attempt is given up sooner while there is time: sending again is safe, but not free.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(1);
/// Below this in the client's namespace are the slots.
const PREFIX: &str = "__once/";

/// A transaction that runs once, however often it is sent: see [`Client::once`].
pub struct Once {
    client: Client,
    txn: Txn,
    /// One run at a time.
    state: AsyncMutex<State>,
}

/// The answer to a [`Once`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OnceResult {
    /// Who answered. The revision is that of the run, also when that run's own answer was lost.
    pub header: Header,
    /// Every compare held.
    pub succeeded: bool,
    /// One for each operation that ran, in order; `None` when the run's own answer was lost and they cannot be known, as they can
    /// for puts that ask for nothing. What was read then can be read again at the revision of the run.
    pub results: Option<Vec<OpResult>>,
}

#[derive(Default)]
struct State {
    slot: Option<Slot>,
    /// It may have run, or may yet.
    in_doubt: bool,
    /// It is known how it ended, or that it never will be.
    end: Option<Result<OnceResult>>,
}

/// What the slot says.
enum Word {
    Ran(OnceResult),
    /// There is none any more.
    Gone,
}

impl Once {
    /// Runs it, and sends it again until its end is known or the deadline has passed. May be called again after an error; once it
    /// has run, every call gives the same answer. A call that is dropped harms nothing.
    ///
    /// # Errors
    /// Where `retryable` is true it may be called again, whatever the outcome. `LeaseNotFound` with the outcome `Unknown` is for good: the
    /// slot was lost, after a minute without a connection or by a revoked lease, and with it the memory of whether it ran; it will not run any more.
    /// Otherwise see [`Client::txn`]; here a list may have 126 operations.
    pub async fn run(&self) -> Result<OnceResult> {
        let longest = [
            self.txn.when.len(),
            self.txn.then.len(),
            self.txn.otherwise.len(),
        ];
        if longest.into_iter().any(|length| length > MOST_OPS) {
            let message = format!("a transaction that runs once takes {MOST_OPS} operations");
            return Err(Error::invalid(message));
        }
        let state = &mut *self.state.lock().await;
        if let Some(end) = &state.end {
            return end.clone();
        }
        let deadline = Instant::now() + self.client.call_options().deadline;
        let mut last = None;
        let end = match timeout_at(deadline, self.attempts(state, deadline, &mut last)).await {
            Ok(end) => end,
            Err(_) => Err(last.unwrap_or_else(late)),
        };
        if state.end.is_some() {
            state.slot = None;
        }
        end.map_err(|error| match state.in_doubt && state.end.is_none() {
            true => Error {
                outcome: Outcome::Unknown,
                retryable: true,
                ..error
            },
            false => error,
        })
    }

    async fn attempts(
        &self,
        state: &mut State,
        deadline: Instant,
        last: &mut Option<Error>,
    ) -> Result<OnceResult> {
        let mut failures = 0;
        loop {
            let slot = match &state.slot {
                Some(slot) => slot,
                None => state.slot.insert(Slot::take(&self.client).await?),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = (left / 3).max(SHORTEST_ATTEMPT).min(left);
            let client = self.client.with_deadline(patience);
            // Before it is sent: this future may be dropped at any point.
            let in_doubt = std::mem::replace(&mut state.in_doubt, true);
            let error = match client.txn(slot.place.guard(&self.txn)).await {
                Ok(answer) => match self.read(answer)? {
                    Word::Ran(result) => {
                        state.end = Some(Ok(result.clone()));
                        return Ok(result);
                    }
                    Word::Gone if in_doubt => {
                        slot.give_up();
                        state.end = Some(Err(forgotten()));
                        return Err(forgotten());
                    }
                    // It did not run and never will by that slot: another one is as good.
                    Word::Gone => {
                        slot.give_up();
                        state.in_doubt = false;
                        state.slot = None;
                        continue;
                    }
                },
                Err(error) => error,
            };
            let unknown = error.outcome == Outcome::Unknown;
            state.in_doubt = in_doubt || unknown;
            if !unknown && !error.retryable {
                return Err(error);
            }
            *last = Some(error);
            if planted(Bug::AnotherSlot) {
                state.slot = None;
            }
            failures += 1;
            sleep(ATTEMPTS.after(failures)).await;
        }
    }

    /// # Errors
    /// It is no answer to what was sent.
    fn read(&self, answer: TxnResult) -> Result<Word> {
        let only = answer.results.into_iter().next();
        match only {
            Some(OpResult::Txn(mut within)) if answer.succeeded => {
                // The last one is the slot's.
                within.results.pop();
                Ok(Word::Ran(OnceResult {
                    header: answer.header,
                    succeeded: within.succeeded,
                    results: Some(within.results),
                }))
            }
            Some(OpResult::Range(slot)) if !answer.succeeded => {
                let Some(kv) = slot.kvs.first() else {
                    return Ok(Word::Gone);
                };
                let succeeded = kv.value.ends_with(b"+");
                let header = Header {
                    revision: kv.mod_revision,
                    ..answer.header
                };
                Ok(Word::Ran(OnceResult {
                    header,
                    succeeded,
                    results: self.txn.known_results(succeeded, kv.mod_revision),
                }))
            }
            _ => Err(Error::garbled("an answer that is not the slot's")),
        }
    }
}

impl Txn {
    /// What its operations answered in a run at `revision`, where that is no secret: puts that ask for nothing.
    fn known_results(&self, succeeded: bool, revision: i64) -> Option<Vec<OpResult>> {
        let ran = if succeeded {
            &self.then
        } else {
            &self.otherwise
        };
        let of_one = |op: &Op| match op {
            Op::Put(put) if !put.prev_kv => Some(OpResult::Put(PutResult {
                header: Header {
                    revision,
                    ..Header::default()
                },
                prev_kv: None,
            })),
            Op::Put(_) | Op::Range(_) | Op::Delete(_) | Op::Txn(_) => None,
        };
        ran.iter().map(of_one).collect()
    }
}

fn late() -> Error {
    let message = "no slot was free before the deadline had passed";
    Error {
        retryable: true,
        ..Error::local(Kind::DeadlineExceeded, Code::DeadlineExceeded, message)
    }
}

fn forgotten() -> Error {
    let message = "the lease of the slots was lost before it was known whether the transaction ran";
    Error {
        outcome: Outcome::Unknown,
        ..Error::local(Kind::LeaseNotFound, Code::NotFound, message)
    }
}

/// The slots of a client, for each namespace that has had any.
#[derive(Default)]
pub(crate) struct Slots(Mutex<HashMap<Bytes, Arc<Pool>>>);

/// The slots of one namespace.
struct Pool {
    permits: Arc<Semaphore>,
    /// Held by the one who starts a session; the others wait for it.
    starting: AsyncMutex<()>,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    /// Whose lease the slots are attached to. Not one that others share: it is given up when a slot is missing.
    session: Option<Arc<Hold>>,
    free: Free,
}

/// Which slots of a lease are free.
#[derive(Default)]
struct Free {
    lease: i64,
    /// Slots that nobody uses, and whether their key is surely there.
    slots: Vec<(u32, bool)>,
    /// How many there are.
    count: u32,
    /// The number of the newest transaction.
    newest: u64,
}

/// The place of one transaction until it is dropped.
struct Slot {
    pool: Arc<Pool>,
    session: Arc<Hold>,
    place: Place,
    _permit: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    lease: i64,
    slot: u32,
    /// Its key is surely there, unless its lease has ended.
    made: bool,
    number: u64,
}

impl Slots {
    fn pool(&self, namespace: Bytes) -> Arc<Pool> {
        let mut pools = self.0.lock();
        let pool = pools.entry(namespace).or_insert_with(|| {
            Arc::new(Pool {
                permits: Arc::new(Semaphore::new(SLOTS)),
                starting: AsyncMutex::default(),
                state: Mutex::default(),
            })
        });
        pool.clone()
    }
}

impl Pool {
    /// # Errors
    /// There is no session. Nothing was sent but its grant.
    async fn place(&self, client: &Client) -> Result<(Arc<Hold>, Place)> {
        if let Some(place) = self.take() {
            return Ok(place);
        }
        let _starting = self.starting.lock().await;
        loop {
            if let Some(place) = self.take() {
                return Ok(place);
            }
            let session = client.sessions().start(client, SLOTS_TTL).await?;
            let mut state = self.state.lock();
            state.free = Free {
                lease: session.tenure().lease(),
                ..Free::default()
            };
            state.session = Some(session);
        }
    }

    /// A place, where there is a session.
    fn take(&self) -> Option<(Arc<Hold>, Place)> {
        let mut state = self.state.lock();
        let session = state.session.as_ref()?;
        session.usable().ok()?;
        let session = session.clone();
        Some((session, state.free.take()))
    }

    /// A slot is missing: its session is as good as over.
    fn give_up(&self, session: &Arc<Hold>) {
        let mut state = self.state.lock();
        if state
            .session
            .as_ref()
            .is_some_and(|now| Arc::ptr_eq(now, session))
        {
            state.session = None;
        }
    }
}

impl Free {
    fn take(&mut self) -> Place {
        self.newest += 1;
        let (slot, made) = self.slots.pop().unwrap_or_else(|| {
            self.count += 1;
            (self.count - 1, false)
        });
        Place {
            lease: self.lease,
            slot,
            made,
            number: self.newest,
        }
    }

    fn give_back(&mut self, place: Place) {
        if self.lease == place.lease {
            self.slots.push((place.slot, place.made));
        }
    }
}

impl Slot {
    /// # Errors
    /// There is no session, or its key could not be made. The transaction was not sent.
    async fn take(client: &Client) -> Result<Slot> {
        let pool = client.slots().pool(client.keys().key(Bytes::new()));
        let permit = pool.permits.clone().acquire_owned().await;
        let permit = permit.expect("nobody closes it");
        let (session, place) = pool.place(client).await?;
        let mut slot = Slot {
            pool,
            session,
            place,
            _permit: permit,
        };
        if !place.made {
            slot.make(client).await?;
            slot.place.made = true;
        }
        Ok(slot)
    }

    /// Makes the key, unless it is there: so it may be tried again whatever became of it.
    async fn make(&self, client: &Client) -> Result<()> {
        let put = Put {
            lease: self.place.lease,
            ..Put::new(self.place.key(), digits(0))
        };
        let make = Txn::when([Compare::missing(self.place.key())]).then([Op::Put(put)]);
        let mut failures = 0;
        loop {
            match client.txn(make.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.outcome == Outcome::Unknown => failures += 1,
                Err(error) => {
                    if error.kind == Kind::LeaseNotFound {
                        self.give_up();
                    }
                    return Err(error);
                }
            }
            sleep(ATTEMPTS.after(failures)).await;
        }
    }

    fn give_up(&self) {
        self.pool.give_up(&self.session);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.state.lock().free.give_back(self.place);
    }
}

impl Place {
    fn key(&self) -> Bytes {
        format!("{PREFIX}{:x}/{:x}", self.lease, self.slot).into()
    }

    /// `txn`, unless it has run.
    fn guard(&self, txn: &Txn) -> Txn {
        let key = self.key();
        let mut within = txn.clone();
        for (branch, way) in [(&mut within.then, "+"), (&mut within.otherwise, "-")] {
            if way == "-" && planted(Bug::SlotInOneBranch) {
                continue;
            }
            branch.push(Op::Put(Put {
                ignore_lease: true,
                ..Put::new(key.clone(), digits(self.number) + way)
            }));
        }
        // A slot that is not there is not less: etcd compares no value of a key that is missing.
        let before = Compare::value(key.clone(), Relation::Less, digits(self.number));
        Txn::when([before])
            .then([Op::Txn(within)])
            .otherwise([Op::Range(Range::new(KeyRange::key(key)))])
    }
}

/// In the order of the numbers, byte by byte.
fn digits(number: u64) -> String {
    format!("{number:016x}")
}

impl Client {
    /// A transaction that runs exactly once, however often it is sent. An ordinary one whose answer is lost ends with the outcome `Unknown`
    /// and is not sent again; this one is, and then tells how it went the first time.
    ///
    /// ```no_run
    /// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
    /// # use keystead_client::{Op, Put, Txn};
    /// let payment = Txn::when([]).then([Op::Put(Put::new("payments", "a cent"))]);
    /// let payment = client.once(payment);
    /// let paid = loop {
    ///     match payment.run().await {
    ///         Err(error) if error.retryable => println!("not known yet: {error}"),
    ///         paid => break paid?,
    ///     }
    /// };
    /// println!("paid at revision {}", paid.header.revision);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It costs a nested transaction and the write of a small key, `__once/..` in the client's namespace, of which there are
    /// at most 64: as many run at a time, and others wait. They are attached to a lease of a minute that the client keeps alive. This is the
    /// memory of one client: who must know of transactions after his own restart writes a key of his own in them.
    pub fn once(&self, txn: Txn) -> Once {
        Once {
            client: self.clone(),
            txn,
            state: AsyncMutex::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_and_slots_are_used_again_within_a_lease() {
        let mut free = Free {
            lease: 7,
            ..Free::default()
        };
        let (first, mut second) = (free.take(), free.take());
        assert_eq!(
            [first, second].map(|place| (place.key(), place.number)),
            [("__once/7/0".into(), 1), ("__once/7/1".into(), 2)]
        );
        second.made = true;
        free.give_back(second);
        let again = free.take();
        assert_eq!((again.slot, again.number, again.made), (1, 3, true));
        // What was another lease's does not come into it.
        free.give_back(Place { lease: 6, ..first });
        assert_eq!(free.take().slot, 2);
    }

    #[test]
    fn what_ran_is_not_less_than_its_number_and_less_than_the_next() {
        for number in [0, 9, 15, 16, 255, u64::MAX - 1] {
            for way in ["+", "-"] {
                let ran = digits(number) + way;
                assert!(ran > digits(number) && ran < digits(number + 1));
            }
        }
    }

    #[test]
    fn only_puts_that_ask_for_nothing_are_known_without_their_answer() {
        let plain = || Op::Put(Put::new("k", "v"));
        let asking = Op::Put(Put {
            prev_kv: true,
            ..Put::new("k", "v")
        });
        let txn = Txn::when([]).then([plain(), plain()]).otherwise([asking]);
        let known = txn.known_results(true, 7).expect("they are plain");
        assert_eq!(known.len(), 2);
        assert!(
            known
                .iter()
                .all(|result| matches!(result, OpResult::Put(put) if put.header.revision == 7))
        );
        assert_eq!(txn.known_results(false, 7), None);
    }
}
