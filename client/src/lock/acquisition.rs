//! An acquisition: makes a place in the queue, waits for its turn, gives the guard. It runs in the session's task from its beginning to its
//! end, so that it always knows whether its key is there: when its caller has gone, it removes the key itself.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::guard::Guard;
use super::ticket::{Ticket, before, created, first, passes};
use crate::backoff::ATTEMPTS;
use crate::client::Client;
use crate::error::{Error, Outcome, Result};
use crate::key_range::KeyRange;
use crate::kv::put::Put;
use crate::kv::range::{Order, Range};
use crate::session::hold::{Hold, over};
use crate::session::names::Name;
use crate::session::shared::Backing;
use crate::session::tenure::Loss;
use crate::txn::compare::{Compare, Relation};
use crate::txn::{Op, Txn, TxnResult};

/// What to do when it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Wait for as long as it takes.
    Wait,
    /// Leave; where there is one permit without having been in the queue at any time.
    Leave,
}

/// What is wanted.
pub(crate) struct Wanted {
    /// Below it the key is made.
    pub prefix: Bytes,
    /// Below it are the keys of those who may be in the way: the prefix itself, or another.
    pub rivals: Bytes,
    /// So many of them may have it at once.
    pub permits: usize,
    /// What its key holds.
    pub value: Bytes,
    pub patience: Patience,
}

/// Acquires what is wanted, by the session that `backing` names; `None` when it is taken and there is no patience. Dropping
/// the future gives it up.
pub(crate) async fn acquire(
    client: &Client,
    backing: &Backing,
    wanted: Wanted,
) -> Result<Option<Guard>> {
    let hold = backing.hold(client).await?;
    let (reply, acquired) = oneshot::channel();
    let acquisition = Acquisition {
        client: client.clone(),
        name: hold.names().take(wanted.prefix),
        hold: hold.clone(),
        rivals: wanted.rivals,
        permits: wanted.permits,
        value: wanted.value,
        patience: wanted.patience,
    };
    hold.run(acquisition.run(reply));
    drop(hold);
    acquired.await.unwrap_or_else(|_| Err(over(Loss::Revoked)))
}

struct Acquisition {
    client: Client,
    hold: Arc<Hold>,
    name: Name,
    rivals: Bytes,
    permits: usize,
    value: Bytes,
    patience: Patience,
}

/// A place was made.
struct Entered {
    ticket: Ticket,
    /// It is its turn already.
    first: bool,
}

impl Acquisition {
    async fn run(self, mut reply: oneshot::Sender<Result<Option<Guard>>>) {
        if reply.is_closed() {
            self.hold.names().free(&self.name);
            return;
        }
        let Entered { ticket, first } = match self.enter().await {
            Ok(Some(entered)) => entered,
            Ok(None) => {
                let _ = reply.send(Ok(None));
                return;
            }
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        // From here on whatever ends this leaves the place: that is what dropping a guard does.
        let guard = Guard::new(ticket);
        let turn = if first {
            Ok(())
        } else if self.patience == Patience::Leave {
            drop(guard);
            let _ = reply.send(Ok(None));
            return;
        } else {
            tokio::select! {
                turn = guard.ticket().turn() => turn,
                loss = self.hold.tenure().lost() => Err(over(loss)),
                () = reply.closed() => return,
            }
        };
        let _ = match turn {
            Ok(()) => reply.send(Ok(Some(guard))),
            Err(error) => {
                drop(guard);
                reply.send(Err(error))
            }
        };
    }

    /// Makes a place, and knows in the end whether it is there: a request that was left open is repeated, for nobody else makes
    /// this key. `None` when it is taken and there is no patience.
    async fn enter(&self) -> Result<Option<Entered>> {
        let mut failures = 0;
        let mut doubtful = false;
        let entered = loop {
            if let Err(error) = self.hold.usable() {
                break Err(error);
            }
            match self.client.txn(self.entry()).await {
                Ok(done) => break self.read(&done, doubtful),
                Err(error) => {
                    doubtful |= error.outcome == Outcome::Unknown;
                    if !doubtful || !passes(&error) {
                        break Err(error);
                    }
                }
            }
            failures += 1;
            sleep(ATTEMPTS.after(failures)).await;
        };
        if !doubtful && !matches!(entered, Ok(Some(_))) {
            self.hold.names().free(&self.name);
        }
        entered
    }

    fn key(&self) -> Bytes {
        self.name.key(self.hold.tenure().lease())
    }

    /// Makes the key unless it is there, and looks who is the first.
    fn entry(&self) -> Txn {
        let key = self.key();
        let mut when = vec![Compare::missing(key.clone())];
        if self.patience == Patience::Leave && self.permits == 1 {
            // A compare over a range holds for every key there, so nobody is.
            let all = KeyRange::prefix(self.rivals.clone());
            when.push(Compare::create_revision(Bytes::new(), Relation::Equal, 0).over(all));
        }
        let put = Put {
            lease: self.hold.tenure().lease(),
            ..Put::new(key.clone(), self.value.clone())
        };
        let own = Range {
            keys_only: true,
            ..Range::new(KeyRange::key(key))
        };
        let owner = || Op::Range(first(&self.rivals, self.permits, Order::Ascending));
        Txn::when(when)
            .then([Op::Put(put), owner()])
            .otherwise([Op::Range(own), owner()])
    }

    fn read(&self, done: &TxnResult, doubtful: bool) -> Result<Option<Entered>> {
        let [Some(own), Some(owner)] = [0, 1].map(|at| done.results.get(at)) else {
            return Err(Error::garbled("a transaction without its answers"));
        };
        let create_revision = if done.succeeded {
            done.header.revision
        } else {
            match created(own) {
                Some(create_revision) => create_revision,
                None if self.patience == Patience::Leave => return Ok(None),
                None => return Err(Error::garbled("a key that is there and is not")),
            }
        };
        self.hold.tenure().used(create_revision);
        let ticket = Ticket {
            client: self.client.clone(),
            hold: self.hold.clone(),
            name: self.name.clone(),
            key: self.key(),
            create_revision,
            rivals: self.rivals.clone(),
            permits: self.permits,
            doubtful,
        };
        let first = before(owner, create_revision) < self.permits;
        Ok(Some(Entered { ticket, first }))
    }
}
