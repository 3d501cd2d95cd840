//! A semaphore: a lock that so many may hold at once.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::lock::acquisition::{Patience, Wanted, acquire};
use crate::lock::{LockGuard, queue};
use crate::session::Session;
use crate::session::shared::Backing;

/// A semaphore by name. Whoever uses it must name the same number of permits. First come, first served.
///
/// ```no_run
/// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
/// # use std::num::NonZeroU32;
/// let five = NonZeroU32::new(5).expect("five is not none");
/// let permit = client.semaphore("semaphores/licences", five).acquire().await?;
/// permit.unlock().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Semaphore {
    client: Client,
    name: Bytes,
    permits: NonZeroU32,
    backing: Backing,
}

impl Client {
    /// A semaphore. Nothing is sent yet. Permits are taken by the session that this client shares among all that has the same TTL, at
    /// first ten seconds.
    pub fn semaphore(&self, name: impl Into<Bytes>, permits: NonZeroU32) -> Semaphore {
        Semaphore {
            client: self.clone(),
            name: name.into(),
            permits,
            backing: Backing::default(),
        }
    }
}

impl Semaphore {
    /// The same semaphore, for permits by the shared session of this TTL.
    pub fn with_ttl(self, ttl: Duration) -> Semaphore {
        Semaphore {
            backing: Backing::Shared(ttl),
            ..self
        }
    }

    /// The same semaphore, for permits by this session.
    pub fn with_session(self, session: &Session) -> Semaphore {
        Semaphore {
            backing: Backing::Own(session.clone()),
            ..self
        }
    }

    /// Takes a permit. Dropping the future gives it up.
    ///
    /// # Errors
    /// See [`Lock::lock`](crate::Lock::lock).
    pub async fn acquire(&self) -> Result<LockGuard> {
        let acquired = self.take(Patience::Wait).await?;
        acquired.ok_or_else(|| Error::garbled("nobody waits for it, and there is no permit"))
    }

    /// Takes a permit if there is one, else `None`. For a moment it stands in the queue.
    ///
    /// # Errors
    /// See [`Lock::lock`](crate::Lock::lock).
    pub async fn try_acquire(&self) -> Result<Option<LockGuard>> {
        self.take(Patience::Leave).await
    }

    async fn take(&self, patience: Patience) -> Result<Option<LockGuard>> {
        let wanted = Wanted {
            prefix: queue(&self.name),
            rivals: queue(&self.name),
            permits: self.permits.get() as usize,
            value: Bytes::new(),
            patience,
        };
        let acquired = acquire(&self.client, &self.backing, wanted).await?;
        Ok(acquired.map(LockGuard))
    }
}
