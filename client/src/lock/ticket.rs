//! A place in a queue: a key below a common prefix, attached to the session's lease. The places are in the order of their
//! create revisions and the first one owns. This is the layout of Go's concurrency package, for its mutex and its election, so
//! both clients stand in one queue.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keystead_proto::etcdserverpb::DeleteRangeRequest;
use keystead_seeded::{Bug, planted};
use tokio::time::sleep;
use tonic::Code;

use super::changes::until_deleted;
use crate::backoff::ATTEMPTS;
use crate::channel::rpc;
use crate::client::Client;
use crate::error::{Error, Kind, Outcome, Result};
use crate::key_range::KeyRange;
use crate::kv::delete::Delete;
use crate::kv::range::{Order, Range, Sort, SortBy};
use crate::session::hold::Hold;
use crate::session::names::Name;
use crate::txn::compare::{Compare, Relation};
use crate::txn::{Op, OpResult, Txn};

/// How long a server may take to apply a request whose outcome it left open: etcd gives a proposal up after seven
/// seconds, and a member that stood still meanwhile is allowed for.
pub(crate) const DOUBT: Duration = Duration::from_secs(15);

/// One place, which is there.
#[derive(Clone)]
pub(super) struct Ticket {
    pub(super) client: Client,
    pub(super) hold: Arc<Hold>,
    pub(super) name: Name,
    pub(super) key: Bytes,
    pub(super) create_revision: i64,
    /// Below it are the keys that may be in the way.
    pub(super) rivals: Bytes,
    /// It is its turn when fewer than so many of them are older.
    pub(super) permits: usize,
    /// A request to make the place was left open: it may be applied after the place was left.
    pub(super) doubtful: bool,
}

/// Who is before a place.
enum Before {
    /// Few enough.
    Nobody,
    /// Too many at this revision; one of these has to go.
    Rivals { keys: KeyRange, revision: i64 },
    /// The place itself is not there any more.
    Gone,
}

impl Ticket {
    /// What holds while the place is there.
    pub(super) fn owner(&self) -> Compare {
        Compare::create_revision(self.key.clone(), Relation::Equal, self.create_revision)
    }

    /// Waits until nobody is before it.
    ///
    /// # Errors
    /// `LockLost`: the place was taken away meanwhile. Failures that pass by themselves are waited out.
    pub(super) async fn turn(&self) -> Result<()> {
        let mut failures = 0;
        loop {
            let waited = match self.before().await {
                Ok(Before::Nobody) => return Ok(()),
                Ok(Before::Gone) => return Err(lost("its key was removed while it waited")),
                Ok(Before::Rivals { keys, revision }) => {
                    until_deleted(&self.client, keys, revision + 1).await
                }
                Err(error) => Err(error),
            };
            match waited {
                Ok(()) if planted(Bug::SkipOwnKeyAfterWait) => return Ok(()),
                Ok(()) => failures = 0,
                Err(error) if passes(&error) => {
                    failures += 1;
                    sleep(ATTEMPTS.after(failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Who is before it, and whether it is there itself, both at one revision: a place whose lease ended while it waited never
    /// counts as the first.
    async fn before(&self) -> Result<Before> {
        let own = Range {
            keys_only: true,
            ..Range::new(KeyRange::key(self.key.clone()))
        };
        let older = Range {
            max_create_revision: self.create_revision - 1,
            ..first(&self.rivals, self.permits, Order::Descending)
        };
        let read = Txn::when([]).then([Op::Range(own), Op::Range(older)]);
        let done = self.client.txn(read).await?;
        let [Some(own), Some(previous)] = [0, 1].map(|at| done.results.get(at)) else {
            return Err(Error::garbled("a read without an answer"));
        };
        if created(own) != Some(self.create_revision) {
            return Ok(Before::Gone);
        }
        if before(previous, self.create_revision) < self.permits {
            return Ok(Before::Nobody);
        }
        // The one right before, where it alone counts: whoever waits for another is not woken.
        let nearest = match previous {
            OpResult::Range(read) if self.permits == 1 => read.kvs.first(),
            _ => None,
        };
        let keys = match nearest {
            Some(kv) => KeyRange::key(kv.key.clone()),
            None => KeyRange::prefix(self.rivals.clone()),
        };
        Ok(Before::Rivals {
            keys,
            revision: done.header.revision,
        })
    }

    /// Leaves the place: the key is removed if it is the one that was made, whoever may have made another since. True when
    /// it was there.
    ///
    /// # Errors
    /// `LockLost`: the session is over. Failures that pass by themselves are waited out until then.
    pub(super) async fn release(self) -> Result<bool> {
        let delete = Op::Delete(Delete::new(KeyRange::key(self.key.clone())));
        let ours = (!planted(Bug::UnlockByKeyAlone)).then(|| self.owner());
        let txn = Txn::when(ours).then([delete]);
        let mut failures = 0;
        let mut unknown = false;
        loop {
            if let Some(loss) = self.hold.tenure().state().loss() {
                return Err(lost(loss));
            }
            match self.client.txn(txn.clone()).await {
                Ok(done) => {
                    self.forget();
                    // One that was left open before may have removed it.
                    return Ok(done.succeeded || unknown);
                }
                Err(error) if passes(&error) => {
                    unknown |= error.outcome == Outcome::Unknown;
                    failures += 1;
                    sleep(ATTEMPTS.after(failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The place is left: its name is free, at once or when no request can make it again.
    fn forget(&self) {
        if !self.doubtful {
            self.hold.names().free(&self.name);
            return;
        }
        let hold = Arc::downgrade(&self.hold);
        let channel = self.client.channel().clone();
        let options = self.client.call_options();
        let name = self.name.clone();
        let request = DeleteRangeRequest {
            key: self.client.keys().key(self.key.clone()),
            ..DeleteRangeRequest::default()
        };
        // It keeps neither the session nor the client: when they go, so does every key.
        self.hold.run(async move {
            sleep(DOUBT).await;
            let deleted = channel.call(&rpc::DELETE_RANGE, &request, &options).await;
            if let (Ok(_), Some(hold)) = (deleted, hold.upgrade()) {
                hold.names().free(&name);
            }
        });
    }
}

/// The error of whoever holds a thing no longer.
pub(super) fn lost(why: impl std::fmt::Display) -> Error {
    let message = format!("no longer held: {why}");
    Error::local(Kind::LockLost, Code::Aborted, message)
}

/// A failure that may pass by itself.
pub(crate) fn passes(error: &Error) -> bool {
    error.retryable
        || error.outcome == Outcome::Unknown
        || matches!(error.kind, Kind::Unavailable | Kind::DeadlineExceeded)
}

/// The first `count` places below `prefix`, or the last.
pub(crate) fn first(prefix: &Bytes, count: usize, order: Order) -> Range {
    Range {
        limit: i64::try_from(count).unwrap_or(i64::MAX),
        keys_only: true,
        sort: Some(Sort {
            by: SortBy::CreateRevision,
            order,
        }),
        ..Range::new(KeyRange::prefix(prefix.clone()))
    }
}

/// When the one key that was read was created.
pub(super) fn created(result: &OpResult) -> Option<i64> {
    match result {
        OpResult::Range(read) => read.kvs.first().map(|kv| kv.create_revision),
        _ => None,
    }
}

/// How many of the keys that were read were created before `revision`.
pub(super) fn before(result: &OpResult, revision: i64) -> usize {
    match result {
        OpResult::Range(read) => {
            let older = read.kvs.iter().filter(|kv| kv.create_revision < revision);
            older.count()
        }
        _ => usize::MAX,
    }
}
