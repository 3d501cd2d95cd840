//! Sessions, and what they are worth.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use keystead_client as client;
use keystead_client::bytes::Bytes;

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::fork::Mine;

/// What a session, a lock or a leadership is worth at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// Its lease was renewed of late.
    Active,
    /// A renewal is overdue. The lease is ours still, and may yet be renewed.
    Suspect,
    /// It is over, for ever.
    Lost(Loss),
}

/// Why it is over. The numbers never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[non_exhaustive]
pub enum Loss {
    /// No renewal was answered in time.
    Expired = 1,
    /// It was closed, or somebody revoked the lease or removed the key that stood for it.
    Revoked = 2,
    /// The server does not know the lease: it is another cluster now, or was wiped, or restored from before.
    Forgotten = 3,
    /// Renewals were refused for want of a right or a valid token until the time was up.
    AuthFailed = 4,
    /// This process did not run while the time passed.
    Paused = 5,
    /// It is the parent's, and this process is its child.
    Forked = 6,
}

impl From<client::SessionState> for SessionState {
    fn from(state: client::SessionState) -> SessionState {
        match state {
            client::SessionState::Active => SessionState::Active,
            client::SessionState::Suspect => SessionState::Suspect,
            client::SessionState::Lost(loss) => SessionState::Lost(loss.into()),
        }
    }
}

impl From<client::Loss> for Loss {
    fn from(loss: client::Loss) -> Loss {
        match loss {
            client::Loss::Expired => Loss::Expired,
            client::Loss::Forgotten => Loss::Forgotten,
            client::Loss::AuthFailed => Loss::AuthFailed,
            client::Loss::Paused => Loss::Paused,
            // What a later client tells apart ended it from outside.
            client::Loss::Revoked | _ => Loss::Revoked,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Loss::Expired => "no renewal was answered in time",
            Loss::Revoked => "it was revoked",
            Loss::Forgotten => "the server no longer knows it",
            Loss::AuthFailed => "renewals were refused",
            Loss::Paused => "this process was paused for too long",
            Loss::Forked => "it belongs to the process that this one was forked from",
        })
    }
}

/// A lease that is kept alive until this is closed, or the last clone is dropped.
#[derive(Clone)]
pub struct Session {
    /// It is ended when the process ends, for as long as the client is there.
    _client: Client,
    lease: i64,
    ttl: Duration,
    inner: Arc<Mine<client::Session>>,
}

impl Client {
    /// Grants a lease of `ttl` and keeps it alive. Answers `Session`.
    pub fn session(&self, ttl: Duration) -> Call {
        let this = self.clone();
        self.call(
            move |client| async move { client.session(ttl).await },
            |session| {
                Answer::Session(Session {
                    _client: this,
                    lease: session.lease(),
                    ttl: session.ttl(),
                    inner: Arc::new(Mine::new(session)),
                })
            },
        )
    }
}

impl Session {
    /// The id of its lease.
    pub fn lease(&self) -> i64 {
        self.lease
    }

    /// The TTL of its lease, as the server granted it.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// What it is worth, by the clock; no server is asked.
    pub fn state(&self) -> SessionState {
        let forked = SessionState::Lost(Loss::Forked);
        self.inner.get().map_or(forked, |it| it.state().into())
    }

    /// How long it stays ours even if no renewal should get through.
    pub fn remaining(&self) -> Duration {
        self.inner
            .get()
            .map_or(Duration::ZERO, client::Session::remaining)
    }

    /// Waits until it is lost. Answers `Loss`.
    ///
    /// # Errors
    /// `DeadlineExceeded`: it was not lost within `limit`.
    pub fn lost(&self, limit: Option<Duration>) -> Call {
        let this = self.clone();
        Call::new(async move {
            Ok(Answer::Loss(match this.inner.get() {
                Some(session) => session.lost().await.into(),
                None => Loss::Forked,
            }))
        })
        .within(limit, |limit| {
            Error::not_in_time(format!("not lost within {limit:?}"))
        })
    }

    /// Writes a key that goes when the session does. Answers `Put`.
    pub fn put(&self, key: Bytes, value: Bytes) -> Call {
        let this = self.clone();
        Call::new(async move { Ok(Answer::Put(this.get()?.put_ephemeral(key, value).await?)) })
    }

    /// Ends it: what is attached to it goes. Closing it again does nothing. Answers `Done`.
    pub fn close(&self) -> Call {
        let this = self.clone();
        Call::new(async move {
            this.get()?.close().await?;
            Ok(Answer::Done)
        })
    }

    pub(crate) fn get(&self) -> Result<&client::Session> {
        self.inner.get().ok_or_else(Error::forked)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
