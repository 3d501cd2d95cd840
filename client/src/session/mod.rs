//! Sessions: a lease that is kept alive, and what this process holds by it.
//!
//! ```text
//!   Session ──┐                                   ┌─► Renewals: one stream for many leases
//!   guards ───┼─► Hold ─► orders ─► task of its own ──► jobs: acquisitions, releases
//!   jobs ─────┘    └─► Tenure: the state            └─► revokes the lease at the end
//! ```
//!
//! Whoever needs the session has a reference to its [`Hold`]; when the last one goes the task revokes the lease. So nothing that is dropped
//! ever waits: it hands the task an order.

pub(crate) mod clock;
pub(crate) mod hold;
pub(crate) mod names;
mod renewal;
pub(crate) mod shared;
pub(crate) mod tenure;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::client::Client;
use crate::error::Result;
use crate::kv::put::{Put, PutResult};
use hold::Hold;
use tenure::{Loss, SessionState};

/// A lease that is kept alive for as long as a clone of this exists, or a guard of a lock or an election that was taken with it. Dropping
/// the last of them revokes the lease, in the background: the keys that are attached to it go, and whoever waited for
/// them goes on.
///
/// ```no_run
/// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
/// # use std::time::Duration;
/// let session = client.session(Duration::from_secs(10)).await?;
/// session.put_ephemeral("workers/7", "here").await?;
/// tokio::select! {
///     loss = session.lost() => println!("it is gone: {loss}"),
///     () = tokio::time::sleep(Duration::from_secs(60)) => session.close().await?,
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Session {
    client: Client,
    hold: Arc<Hold>,
}

impl Session {
    pub(crate) fn new(client: Client, hold: Arc<Hold>) -> Session {
        Session { client, hold }
    }

    pub(crate) fn hold(&self) -> &Arc<Hold> {
        &self.hold
    }

    /// The id of its lease.
    pub fn lease(&self) -> i64 {
        self.hold.tenure().lease()
    }

    /// The TTL of its lease, as the server granted it.
    pub fn ttl(&self) -> Duration {
        self.hold.tenure().ttl()
    }

    /// What it is worth at this very moment, by the clock; no server is asked.
    pub fn state(&self) -> SessionState {
        self.hold.tenure().state()
    }

    /// How long it stays ours from now on even if no renewal should get through; zero when it is lost.
    pub fn remaining(&self) -> Duration {
        self.hold.tenure().remaining_at(clock::Moment::now())
    }

    /// Waits until it is lost, and says why. While this process runs, that is before the server ends the lease.
    pub async fn lost(&self) -> Loss {
        self.hold.tenure().lost().await
    }

    /// Waits until its state is another than `seen`.
    pub async fn changed(&self, seen: SessionState) -> SessionState {
        let mut states = self.hold.tenure().watch();
        loop {
            let state = *states.borrow_and_update();
            if state != seen {
                return state;
            }
            // The sender lives as long as `self`.
            let _ = states.changed().await;
        }
    }

    /// Writes a key that goes when the session does.
    ///
    /// # Errors
    /// `LeaseNotFound`: the session is over. Otherwise see [`Client::put_with`].
    pub async fn put_ephemeral(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<PutResult> {
        self.hold.usable()?;
        let put = Put {
            lease: self.lease(),
            ..Put::new(key, value)
        };
        let done = self.client.put_with(put).await?;
        self.hold.tenure().used(done.header.revision);
        Ok(done)
    }

    /// Ends it now: its state is `Lost(Revoked)` at once, for its clones and guards too, and the lease is revoked. It goes on in the background should
    /// the caller not wait.
    ///
    /// # Errors
    /// The lease could not be revoked; it ends by itself after its TTL.
    pub async fn close(&self) -> Result<()> {
        self.hold.close().await
    }
}

impl Client {
    /// Grants a lease of `ttl` and keeps it alive.
    ///
    /// # Errors
    /// See [`Client::grant`].
    pub async fn session(&self, ttl: Duration) -> Result<Session> {
        let hold = self.sessions().start(self, ttl).await?;
        Ok(Session::new(self.clone(), hold))
    }
}
