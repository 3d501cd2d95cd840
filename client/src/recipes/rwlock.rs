//! A reader-writer lock: readers wait for the writers before them, a writer for everybody before it. First come, first served, so neither
//! starves the other.

use std::time::Duration;

use bytes::Bytes;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::lock::LockGuard;
use crate::lock::acquisition::{Patience, Wanted, acquire};
use crate::session::Session;
use crate::session::shared::Backing;

/// A reader-writer lock by name. It is that of Go's `recipes.RWMutex` of the same name, too.
///
/// ```no_run
/// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
/// let config = client.rwlock("locks/config");
/// let reader = config.read().await?;
/// reader.unlock().await?;
/// let writer = config.write().await?;
/// writer.put("config", "written by the one who may").await?;
/// writer.unlock().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RwLock {
    client: Client,
    name: Bytes,
    backing: Backing,
}

impl Client {
    /// A reader-writer lock. Nothing is sent yet. It is taken by the session that this client shares among all that has the
    /// same TTL, at first ten seconds.
    pub fn rwlock(&self, name: impl Into<Bytes>) -> RwLock {
        RwLock {
            client: self.clone(),
            name: name.into(),
            backing: Backing::default(),
        }
    }
}

impl RwLock {
    /// The same lock, to be taken by the shared session of this TTL.
    pub fn with_ttl(self, ttl: Duration) -> RwLock {
        RwLock {
            backing: Backing::Shared(ttl),
            ..self
        }
    }

    /// The same lock, to be taken by this session.
    pub fn with_session(self, session: &Session) -> RwLock {
        RwLock {
            backing: Backing::Own(session.clone()),
            ..self
        }
    }

    /// Takes it for reading, beside other readers. Dropping the future gives it up.
    ///
    /// # Errors
    /// See [`Lock::lock`](crate::Lock::lock).
    pub async fn read(&self) -> Result<LockGuard> {
        waited(self.acquire("/read/", "/write/", Patience::Wait).await?)
    }

    /// Takes it for reading if no writer has it or waits for it, else `None`.
    ///
    /// # Errors
    /// See [`Lock::lock`](crate::Lock::lock).
    pub async fn try_read(&self) -> Result<Option<LockGuard>> {
        self.acquire("/read/", "/write/", Patience::Leave).await
    }

    /// Takes it for writing, alone. Dropping the future gives it up.
    ///
    /// # Errors
    /// See [`Lock::lock`](crate::Lock::lock).
    pub async fn write(&self) -> Result<LockGuard> {
        waited(self.acquire("/write/", "/", Patience::Wait).await?)
    }

    /// Takes it for writing if nobody has it, else `None`.
    ///
    /// # Errors
    /// See [`Lock::lock`](crate::Lock::lock).
    pub async fn try_write(&self) -> Result<Option<LockGuard>> {
        self.acquire("/write/", "/", Patience::Leave).await
    }

    async fn acquire(
        &self,
        own: &str,
        rivals: &str,
        patience: Patience,
    ) -> Result<Option<LockGuard>> {
        let below = |part: &str| Bytes::from([&self.name[..], part.as_bytes()].concat());
        let wanted = Wanted {
            prefix: below(own),
            rivals: below(rivals),
            permits: 1,
            value: Bytes::new(),
            patience,
        };
        let acquired = acquire(&self.client, &self.backing, wanted).await?;
        Ok(acquired.map(LockGuard))
    }
}

fn waited(acquired: Option<LockGuard>) -> Result<LockGuard> {
    acquired.ok_or_else(|| Error::garbled("nobody waits for it, and it is not free"))
}
