//! A queue: items below a prefix, taken in the order in which they were written, each by one.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
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
        let mut failures = 0;
        loop {
            match self.take().await {
                Ok(Some(item)) => return Ok(item),
                Ok(None) => failures = 0,
                Err(error) if error.outcome == Outcome::NotApplied && passes(&error) => {
                    failures += 1;
                    sleep(ATTEMPTS.after(failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the first item; `None` when somebody else was faster, or after there was none and something was written.
    async fn take(&self) -> Result<Option<Bytes>> {
        let all = || KeyRange::prefix(self.prefix.clone());
        let read = self.client.range(Range {
            limit: 1,
            sort: Some(Sort {
                by: SortBy::ModRevision,
                order: Order::Ascending,
            }),
            ..Range::new(all())
        });
        let read = read.await?;
        let Some(first) = read.kvs.into_iter().next() else {
            until_written(&self.client, all(), read.header.revision + 1).await?;
            return Ok(None);
        };
        let swap = Swap {
            key: first.key,
            expected: Expected::ModRevision(first.mod_revision),
            change: Change::Delete,
        };
        let taken = self.client.compare_and_swap(swap).await?.succeeded;
        Ok(taken.then_some(first.value))
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
