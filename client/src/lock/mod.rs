//! Locks that know when they are lost. `acquisition` makes and waits for a place in the queue, `ticket` is that place, `guard` what the
//! holder holds, `changes` the news of a queue; an election is the same queue with values.

pub(crate) mod acquisition;
pub(crate) mod changes;
pub(crate) mod guard;
pub(crate) mod ticket;

use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tonic::Code;

use crate::client::Client;
use crate::error::{Error, Kind, Result};
use crate::session::Session;
use crate::session::shared::Backing;
use acquisition::{Patience, Wanted, acquire};
use guard::Guard;

/// A lock by name. Who has it is decided by the server, in the order in which they asked; it excludes Go's `concurrency.Mutex` of the same name, too.
///
/// ```no_run
/// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
/// let lock = client.lock("locks/report");
/// let guard = lock.lock().await?;
/// guard.put("report", "written by the one who may").await?;
/// guard.unlock().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Lock {
    client: Client,
    name: Bytes,
    backing: Backing,
}

impl Client {
    /// A lock. Nothing is sent yet. It is taken by the session that this client shares among all that has the same TTL, at first ten seconds.
    pub fn lock(&self, name: impl Into<Bytes>) -> Lock {
        Lock {
            client: self.clone(),
            name: name.into(),
            backing: Backing::default(),
        }
    }
}

impl Lock {
    /// The same lock, to be taken by the shared session of this TTL: so long the others wait for a holder that died.
    pub fn with_ttl(self, ttl: Duration) -> Lock {
        Lock {
            backing: Backing::Shared(ttl),
            ..self
        }
    }

    /// The same lock, to be taken by this session.
    pub fn with_session(self, session: &Session) -> Lock {
        Lock {
            backing: Backing::Own(session.clone()),
            ..self
        }
    }

    /// Takes it, and waits for as long as that takes. Dropping the future gives it up, and leaves nothing behind that could become the owner.
    ///
    /// # Errors
    /// `LeaseNotFound`: the session was lost meanwhile. `LockLost`: somebody removed the key meanwhile. `Unavailable` and the like: no
    /// place in the queue could be made before the client's deadline; once there is one, failures that pass are waited out.
    pub async fn lock(&self) -> Result<LockGuard> {
        match self.acquire(Patience::Wait).await? {
            Some(guard) => Ok(guard),
            None => Err(Error::garbled("nobody waits for it, and it is not free")),
        }
    }

    /// The same for so long at most.
    ///
    /// # Errors
    /// `DeadlineExceeded`: it was not free in time. Otherwise see [`Lock::lock`].
    pub async fn lock_within(&self, limit: Duration) -> Result<LockGuard> {
        timeout(limit, self.lock()).await.unwrap_or_else(|_| {
            let message = format!("the lock was not free within {limit:?}");
            Err(Error::local(
                Kind::DeadlineExceeded,
                Code::DeadlineExceeded,
                message,
            ))
        })
    }

    /// Takes it if it is free, else `None`: then it was at no time in the queue.
    ///
    /// # Errors
    /// See [`Lock::lock`].
    pub async fn try_lock(&self) -> Result<Option<LockGuard>> {
        self.acquire(Patience::Leave).await
    }

    async fn acquire(&self, patience: Patience) -> Result<Option<LockGuard>> {
        let wanted = Wanted {
            prefix: queue(&self.name),
            rivals: queue(&self.name),
            permits: 1,
            value: Bytes::new(),
            patience,
        };
        let acquired = acquire(&self.client, &self.backing, wanted).await?;
        Ok(acquired.map(LockGuard))
    }
}

/// The prefix of a queue by name, as Go's package has it.
pub(crate) fn queue(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// A lock that is held. What it can do besides being unlocked is said at [`Guard`].
pub struct LockGuard(pub(crate) Guard);

impl LockGuard {
    /// Unlocks it: the key is removed if it is still this guard's own. From then on nothing is held, for nobody who shares the guard.
    ///
    /// # Errors
    /// `LockLost`: it had been lost or unlocked before. `DeadlineExceeded`: no answer yet; unlocking goes on in the background.
    pub async fn unlock(&self) -> Result<()> {
        self.0.release().await
    }
}

impl Deref for LockGuard {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.0
    }
}
