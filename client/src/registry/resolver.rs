//! A resolver: the addresses of a service as they are at the moment, from a cache of their keys, and one of them when it is wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::endpoint::{self, Endpoint};
use crate::cache::Cache;
use crate::client::Client;
use crate::error::Result;
use crate::key_range::KeyRange;
use crate::locks::Mutex;

/// Where a service can be reached, as far as this process knows: it follows every change through whatever happens to the connection,
/// and keeps what it knew last while there is none. How old that is says [`Cache::lag`] of its cache. A clone is the same resolver.
///
/// ```no_run
/// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
/// # use keystead_client::Pick;
/// let api = client.resolve("services/api").await?;
/// let mut known = api.endpoints()?;
/// while known.is_empty() {
///     known = api.changed(&known).await?;
/// }
/// let next = api.pick(Pick::RoundRobin)?.expect("there is one");
/// println!("ask {}", next.address);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Resolver {
    cache: Cache,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    decoded: Mutex<Decoded>,
    /// Whose turn it is.
    turn: AtomicUsize,
}

/// What stood in the cache, and at which of its versions.
#[derive(Default)]
struct Decoded {
    version: Option<u64>,
    endpoints: Arc<[Endpoint]>,
}

/// How to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pick {
    /// One after the other, in the order of their keys.
    #[default]
    RoundRobin,
    /// Any, each as likely as the others.
    Random,
}

impl Client {
    /// Follows where a service can be reached. When it returns, what was registered before this was called is known.
    ///
    /// # Errors
    /// See [`Client::cache`].
    pub async fn resolve(&self, service: impl Into<Bytes>) -> Result<Resolver> {
        let keys = KeyRange::prefix(endpoint::prefix(&service.into()));
        Ok(Resolver {
            cache: self.cache(keys).await?,
            shared: Arc::default(),
        })
    }
}

impl Resolver {
    /// All that are registered, in the order of their keys. What can't be read as an endpoint is left out.
    ///
    /// # Errors
    /// It may not be read any more, or it or the client was closed.
    pub fn endpoints(&self) -> Result<Arc<[Endpoint]>> {
        // Read first: what is decoded may be newer than this, and is then decoded once more.
        let version = self.cache.version()?;
        let mut decoded = self.shared.decoded.lock();
        if decoded.version != Some(version) {
            let kvs = self.cache.range(self.cache.keys().clone())?.kvs;
            decoded.endpoints = kvs
                .iter()
                .filter_map(|kv| endpoint::decode(&kv.value))
                .collect();
            decoded.version = Some(version);
        }
        Ok(decoded.endpoints.clone())
    }

    /// Waits until they are others than `seen`.
    ///
    /// # Errors
    /// See [`Resolver::endpoints`].
    pub async fn changed(&self, seen: &[Endpoint]) -> Result<Arc<[Endpoint]>> {
        loop {
            let version = self.cache.version()?;
            let endpoints = self.endpoints()?;
            if *endpoints != *seen {
                return Ok(endpoints);
            }
            self.cache.changed(version).await?;
        }
    }

    /// One of them; `None` when there is none.
    ///
    /// # Errors
    /// See [`Resolver::endpoints`].
    pub fn pick(&self, pick: Pick) -> Result<Option<Endpoint>> {
        let endpoints = self.endpoints()?;
        if endpoints.is_empty() {
            return Ok(None);
        }
        let number = match pick {
            Pick::RoundRobin => self.shared.turn.fetch_add(1, Ordering::Relaxed) % endpoints.len(),
            Pick::Random => fastrand::usize(..endpoints.len()),
        };
        Ok(endpoints.get(number).cloned())
    }

    /// Ends it, with its clones: whatever is asked of it from now on is refused with `Closed`. Closing it again does nothing.
    /// Never waits.
    pub fn close(&self) {
        self.cache.close();
    }

    /// The keys that it reads: to know how old they are, or to wait for what was registered just now.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }
}
