//! A registration: a key that is there for as long as this process is, and comes back when its session was lost. A task of its own
//! keeps it; the handle tells and is told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use super::endpoint::{self, Endpoint};
use crate::backoff::ATTEMPTS;
use crate::client::Client;
use crate::error::{Error, Kind, Outcome, Result};
use crate::key_range::KeyRange;
use crate::kv::delete::Delete;
use crate::kv::put::Put;
use crate::lock::ticket::{DOUBT, passes};
use crate::locks::Mutex;
use crate::session::hold::{Hold, over};
use crate::session::shared::{Backing, DEFAULT_TTL};
use crate::session::tenure::Loss;
use crate::txn::compare::{Compare, Relation};
use crate::txn::{Op, Txn};

/// What to register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// The name of the service, the target of Go's resolver.
    pub service: Bytes,
    /// Where it can be reached.
    pub endpoint: Endpoint,
    /// So long it can be found still when this process has died. Registrations with the same TTL share a lease.
    pub ttl: Duration,
}

impl Register {
    /// To be found for ten seconds at most when this process has died.
    pub fn new(service: impl Into<Bytes>, endpoint: Endpoint) -> Register {
        Register {
            service: service.into(),
            endpoint,
            ttl: DEFAULT_TTL,
        }
    }
}

/// Whether it can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegistrationState {
    /// It can, since this revision.
    Registered {
        /// The revision.
        revision: i64,
        /// Why it had to be registered again, unless it is there for the first time.
        after: Option<Loss>,
    },
    /// It can't, or not for long: its session was lost for this reason. It is being registered again.
    Lost(Loss),
}

/// An endpoint that is registered. When the session is lost that it was registered with, it is registered again as soon as that is
/// possible. Dropping it takes it out of the registry, in the background.
///
/// A key that somebody else deletes is not put back: it may be meant.
pub struct Registration {
    key: Bytes,
    limit: Duration,
    states: watch::Receiver<RegistrationState>,
    /// Until it is withdrawn.
    leave: Mutex<Option<oneshot::Sender<oneshot::Sender<Result<()>>>>>,
}

impl Client {
    /// Registers an address of a service. When it returns, everybody finds it.
    ///
    /// ```no_run
    /// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
    /// # use keystead_client::{Endpoint, Pick};
    /// let registration = client.register("services/api", Endpoint::new("10.0.0.1:80")).await?;
    /// let api = client.resolve("services/api").await?;
    /// assert!(api.pick(Pick::RoundRobin)?.is_some());
    /// registration.withdraw().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Client::grant`] and [`Client::put_with`]. Nothing is left of it then.
    pub async fn register(
        &self,
        service: impl Into<Bytes>,
        endpoint: Endpoint,
    ) -> Result<Registration> {
        self.register_with(Register::new(service, endpoint)).await
    }

    /// The same with every option.
    ///
    /// # Errors
    /// See [`Client::register`].
    pub async fn register_with(&self, register: Register) -> Result<Registration> {
        let key = endpoint::key(&register.service, &register.endpoint.address);
        let (told, states) = watch::channel(RegistrationState::Lost(Loss::Revoked));
        let (leave, left) = oneshot::channel();
        let (first, registered) = oneshot::channel();
        let keeper = Keeper {
            client: self.clone(),
            backing: Backing::Shared(register.ttl),
            put: Put::new(key.clone(), endpoint::encode(&register.endpoint)),
            place: None,
            told,
        };
        tokio::spawn(keeper.run(first, left));
        let registration = Registration {
            key,
            limit: self.call_options().deadline,
            states,
            leave: Mutex::new(Some(leave)),
        };
        let registered = registered.await;
        registered.unwrap_or_else(|_| Err(over(Loss::Revoked)))?;
        Ok(registration)
    }
}

impl Registration {
    /// Its key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// Whether it can be found, as far as this process knows.
    pub fn state(&self) -> RegistrationState {
        *self.states.borrow()
    }

    /// Waits until its state is another than `seen`.
    ///
    /// # Errors
    /// `Closed`: the client was closed, or its sessions were ended, and it will not be registered again.
    pub async fn changed(&self, seen: RegistrationState) -> Result<RegistrationState> {
        let mut states = self.states.clone();
        let changed = states.wait_for(|&state| state != seen).await;
        changed.map(|state| *state).map_err(|_| closed())
    }

    /// Takes it out of the registry, if it is still this one that is there, and waits until that is done or until the deadline: it
    /// goes on in the background then.
    ///
    /// # Errors
    /// `DeadlineExceeded`: no answer yet. `PermissionDenied` and the like: it goes when its session does. `Closed`: the client was
    /// closed, or it was withdrawn before.
    pub async fn withdraw(&self) -> Result<()> {
        let (reply, withdrawn) = oneshot::channel();
        let leave = self.leave.lock().take();
        if leave.is_none_or(|leave| leave.send(reply).is_err()) {
            return Err(closed());
        }
        match timeout(self.limit, withdrawn).await {
            Ok(done) => done.unwrap_or_else(|_| Err(closed())),
            Err(_) => Err(Error {
                outcome: Outcome::Unknown,
                ..Error::local(
                    Kind::DeadlineExceeded,
                    Code::DeadlineExceeded,
                    format!("not withdrawn within {:?}", self.limit),
                )
            }),
        }
    }
}

fn closed() -> Error {
    Error::local(Kind::Closed, Code::Cancelled, "the client was closed")
}

/// The task.
struct Keeper {
    client: Client,
    backing: Backing,
    /// The key and its value; the lease is that of the session of the time.
    put: Put,
    place: Option<Place>,
    told: watch::Sender<RegistrationState>,
}

/// What was put where, as far as is known.
struct Place {
    hold: Arc<Hold>,
    /// The revision of the put that is known to be the last; none while one is under way.
    revision: Option<i64>,
    /// A put was left open: it may be applied later than all that follows.
    doubtful: bool,
}

impl Keeper {
    async fn run(
        mut self,
        first: oneshot::Sender<Result<()>>,
        mut left: oneshot::Receiver<oneshot::Sender<Result<()>>>,
    ) {
        let reply = tokio::select! {
            reply = &mut left => reply.ok(),
            () = self.keep(first) => return self.withdraw(None).await,
        };
        self.withdraw(reply).await;
    }

    /// Registers, and again after every loss that was not meant; returns when that is over for good.
    async fn keep(&mut self, first: oneshot::Sender<Result<()>>) {
        let deadline = Instant::now() + self.client.call_options().deadline;
        let mut failures = 0;
        let entered = loop {
            match self.enter(None).await {
                // The put is the same however often it is applied.
                Err(error) if error.outcome == Outcome::Unknown && Instant::now() < deadline => {
                    failures += 1;
                    sleep(ATTEMPTS.after(failures)).await;
                }
                entered => break entered,
            }
        };
        let failed = entered.is_err();
        let _ = first.send(entered);
        if failed {
            return;
        }
        while let Some(place) = &self.place {
            let loss = place.hold.tenure().lost().await;
            if place.hold.is_closed() {
                // The client is about to be: nobody is to find what goes.
                self.told.send_replace(RegistrationState::Lost(loss));
                return;
            }
            tracing::warn!(key = ?self.put.key, %loss, "a registration was lost");
            self.told.send_replace(RegistrationState::Lost(loss));
            let mut failures = 0;
            while let Err(error) = self.enter(Some(loss)).await {
                tracing::debug!(%error, "not registered again yet");
                if error.kind == Kind::Closed {
                    return;
                }
                failures += 1;
                sleep(ATTEMPTS.after(failures)).await;
            }
        }
    }

    /// Puts the key there, with a session that is not lost.
    async fn enter(&mut self, after: Option<Loss>) -> Result<()> {
        let hold = self.backing.hold(&self.client).await?;
        let same = self
            .place
            .take()
            .filter(|place| Arc::ptr_eq(&place.hold, &hold));
        let place = self.place.insert(Place {
            doubtful: same.is_some_and(|place| place.doubtful || place.revision.is_none()),
            hold,
            revision: None,
        });
        let put = Put {
            lease: place.hold.tenure().lease(),
            ..self.put.clone()
        };
        match self.client.put_with(put).await {
            Ok(done) => {
                let revision = done.header.revision;
                place.revision = Some(revision);
                place.hold.tenure().used(revision);
                self.told
                    .send_replace(RegistrationState::Registered { revision, after });
                Ok(())
            }
            Err(error) => {
                if error.outcome == Outcome::NotApplied && !place.doubtful {
                    self.place = None;
                }
                Err(error)
            }
        }
    }

    /// Removes what may be there, as long as the session is there that it goes with otherwise.
    async fn withdraw(self, reply: Option<oneshot::Sender<Result<()>>>) {
        let Some(place) = self.place else {
            reply.map(|reply| reply.send(Ok(())));
            return;
        };
        let key = self.put.key;
        let own = match place.revision {
            Some(revision) if !place.doubtful => {
                Compare::mod_revision(key.clone(), Relation::Equal, revision)
            }
            _ => Compare::lease(key.clone(), Relation::Equal, place.hold.tenure().lease()),
        };
        let removal = Txn::when([own]).then([Op::Delete(Delete::new(KeyRange::key(key)))]);
        let removed = remove(&self.client, &place.hold, &removal).await;
        reply.map(|reply| reply.send(removed));
        if place.doubtful || place.revision.is_none() {
            sleep(DOUBT).await;
            let _ = remove(&self.client, &place.hold, &removal).await;
        }
    }
}

/// Failures that pass by themselves are waited out, until the session is over: then the key goes with it.
async fn remove(client: &Client, hold: &Hold, removal: &Txn) -> Result<()> {
    let mut failures = 0;
    while hold.tenure().state().loss().is_none() {
        match client.txn(removal.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) if passes(&error) => {
                failures += 1;
                sleep(ATTEMPTS.after(failures)).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
