//! Compare and swap: one key is written, or removed, if it is as expected, in one call.

use bytes::Bytes;
use keystead_proto::mvccpb::KeyValue;

use crate::client::Client;
use crate::error::Result;
use crate::header::Header;
use crate::key_range::KeyRange;
use crate::kv::delete::Delete;
use crate::kv::put::Put;
use crate::kv::range::Range;
use crate::txn::compare::{Compare, Relation};
use crate::txn::{Op, OpResult, Txn};

/// What to write, and over what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The key.
    pub key: Bytes,
    /// How it must be now.
    pub expected: Expected,
    /// How it is to be.
    pub change: Change,
}

/// How a key must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Not there.
    Missing,
    /// There, whatever it holds.
    Present,
    /// Last written at this revision.
    ModRevision(i64),
    /// There with this value.
    Value(Bytes),
}

/// What becomes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It holds this value; the lease it is attached to, if any, stays.
    Put(Bytes),
    /// It holds this value and is attached to this lease; 0 for none.
    PutLeased {
        /// The value.
        value: Bytes,
        /// The lease.
        lease: i64,
    },
    /// It is gone.
    Delete,
    /// It stays as it is.
    Keep,
}

/// The answer to a [`Swap`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Swapped {
    /// Who answered; where it succeeded, the revision is that of the change.
    pub header: Header,
    /// The key was as expected and has been changed.
    pub succeeded: bool,
    /// Where it did not succeed: the key as it is, read in the same step.
    pub current: Option<KeyValue>,
}

impl Expected {
    pub(crate) fn compare(self, key: Bytes) -> Compare {
        match self {
            Expected::Missing => Compare::missing(key),
            Expected::Present => Compare::present(key),
            Expected::ModRevision(revision) => {
                Compare::mod_revision(key, Relation::Equal, revision)
            }
            Expected::Value(value) => Compare::value(key, Relation::Equal, value),
        }
    }
}

impl Change {
    /// The operation; none to keep the key. `exists` says that the compare allows for nothing else.
    fn into_op(self, key: Bytes, exists: bool) -> Option<Op> {
        match self {
            Change::Put(value) => Some(Op::Put(Put {
                ignore_lease: exists,
                ..Put::new(key, value)
            })),
            Change::PutLeased { value, lease } => Some(Op::Put(Put {
                lease,
                ..Put::new(key, value)
            })),
            Change::Delete => Some(Op::Delete(Delete::new(KeyRange::key(key)))),
            Change::Keep => None,
        }
    }
}

impl Swap {
    fn into_txn(self) -> Txn {
        let exists = match self.expected {
            // Revision 0 is how etcd says that a key is not there.
            Expected::Missing | Expected::ModRevision(0) => false,
            Expected::Present | Expected::ModRevision(_) | Expected::Value(_) => true,
        };
        let read = Op::Range(Range::new(KeyRange::key(self.key.clone())));
        Txn {
            when: vec![self.expected.compare(self.key.clone())],
            then: self.change.into_op(self.key, exists).into_iter().collect(),
            otherwise: vec![read],
        }
    }
}

impl Client {
    /// Changes a key if it is as expected, else says how it is; both in one step.
    ///
    /// ```no_run
    /// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
    /// # use keystead_client::{Change, Expected, Swap};
    /// let swapped = client.compare_and_swap(Swap {
    ///     key: "leader".into(),
    ///     expected: Expected::Missing,
    ///     change: Change::Put("me".into()),
    /// }).await?;
    /// if !swapped.succeeded {
    ///     println!("it is {:?}", swapped.current);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Client::txn`]. That the key was not as expected is an answer and no error.
    pub async fn compare_and_swap(&self, swap: Swap) -> Result<Swapped> {
        let done = self.txn(swap.into_txn()).await?;
        let read = done.results.into_iter().next();
        Ok(Swapped {
            header: done.header,
            succeeded: done.succeeded,
            current: match read {
                Some(OpResult::Range(read)) => read.kvs.into_iter().next(),
                _ => None,
            },
        })
    }
}
