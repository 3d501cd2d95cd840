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
        let key = key.into();
        let mut current = self.get(key.clone()).await?;
        for failures in 1..=ATTEMPTS {
            let swap = Swap {
                key: key.clone(),
                expected: current.as_ref().map_or(Expected::Missing, |kv| {
                    Expected::ModRevision(kv.mod_revision)
                }),
                change: decide(current.as_ref()),
            };
            let swapped = self.compare_and_swap(swap).await?;
            if swapped.succeeded {
                return Ok(swapped);
            }
            current = swapped.current;
            tokio::time::sleep(CONTENTION.after(failures)).await;
        }
        Err(Error::local(
            Kind::CompareFailed,
            Code::Aborted,
            format!("the key changed meanwhile {ATTEMPTS} times in a row"),
        ))
    }
}
