//! What whoever owns a lock or leads an election holds: the proof for guarded writes, and the news of its loss.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use keystead_seeded::{Bug, planted};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tonic::Code;

use super::ticket::{Ticket, lost};
use crate::error::{Error, Kind, Outcome, Result};
use crate::key_range::KeyRange;
use crate::kv::put::{Put, PutResult};
use crate::kv::range::Range;
use crate::session::tenure::{Loss, SessionState};
use crate::txn::compare::Compare;
use crate::txn::{Op, OpResult, Txn, TxnResult};

/// The most operations, or compares, in a guarded transaction: etcd takes 128, and the guard's own compare is one.
const MOST_OPS: usize = 127;

/// Something that is held by a key of this session: a lock, or a leadership.
///
/// While it is held, [`Guard::put`] and [`Guard::txn`] write; once it is not, they fail with `LockLost` and write nothing, whatever this
/// process believed meanwhile. That is the proof. [`Guard::held`] and [`Guard::lost`] are the news: true to the clock, and in
/// time while this process runs, but a process that is paused between the question and a write of another kind finds
/// out too late. For what is written elsewhere there is the fencing token.
///
/// Dropping it releases it, in the background.
pub struct Guard {
    ticket: Ticket,
    /// A guarded call found the key gone, or it was released here.
    gone: watch::Sender<bool>,
    released: AtomicBool,
}

impl Guard {
    pub(super) fn new(ticket: Ticket) -> Guard {
        Guard {
            ticket,
            gone: watch::Sender::new(false),
            released: AtomicBool::new(false),
        }
    }

    pub(super) fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// A number that is higher for every later holder: the create revision of the key. What is written to other systems
    /// carries it, and they refuse whatever carries a lower one than they have seen.
    pub fn fencing_token(&self) -> i64 {
        self.ticket.create_revision
    }

    /// The key that stands for it.
    pub fn key(&self) -> &Bytes {
        &self.ticket.key
    }

    /// The lease that the key is attached to.
    pub fn lease(&self) -> i64 {
        self.ticket.hold.tenure().lease()
    }

    /// What holds for as long as it is held, for transactions of one's own. [`Guard::txn`] is better at it: there a lost lock is not taken
    /// for a compare that did not hold.
    pub fn owner(&self) -> Compare {
        self.ticket.owner()
    }

    /// Whether it is held, by the clock at this very moment; no server is asked.
    pub fn held(&self) -> bool {
        self.state().loss().is_none()
    }

    /// What it is worth at this very moment.
    pub fn state(&self) -> SessionState {
        if *self.gone.borrow() {
            return SessionState::Lost(Loss::Revoked);
        }
        self.ticket.hold.tenure().state()
    }

    /// Waits until it is lost: with its session, because a guarded call found the key gone, or because it was released.
    pub async fn lost(&self) -> Loss {
        let mut gone = self.gone.subscribe();
        tokio::select! {
            loss = self.ticket.hold.tenure().lost() => loss,
            // The sender lives in `self`.
            _ = gone.wait_for(|&gone| gone) => Loss::Revoked,
        }
    }

    /// Writes one key if it is held, in one step.
    ///
    /// # Errors
    /// See [`Guard::txn`].
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<PutResult> {
        self.put_with(Put::new(key, value)).await
    }

    /// The same with every option.
    ///
    /// # Errors
    /// See [`Guard::txn`].
    pub async fn put_with(&self, put: Put) -> Result<PutResult> {
        let done = self.txn(Txn::when([]).then([Op::Put(put)])).await?;
        match done.results.into_iter().next() {
            Some(OpResult::Put(put)) => Ok(PutResult {
                header: done.header,
                ..put
            }),
            _ => Err(Error::garbled("a put without an answer")),
        }
    }

    /// Runs a transaction if it is held, in one step; otherwise neither of its branches runs.
    ///
    /// # Errors
    /// `LockLost`: it is not held; nothing was written. `InvalidArgument`: more than 127 operations or compares in one list.
    /// Otherwise see [`Client::txn`](crate::Client::txn).
    pub async fn txn(&self, txn: Txn) -> Result<TxnResult> {
        let longest = [txn.when.len(), txn.then.len(), txn.otherwise.len()];
        if longest.into_iter().any(|length| length > MOST_OPS) {
            let message = format!("a guarded transaction takes {MOST_OPS} operations");
            return Err(Error::invalid(message));
        }
        if let Some(loss) = self.state().loss() {
            return Err(lost(loss));
        }
        if planted(Bug::MixInOwner) {
            let mut mixed = txn;
            mixed.when.push(self.owner());
            return self.ticket.client.txn(mixed).await;
        }
        // The user's transaction is within, and not mixed with the guard's compare: a stale holder runs neither branch.
        let guarded = Txn::when([self.owner()])
            .then([Op::Txn(txn)])
            .otherwise([Op::Range(Range::new(KeyRange::key(self.key().clone())))]);
        let done = self.ticket.client.txn(guarded).await?;
        match done.results.into_iter().next() {
            Some(OpResult::Txn(within)) if done.succeeded => Ok(TxnResult {
                header: done.header,
                ..within
            }),
            Some(OpResult::Range(own)) if !done.succeeded => {
                self.gone.send_replace(true);
                Err(lost(match own.kvs.first() {
                    None => "its key was removed",
                    Some(_) => "its key was made anew by somebody else",
                }))
            }
            _ => Err(Error::garbled("a guarded transaction without its answer")),
        }
    }

    /// Releases it and waits until that is done, or until the deadline: the release goes on then.
    pub(crate) async fn release(&self) -> Result<()> {
        let (reply, released) = oneshot::channel();
        self.give_back(|outcome| {
            let _ = reply.send(outcome);
        });
        let deadline = self.ticket.client.call_options().deadline;
        match timeout(deadline, released).await {
            Ok(Ok(Ok(true))) => Ok(()),
            Ok(Ok(Ok(false))) => Err(lost("its key had been removed")),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(lost(Loss::Revoked)),
            Err(_) => Err(Error {
                outcome: Outcome::Unknown,
                ..Error::local(
                    Kind::DeadlineExceeded,
                    Code::DeadlineExceeded,
                    format!("not released within {deadline:?}"),
                )
            }),
        }
    }

    /// Has the session's task release it.
    fn give_back(&self, told: impl FnOnce(Result<bool>) + Send + 'static) {
        self.released.store(true, Ordering::Relaxed);
        self.gone.send_replace(true);
        let ticket = self.ticket.clone();
        self.ticket
            .hold
            .run(async move { told(ticket.release().await) });
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.released.load(Ordering::Relaxed) {
            self.give_back(|outcome| {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "what was dropped is left to end with its lease");
                }
            });
        }
    }
}
