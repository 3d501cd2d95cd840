//! Update: read a key, decide, write it back if it has not changed meanwhile, else again. Sugar over get and swap.

use bytes::Bytes;
use keystead_proto::mvccpb::KeyValue;
use tonic::Code;

use crate::backoff::CONTENTION;
use crate::client::Client;
use crate::error::{Error, Kind, Result};
use crate::kv::swap::{Change, Expected, Swap, Swapped};

/// How often the compare may fail before the loop gives up: under contention that makes so many attempts fail, a lock is
/// the better tool.
const ATTEMPTS: u32 = 64;

impl Client {
    /// Changes a key as `decide` says, given the key as it is. When somebody else changes it meanwhile, `decide` is asked again
    /// with the new state, after a wait that grows.
    ///
    /// ```no_run
    /// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
    /// # use keystead_client::Change;
    /// client.update("visits", |now| {
    ///     let visits = now.map_or(0, |kv| kv.value.len());
    ///     Change::Put("|".repeat(visits + 1).into())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `CompareFailed`: the key changed meanwhile 64 times in a row. See [`Client::txn`] for the rest; a swap whose outcome is
    /// `Unknown` ends the loop, for it may have been done.
    pub async fn update(
        &self,
        key: impl Into<Bytes>,
        mut decide: impl FnMut(Option<&KeyValue>) -> Change,
    ) -> Result<Swapped> {
        let mut updater = self.updater(key).await?;
        loop {
            let change = decide(updater.current());
            if let Some(swapped) = updater.write(change).await? {
                return Ok(swapped);
            }
        }
    }

    /// The same a step at a time, for those who decide elsewhere: reads the key.
    ///
    /// # Errors
    /// See [`Client::range`].
    pub async fn updater(&self, key: impl Into<Bytes>) -> Result<Updater> {
        let key = key.into();
        Ok(Updater {
            client: self.clone(),
            current: self.get(key.clone()).await?,
            key,
            failures: 0,
        })
    }
}

/// A key being updated: read, not written back yet.
pub struct Updater {
    client: Client,
    key: Bytes,
    current: Option<KeyValue>,
    failures: u32,
}

impl Updater {
    /// The key as it was read last; `None` when it was not there.
    pub fn current(&self) -> Option<&KeyValue> {
        self.current.as_ref()
    }

    /// Changes the key if it is as it was read. If it is not, `None` after a wait that grows, and [`Updater::current`] is how it is now.
    ///
    /// # Errors
    /// See [`Client::update`].
    pub async fn write(&mut self, change: Change) -> Result<Option<Swapped>> {
        let swap = Swap {
            key: self.key.clone(),
            expected: self.current.as_ref().map_or(Expected::Missing, |kv| {
                Expected::ModRevision(kv.mod_revision)
            }),
            change,
        };
        let swapped = self.client.compare_and_swap(swap).await?;
        if swapped.succeeded {
            return Ok(Some(swapped));
        }
        self.current = swapped.current;
        self.failures += 1;
        if self.failures == ATTEMPTS {
            let text = format!("the key changed meanwhile {ATTEMPTS} times in a row");
            return Err(Error::local(Kind::CompareFailed, Code::Aborted, text));
        }
        tokio::time::sleep(CONTENTION.after(self.failures)).await;
        Ok(None)
    }
}
