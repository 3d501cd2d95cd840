//! Keys in memory, in step with the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use keystead_client as client;
use keystead_client::bytes::Bytes;
use keystead_client::{CacheOptions, CacheView, KeyRange, KeyValue, Lag};

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::fork::Mine;

/// Some keys in memory. Closing it ends it, and dropping the last clone. Lost in a child of the process.
#[derive(Clone)]
pub struct Cache(Arc<Mine<client::Cache>>);

/// The news of a cache.
#[derive(Clone)]
pub struct CacheSubscription(Arc<Mine<client::Subscription>>);

impl Client {
    /// Keeps keys in memory; they are there when the call answers. Answers `Cache`.
    pub fn cache(&self, options: CacheOptions) -> Call {
        self.call(
            |client| async move { client.cache_with(options).await },
            |cache| Answer::Cache(Cache(Arc::new(Mine::new(cache)))),
        )
    }
}

impl Cache {
    /// One key, from memory.
    ///
    /// # Errors
    /// The cache has ended with it; `Closed`: it was closed; `InvalidArgument`: it is not one of its keys.
    pub fn get(&self, key: Bytes) -> Result<Option<KeyValue>> {
        Ok(self.inner()?.get(key)?)
    }

    /// Some keys at one revision, from memory.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn range(&self, keys: KeyRange) -> Result<CacheView> {
        Ok(self.inner()?.range(keys)?)
    }

    /// All its keys at one revision, from memory.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn all(&self) -> Result<CacheView> {
        let cache = self.inner()?;
        Ok(cache.range(cache.keys().clone())?)
    }

    /// How many keys it has.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn len(&self) -> Result<usize> {
        Ok(self.inner()?.len()?)
    }

    /// It has none.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.inner()?.is_empty()?)
    }

    /// How far behind it is.
    ///
    /// # Errors
    /// `Forked`.
    pub fn lag(&self) -> Result<Lag> {
        Ok(self.inner()?.lag())
    }

    /// Waits until it has everything that was written before. Answers `Revision`.
    pub fn sync(&self) -> Call {
        let this = self.clone();
        Call::new(async move { Ok(Answer::Revision(this.inner()?.sync().await?)) })
    }

    /// Reads one key as it is, whoever wrote it: [`Cache::sync`], then [`Cache::get`]. Answers `KeyValue`.
    pub fn get_linearizable(&self, key: Bytes) -> Call {
        let this = self.clone();
        Call::new(async move {
            this.inner()?.sync().await?;
            Ok(Answer::KeyValue(this.get(key)?))
        })
    }

    /// Waits until it has everything up to `revision`. Answers `Done`.
    pub fn reach(&self, revision: i64) -> Call {
        let this = self.clone();
        Call::new(async move {
            this.inner()?.reach(revision).await?;
            Ok(Answer::Done)
        })
    }

    /// Its news: first all keys, then every change.
    ///
    /// # Errors
    /// `Forked`.
    pub fn subscribe(&self) -> Result<CacheSubscription> {
        Ok(CacheSubscription(Arc::new(Mine::new(
            self.inner()?.subscribe(),
        ))))
    }

    /// Ends it: whatever is asked of it from now on is refused with `Closed`. Closing it again does nothing, as does closing it in a child.
    pub fn close(&self) {
        if let Some(cache) = self.0.get() {
            cache.close();
        }
    }

    fn inner(&self) -> Result<&client::Cache> {
        self.0.get().ok_or_else(Error::forked)
    }
}

impl CacheSubscription {
    /// Waits for what comes next. Answers `CacheNotices`. Cancelling the call loses nothing.
    ///
    /// # Errors
    /// The cache has ended with it. `DeadlineExceeded`: nothing has come within `limit`.
    pub fn next_batch(&self, most: usize, limit: Option<Duration>) -> Call {
        let this = self.clone();
        Call::new(async move {
            let subscription = this.0.get().ok_or_else(Error::forked)?;
            Ok(Answer::CacheNotices(subscription.next_batch(most).await?))
        })
        .within(limit, |limit| {
            Error::not_in_time(format!("nothing to tell within {limit:?}"))
        })
    }

    /// Ends it: nothing more comes.
    pub fn cancel(&self) {
        if let Some(subscription) = self.0.get() {
            subscription.cancel();
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache")
    }
}
