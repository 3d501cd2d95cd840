//! Locks, and the guard of whatever is held.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keystead_client as client;
use keystead_client::bytes::Bytes;
use keystead_client::{Leadership, LockGuard, Put, Txn};

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::fork::Mine;
use crate::session::{Loss, Session, SessionState};

/// A lock by name.
#[derive(Clone)]
pub struct Lock {
    client: Client,
    name: Bytes,
    by: By,
}

/// By which session something is taken.
#[derive(Clone, Default)]
pub(crate) enum By {
    /// The one that all share with this TTL; ten seconds where there is none.
    #[default]
    Default,
    Ttl(Duration),
    Session(Session),
}

impl By {
    /// A session of one's own goes before a TTL.
    pub(crate) fn new(session: Option<Session>, ttl: Option<Duration>) -> By {
        match (session, ttl) {
            (Some(session), _) => By::Session(session),
            (None, Some(ttl)) => By::Ttl(ttl),
            (None, None) => By::Default,
        }
    }
}

/// What takes a lock by a session: the same for all that do.
macro_rules! taken_by {
    ($taken:expr, $by:expr) => {
        match $by {
            By::Default => $taken,
            By::Ttl(ttl) => $taken.with_ttl(*ttl),
            By::Session(session) => $taken.with_session(session.get()?),
        }
    };
}
pub(crate) use taken_by;

impl Client {
    /// A lock, to be taken by `session`, or by the shared session of `ttl`. Nothing is sent yet.
    pub fn lock(&self, name: Bytes, session: Option<Session>, ttl: Option<Duration>) -> Lock {
        Lock {
            client: self.clone(),
            name,
            by: By::new(session, ttl),
        }
    }
}

impl Lock {
    /// Its name.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Takes it. Answers `Guard`, which is there. Cancelling the call gives it up and leaves nothing behind that could own it.
    ///
    /// # Errors
    /// `LockTimeout`: it was not free within `limit`; with a limit of zero it is taken if it is free. See [`client::Lock::lock`].
    pub fn lock(&self, limit: Option<Duration>) -> Call {
        let (this, name) = (self.clone(), self.name.clone());
        if limit == Some(Duration::ZERO) {
            return Call::new(async move {
                held_at_once(&this.client, &this.name, this.get()?.try_lock().await?)
            });
        }
        Call::new(async move { Ok(held(&this.client, this.get()?.lock().await?)) })
            .within(limit, move |limit| not_free(&name, limit))
    }

    /// Takes it if it is free. Answers `Guard`.
    pub fn try_lock(&self) -> Call {
        let this = self.clone();
        Call::new(async move { Ok(perhaps_held(&this.client, this.get()?.try_lock().await?)) })
    }

    fn get(&self) -> Result<client::Lock> {
        let lock = self.client.get()?.lock(self.name.clone());
        Ok(taken_by!(lock, &self.by))
    }
}

/// What came of a wait for that name that was too short.
pub(crate) fn not_free(name: &Bytes, limit: Duration) -> Error {
    let name = String::from_utf8_lossy(name);
    if limit.is_zero() {
        return Error::lock_timeout(format!("{name:?} was not free"));
    }
    Error::lock_timeout(format!("{name:?} was not free within {limit:?}"))
}

pub(crate) fn held(client: &Client, guard: LockGuard) -> Answer {
    Answer::Guard(Some(Guard::new(client, Held::Lock(guard))))
}

/// What was to be had without a wait.
pub(crate) fn held_at_once(
    client: &Client,
    name: &Bytes,
    guard: Option<LockGuard>,
) -> Result<Answer> {
    let guard = guard.ok_or_else(|| not_free(name, Duration::ZERO))?;
    Ok(held(client, guard))
}

pub(crate) fn perhaps_held(client: &Client, guard: Option<LockGuard>) -> Answer {
    Answer::Guard(guard.map(|guard| Guard::new(client, Held::Lock(guard))))
}

/// What is held: a lock or a leadership. Dropping the last clone releases it, in the background. Lost in a child of the process.
#[derive(Clone)]
pub struct Guard {
    facts: Arc<Facts>,
    held: Arc<Mine<Held>>,
}

struct Facts {
    /// Its sessions are ended when the process ends, for as long as it is there.
    _client: Client,
    fencing_token: i64,
    key: Bytes,
    lease: i64,
    released: AtomicBool,
}

pub(crate) enum Held {
    Lock(LockGuard),
    Leadership(Leadership),
}

impl Held {
    fn guard(&self) -> &client::Guard {
        match self {
            Held::Lock(guard) => guard,
            Held::Leadership(leadership) => leadership,
        }
    }
}

impl Guard {
    pub(crate) fn new(client: &Client, held: Held) -> Guard {
        let guard = held.guard();
        Guard {
            facts: Arc::new(Facts {
                _client: client.clone(),
                fencing_token: guard.fencing_token(),
                key: guard.key().clone(),
                lease: guard.lease(),
                released: AtomicBool::new(false),
            }),
            held: Arc::new(Mine::new(held)),
        }
    }

    /// Higher for every later holder. Of a leadership it is the term.
    pub fn fencing_token(&self) -> i64 {
        self.facts.fencing_token
    }

    /// The key that stands for it.
    pub fn key(&self) -> &Bytes {
        &self.facts.key
    }

    /// The lease that the key is attached to.
    pub fn lease(&self) -> i64 {
        self.facts.lease
    }

    /// What it is worth, by the clock; no server is asked.
    pub fn state(&self) -> SessionState {
        let forked = SessionState::Lost(Loss::Forked);
        self.held
            .get()
            .map_or(forked, |held| held.guard().state().into())
    }

    /// It was released here.
    pub fn is_released(&self) -> bool {
        self.facts.released.load(Ordering::Relaxed)
    }

    /// That it is held.
    ///
    /// # Errors
    /// `LockLost`: it is not.
    pub fn check(&self) -> Result<()> {
        match self.state() {
            SessionState::Lost(_) if self.is_released() => Err(Error::lock_lost("it was released")),
            SessionState::Lost(loss) => Err(Error::lock_lost(format!("the lock was lost: {loss}"))),
            SessionState::Active | SessionState::Suspect => Ok(()),
        }
    }

    /// Waits until it is lost or released. Answers `Loss`.
    ///
    /// # Errors
    /// `DeadlineExceeded`: it was not lost within `limit`.
    pub fn lost(&self, limit: Option<Duration>) -> Call {
        let this = self.clone();
        Call::new(async move {
            Ok(Answer::Loss(match this.held.get() {
                Some(held) => held.guard().lost().await.into(),
                None => Loss::Forked,
            }))
        })
        .within(limit, |limit| {
            Error::not_in_time(format!("not lost within {limit:?}"))
        })
    }

    /// Writes one key if it is held, in one step. Answers `Put`.
    ///
    /// # Errors
    /// `LockLost`: it is not held; nothing was written.
    pub fn put(&self, put: Put) -> Call {
        let this = self.clone();
        Call::new(async move { Ok(Answer::Put(this.get()?.guard().put_with(put).await?)) })
    }

    /// Runs a transaction if it is held, in one step. Answers `Txn`.
    ///
    /// # Errors
    /// `LockLost`: it is not held; neither of its branches ran.
    pub fn txn(&self, txn: Txn) -> Call {
        let this = self.clone();
        Call::new(async move { Ok(Answer::Txn(this.get()?.guard().txn(txn).await?)) })
    }

    /// Says something else to those who observe. Answers `Done`.
    ///
    /// # Errors
    /// `LockLost`: it does not lead any more. `InvalidArgument`: it is no leadership.
    pub fn proclaim(&self, value: Bytes) -> Call {
        let this = self.clone();
        Call::new(async move {
            match this.get()? {
                Held::Leadership(leadership) => leadership.proclaim(value).await?,
                Held::Lock(_) => return Err(Error::invalid("a lock proclaims nothing")),
            }
            Ok(Answer::Done)
        })
    }

    /// Unlocks it, or resigns. Releasing it again does nothing. Answers `Done`.
    ///
    /// # Errors
    /// `LockLost`: it had been lost before. `DeadlineExceeded`: no answer yet; it goes on in the background.
    pub fn release(&self) -> Call {
        let this = self.clone();
        Call::new(async move {
            let held = this.get_held()?;
            if !this.facts.released.swap(true, Ordering::Relaxed) {
                match held {
                    Held::Lock(guard) => guard.unlock().await?,
                    Held::Leadership(leadership) => leadership.resign().await?,
                }
            }
            Ok(Answer::Done)
        })
    }

    fn get(&self) -> Result<&Held> {
        if self.is_released() {
            return Err(Error::lock_lost("it was released"));
        }
        self.get_held()
    }

    fn get_held(&self) -> Result<&Held> {
        let lost = || Error::lock_lost(format!("the lock was lost: {}", Loss::Forked));
        self.held.get().ok_or_else(lost)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("fencing_token", &self.facts.fencing_token)
            .finish_non_exhaustive()
    }
}
