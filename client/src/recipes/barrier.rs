//! A barrier: while its key is there, everybody waits.

use bytes::Bytes;
use tokio::time::sleep;

use crate::backoff::ATTEMPTS;
use crate::client::Client;
use crate::error::Result;
use crate::key_range::KeyRange;
use crate::kv::range::Range;
use crate::kv::swap::{Change, Expected, Swap};
use crate::lock::changes::until_deleted;
use crate::lock::ticket::passes;

/// A barrier by name: the key itself, without a lease, so it stays until somebody releases it. It is that of Go's
/// `recipes.Barrier`, too.
#[derive(Clone)]
pub struct Barrier {
    client: Client,
    key: Bytes,
}

impl Client {
    /// A barrier. Nothing is sent yet.
    pub fn barrier(&self, name: impl Into<Bytes>) -> Barrier {
        Barrier {
            client: self.clone(),
            key: name.into(),
        }
    }
}

impl Barrier {
    /// Sets it up; true when it was not there.
    ///
    /// # Errors
    /// See [`Client::txn`].
    pub async fn hold(&self) -> Result<bool> {
        let swap = Swap {
            key: self.key.clone(),
            expected: Expected::Missing,
            change: Change::Put(Bytes::new()),
        };
        Ok(self.client.compare_and_swap(swap).await?.succeeded)
    }

    /// Takes it away, and everybody goes on; true when it was there.
    ///
    /// # Errors
    /// See [`Client::delete`].
    pub async fn release(&self) -> Result<bool> {
        Ok(self.client.delete(self.key.clone()).await?.deleted > 0)
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// See [`Client::range`].
    pub async fn is_held(&self) -> Result<bool> {
        let read = self.client.range(Range::new(self.keys())).await?;
        Ok(!read.kvs.is_empty())
    }

    /// Waits until it is not there. Failures that pass by themselves are waited out.
    ///
    /// # Errors
    /// Those that do not pass, as `PermissionDenied`.
    pub async fn wait(&self) -> Result<()> {
        let mut failures = 0;
        loop {
            match self.look().await {
                Ok(true) => return Ok(()),
                Ok(false) => failures = 0,
                Err(error) if passes(&error) => {
                    failures += 1;
                    sleep(ATTEMPTS.after(failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether it is gone; if not, waits until that may have changed.
    async fn look(&self) -> Result<bool> {
        let read = self.client.range(Range::new(self.keys())).await?;
        if read.kvs.is_empty() {
            return Ok(true);
        }
        until_deleted(&self.client, self.keys(), read.header.revision + 1).await?;
        Ok(false)
    }

    fn keys(&self) -> KeyRange {
        KeyRange::key(self.key.clone())
    }
}
