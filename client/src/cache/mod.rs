//! A cache: some keys kept in memory, whole and in step with the store, for reads that ask nobody.
//!
//! ```text
//!   store ──watch──► follow: a task ──► Kept: the keys at one revision ──► get, range, len
//!                                          │                          └──► Subscription: bounded
//!     Fence: one linearizable read for all who ask at once ──► wait until Kept has its revision
//! ```
//!
//! `kept` knows the keys and no stream, `follow` takes what the watch tells, `fence` asks how far the store is, `subscription` tells changes.

mod fence;
mod follow;
mod kept;
pub(crate) mod subscription;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keystead_proto::mvccpb::KeyValue;
use keystead_seeded::{Bug, planted};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Code;

use crate::channel::Effect;
use crate::client::Client;
use crate::error::{Error, Kind, Result};
use crate::key_range::KeyRange;
use crate::watch::Watch;
use crate::watch::notice::Lag;
use fence::Fence;
use follow::Follower;
use kept::Reached;
use subscription::Subscription;

/// What a cache holds at most where the user named nothing.
const MOST_BYTES: usize = 256 << 20;
/// How long a reader waits for an event before it asks for progress.
const FIRST_NUDGE: Duration = Duration::from_millis(10);
/// How long it waits before it asks again: a member that lags does not answer.
const NUDGE: Duration = Duration::from_millis(100);

/// What to keep, and how much of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheOptions {
    /// The keys.
    pub keys: KeyRange,
    /// How many bytes they may take, with some 200 for each key besides its name and its value; 0 for 256 MiB. A cache whose keys need more
    /// ends with an error of kind `TooLarge`. While the state is read anew, after a gap in history, the old and the new one are
    /// held, each within this bound.
    pub most_bytes: usize,
}

impl CacheOptions {
    /// `keys`, in 256 MiB at most.
    pub fn new(keys: KeyRange) -> CacheOptions {
        CacheOptions {
            keys,
            most_bytes: 0,
        }
    }
}

/// Some keys in memory. They are those of one revision at every moment, and follow the store through everything that passes by
/// itself; a clone is the same cache. [`Cache::close`] ends it, and so does dropping the last one.
///
/// Reading costs no call and shows the keys as they were [`Cache::lag`] ago. What was written before a certain moment is there after
/// [`Cache::sync`], what was written at a certain revision after [`Cache::reach`].
///
/// ```no_run
/// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
/// # use keystead_client::KeyRange;
/// let config = client.cache(KeyRange::prefix("config/")).await?;
/// // As this client knows it.
/// let color = config.get("config/color")?;
/// // As it is: whatever was written before this is seen.
/// config.sync().await?;
/// let color = config.get("config/color")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    client: Client,
    follower: Arc<Follower>,
    fence: Fence,
    task: AbortHandle,
}

/// Some keys of a cache, all at one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CacheView {
    /// The revision.
    pub revision: i64,
    /// The keys, in their order.
    pub kvs: Vec<KeyValue>,
}

impl Client {
    /// Keeps `keys` in memory. When it returns, they are there.
    ///
    /// # Errors
    /// `PermissionDenied`: they may not be read. `TooLarge`: they take more than 256 MiB. `Unavailable`, `DeadlineExceeded`: they
    /// could not be read within the deadline.
    pub async fn cache(&self, keys: KeyRange) -> Result<Cache> {
        self.cache_with(CacheOptions::new(keys)).await
    }

    /// The same with every option.
    ///
    /// # Errors
    /// See [`Client::cache`]; the bound is that of the options.
    pub async fn cache_with(&self, options: CacheOptions) -> Result<Cache> {
        let watch = Watch {
            state_first: true,
            progress: true,
            ..Watch::new(options.keys)
        };
        let most_bytes = match options.most_bytes {
            0 => MOST_BYTES,
            bytes => bytes,
        };
        let follower = Follower::new(self.watch_alone(watch).await?, most_bytes);
        let cache = Cache(Arc::new(Inner {
            client: self.clone(),
            task: tokio::spawn(follower.clone().run()).abort_handle(),
            fence: Fence::default(),
            follower,
        }));
        cache.in_time(cache.0.wait(|_| true)).await?;
        Ok(cache)
    }
}

impl Cache {
    /// The key; `None` when it is not there. Asks nobody.
    ///
    /// # Errors
    /// `InvalidArgument`: it is none of the cache's keys. Any other: the cache has ended with it.
    pub fn get(&self, key: impl Into<Bytes>) -> Result<Option<KeyValue>> {
        let key = KeyRange::key(key);
        self.within(&key)?;
        self.0.follower.kept().read(|keys| keys.get(&key.key))
    }

    /// The keys of a part of what is kept. Asks nobody.
    ///
    /// # Errors
    /// `InvalidArgument`: some of them are none of the cache's. Any other: the cache has ended with it.
    pub fn range(&self, keys: KeyRange) -> Result<CacheView> {
        self.within(&keys)?;
        self.0.follower.kept().read(|kept| CacheView {
            revision: kept.revision(),
            kvs: kept.range(&keys),
        })
    }

    /// How many keys there are. Asks nobody.
    ///
    /// # Errors
    /// The cache has ended with it.
    pub fn len(&self) -> Result<usize> {
        self.0.follower.kept().read(|kept| kept.len())
    }

    /// Whether there is no key. Asks nobody.
    ///
    /// # Errors
    /// The cache has ended with it.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// What is kept.
    pub fn keys(&self) -> &KeyRange {
        &self.0.follower.watcher().watch().keys
    }

    /// The revision whose keys it holds, and how old that knowledge is.
    pub fn lag(&self) -> Lag {
        Lag {
            revision: self.0.follower.kept().reached().revision,
            ..self.0.follower.watcher().lag()
        }
    }

    /// Waits until the cache holds whatever was written before this was called, by anybody, and gives the revision up to which it
    /// does: what is read then is linearizable. It costs a read of one key for all who wait at the same time, and the server's word on
    /// the stream that nothing else has happened. (etcd before 3.4.25 and 3.5.8 may give that word too early.)
    ///
    /// # Errors
    /// `Unavailable`, `DeadlineExceeded`: the store did not say, or the cache did not get there, within the client's deadline. Any
    /// other: the cache has ended with it.
    pub async fn sync(&self) -> Result<i64> {
        self.in_time(self.0.sync()).await
    }

    /// Waits until the cache holds everything up to `revision`, as the header of a write tells it.
    ///
    /// # Errors
    /// See [`Cache::sync`].
    pub async fn reach(&self, revision: i64) -> Result<()> {
        let reached = self.0.reach(|now| now.revision >= revision);
        self.in_time(reached).await?;
        Ok(())
    }

    /// Tells the keys as they are, and then every change.
    pub fn subscribe(&self) -> Subscription {
        Subscription::new(self.clone())
    }

    /// Ends it, with its clones and subscriptions: whatever is asked of it from now on is refused with `Closed`, and its keys
    /// are given up. Closing it again does nothing. Never waits.
    pub fn close(&self) {
        let closed = Error::local(Kind::Closed, Code::Cancelled, "the cache was closed");
        self.0.follower.kept().end(closed);
        self.0.end();
    }

    /// What every reader of the cache shares.
    fn follower(&self) -> &Follower {
        &self.0.follower
    }

    /// How often the keys have changed since it began, as far as anybody could see.
    ///
    /// # Errors
    /// The cache has ended with it.
    pub(crate) fn version(&self) -> Result<u64> {
        let kept = self.0.follower.kept();
        kept.read(|_| kept.reached().version)
    }

    /// Waits until that is more than `version`.
    ///
    /// # Errors
    /// The cache has ended with it.
    pub(crate) async fn changed(&self, version: u64) -> Result<()> {
        self.0.wait(|now| now.version > version).await?;
        Ok(())
    }

    fn within(&self, keys: &KeyRange) -> Result<()> {
        if self.keys().covers(keys) {
            return Ok(());
        }
        Err(Error::invalid("the cache does not keep these keys"))
    }

    /// The same within the client's deadline.
    async fn in_time<T>(&self, wait: impl Future<Output = Result<T>>) -> Result<T> {
        let deadline = Instant::now() + self.0.client.call_options().deadline;
        timeout_at(deadline, wait).await.unwrap_or_else(|_| {
            let trouble = self.0.follower.kept().trouble();
            let late = || Error::new(self.0.client.channel().late(), Effect::Read, "");
            Err(trouble.unwrap_or_else(late))
        })
    }
}

impl Inner {
    /// Nothing more comes from the store.
    fn end(&self) {
        self.task.abort();
        self.follower.watcher().cancel();
    }

    async fn sync(&self) -> Result<i64> {
        loop {
            let word = self.fence.ask(&self.client, &self.follower).await?;
            let restored = |now: &Reached| now.restores != word.restores;
            let now = if word.behind() {
                // The store is not as far as the cache was: it was restored, and the watch will say so.
                self.wait(restored).await?
            } else {
                let there = |now: &Reached| {
                    restored(now) || now.revision >= word.revision || planted(Bug::ReadBehindStore)
                };
                self.reach(there).await?
            };
            if !restored(&now) {
                return Ok(now.revision);
            }
        }
    }

    /// Waits until the cache is `there`, and asks for progress meanwhile.
    async fn reach(&self, there: impl Fn(&Reached) -> bool) -> Result<Reached> {
        let mut there = pin!(self.wait(there));
        let mut patience = FIRST_NUDGE;
        loop {
            if let Ok(reached) = timeout(patience, &mut there).await {
                return reached;
            }
            self.follower.watcher().nudge();
            patience = NUDGE;
        }
    }

    /// Waits until the cache is `there`, and has keys at all.
    async fn wait(&self, there: impl Fn(&Reached) -> bool) -> Result<Reached> {
        let mut news = self.follower.kept().watch();
        let reached = news.wait_for(|now| now.ended || (now.revision > 0 && there(now)));
        // The sender lives in `self`.
        let reached = reached.await.map(|now| *now).unwrap_or_default();
        self.follower.kept().read(|_| reached)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}
