//! A queue: items below a prefix, taken in the order in which they were written, each by one.

use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use keystead_proto::mvccpb::KeyValue;
use tokio::time::sleep;

use crate::backoff::ATTEMPTS;
use crate::client::Client;
use crate::error::{Outcome, Result};
use crate::key_range::KeyRange;
use crate::kv::range::{Order, Range, Sort, SortBy};
use crate::kv::swap::{Change, Expected, Swap};
use crate::lock::changes::until_written;
use crate::lock::queue;
use crate::lock::ticket::passes;

/// A queue by name. It is that of Go's `recipes.Queue`, too.
///
/// ```no_run
/// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
/// let jobs = client.queue("queues/jobs");
/// jobs.enqueue("job 1").await?;
/// assert_eq!(jobs.dequeue().await?, "job 1");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Queue {
    client: Client,
    prefix: Bytes,
}

impl Client {
    /// A queue. Nothing is sent yet.
    pub fn queue(&self, name: impl Into<Bytes>) -> Queue {
        Queue {
            client: self.clone(),
            prefix: queue(&name.into()),
        }
    }
}

impl Queue {
    /// Puts an item at the end.
    ///
    /// # Errors
    /// See [`Client::txn`]. Where the outcome is `Unknown` it may be there: putting it again may put it twice.
    pub async fn enqueue(&self, item: impl Into<Bytes>) -> Result<()> {
        let item = item.into();
        loop {
            let swap = Swap {
                key: self.fresh_key(),
                expected: Expected::Missing,
                change: Change::Put(item.clone()),
            };
            if self.client.compare_and_swap(swap).await?.succeeded {
                return Ok(());
            }
        }
    }

    /// Takes the first item, and waits for one where there is none. Nobody else gets it. Failures to look are waited out.
    ///
    /// # Errors
    /// See [`Client::txn`]. Where the outcome is `Unknown` an item may have been taken, and is lost. Dropping the future while it takes one
    /// may lose it, too.
    pub async fn dequeue(&self) -> Result<Bytes> {
        loop {
            let first = self.first().await?;
            if let Some(item) = self.take(first).await? {
                return Ok(item);
            }
        }
    }

    /// The same, waiting no longer than `limit` for an item: `None` when there was none. It is no limit for the taking of one, so
    /// that none is lost to it. With a limit of zero it looks, and does not wait.
    ///
    /// # Errors
    /// See [`Queue::dequeue`].
    pub async fn dequeue_within(&self, limit: Duration) -> Result<Option<Bytes>> {
        if limit.is_zero() {
            return match self.look().await?.0 {
                Some(first) => self.take(first).await,
                None => Ok(None),
            };
        }
        let mut over = pin!(sleep(limit));
        loop {
            let first = tokio::select! {
                biased;
                first = self.first() => first?,
                () = &mut over => return Ok(None),
            };
            if let Some(item) = self.take(first).await? {
                return Ok(Some(item));
            }
        }
    }

    /// The first item, waiting for one. Failures are waited out.
    async fn first(&self) -> Result<KeyValue> {
        let mut failures = 0;
        loop {
            match self.look_or_wait().await {
                Ok(Some(first)) => return Ok(first),
                Ok(None) => failures = 0,
                Err(error) if passes(&error) => {
                    failures += 1;
                    sleep(ATTEMPTS.after(failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The first item; `None` after there was none and something was written.
    async fn look_or_wait(&self) -> Result<Option<KeyValue>> {
        let (first, revision) = self.look().await?;
        if first.is_none() {
            until_written(&self.client, self.all(), revision + 1).await?;
        }
        Ok(first)
    }

    /// The first item, if there is one, and the revision of that.
    async fn look(&self) -> Result<(Option<KeyValue>, i64)> {
        let read = self.client.range(Range {
            limit: 1,
            sort: Some(Sort {
                by: SortBy::ModRevision,
                order: Order::Ascending,
            }),
            ..Range::new(self.all())
        });
        let read = read.await?;
        Ok((read.kvs.into_iter().next(), read.header.revision))
    }

    /// Takes that item; `None` when somebody else was faster, or it surely was not taken because of something that passes.
    async fn take(&self, first: KeyValue) -> Result<Option<Bytes>> {
        let swap = Swap {
            key: first.key,
            expected: Expected::ModRevision(first.mod_revision),
            change: Change::Delete,
        };
        match self.client.compare_and_swap(swap).await {
            Ok(swapped) => Ok(swapped.succeeded.then_some(first.value)),
            Err(error) if error.outcome == Outcome::NotApplied && passes(&error) => {
                sleep(ATTEMPTS.after(1)).await;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn all(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.clone())
    }

    /// Keys are told apart by the time; they are ordered by their revisions.
    fn fresh_key(&self) -> Bytes {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanos = now.unwrap_or_default().as_nanos();
        [&self.prefix[..], nanos.to_string().as_bytes()]
            .concat()
            .into()
    }
}
