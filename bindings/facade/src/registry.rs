//! Services: registering an address, and finding those of others.

use std::fmt;
use std::sync::Arc;

use keystead_client as client;
use keystead_client::bytes::Bytes;
use keystead_client::{Endpoint, Pick, Register};

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::fork::Mine;
use crate::session::Loss;

/// Whether an address can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegistrationState {
    /// It can, since this revision, because of this loss or for the first time.
    Registered {
        /// The revision.
        revision: i64,
        /// Why it had to be registered again.
        after: Option<Loss>,
    },
    /// Its session was lost; it is being registered again, unless it is the parent's.
    Lost(Loss),
}

impl From<client::RegistrationState> for RegistrationState {
    fn from(state: client::RegistrationState) -> RegistrationState {
        match state {
            client::RegistrationState::Registered { revision, after } => {
                RegistrationState::Registered {
                    revision,
                    after: after.map(Loss::from),
                }
            }
            client::RegistrationState::Lost(loss) => RegistrationState::Lost(loss.into()),
            // What a later client tells apart is not to be relied on.
            _ => RegistrationState::Lost(Loss::Revoked),
        }
    }
}

/// An endpoint that is registered. Dropping the last clone takes it out of the registry, in the background.
#[derive(Clone)]
pub struct Registration {
    /// It is withdrawn when the process ends, for as long as the client is there.
    _client: Client,
    key: Bytes,
    inner: Arc<Mine<client::Registration>>,
}

impl Client {
    /// Registers an address of a service. Answers `Registration`.
    pub fn register(&self, register: Register) -> Call {
        let this = self.clone();
        self.call(
            |client| async move { client.register_with(register).await },
            |registration| {
                Answer::Registration(Registration {
                    _client: this,
                    key: registration.key().clone(),
                    inner: Arc::new(Mine::new(registration)),
                })
            },
        )
    }

    /// Follows where a service can be reached. Answers `Resolver`.
    pub fn resolve(&self, service: Bytes) -> Call {
        self.call(
            |client| async move { client.resolve(service).await },
            |resolver| Answer::Resolver(Resolver(Arc::new(Mine::new(resolver)))),
        )
    }
}

impl Registration {
    /// Its key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// Whether it can be found, as far as this process knows.
    pub fn state(&self) -> RegistrationState {
        let forked = RegistrationState::Lost(Loss::Forked);
        self.inner.get().map_or(forked, |it| it.state().into())
    }

    /// Waits until its state is another than `seen`. Answers `RegistrationState`.
    pub fn changed(&self, seen: RegistrationState) -> Call {
        let this = self.clone();
        Call::new(async move {
            let registration = this.inner.get().ok_or_else(Error::forked)?;
            let mut now = registration.state();
            while RegistrationState::from(now) == seen {
                now = registration.changed(now).await?;
            }
            Ok(Answer::RegistrationState(now.into()))
        })
    }

    /// Takes it out of the registry. Answers `Done`.
    pub fn withdraw(&self) -> Call {
        let this = self.clone();
        Call::new(async move {
            this.inner
                .get()
                .ok_or_else(Error::forked)?
                .withdraw()
                .await?;
            Ok(Answer::Done)
        })
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Where a service can be reached. Closing it ends it, and dropping the last clone. Lost in a child of the process.
#[derive(Clone)]
pub struct Resolver(Arc<Mine<client::Resolver>>);

impl Resolver {
    /// All that are registered, in the order of their keys.
    ///
    /// # Errors
    /// See [`client::Resolver::endpoints`].
    pub fn endpoints(&self) -> Result<Arc<[Endpoint]>> {
        Ok(self.get()?.endpoints()?)
    }

    /// One of them; `None` when there is none.
    ///
    /// # Errors
    /// See [`Resolver::endpoints`].
    pub fn pick(&self, pick: Pick) -> Result<Option<Endpoint>> {
        Ok(self.get()?.pick(pick)?)
    }

    /// Waits until they are others than `seen`. Answers `Endpoints`.
    pub fn changed(&self, seen: Vec<Endpoint>) -> Call {
        let this = self.clone();
        Call::new(async move { Ok(Answer::Endpoints(this.get()?.changed(&seen).await?)) })
    }

    /// Waits until everything is known that was registered before. Answers `Revision`.
    pub fn sync(&self) -> Call {
        let this = self.clone();
        Call::new(async move { Ok(Answer::Revision(this.get()?.cache().sync().await?)) })
    }

    /// Ends it: whatever is asked of it from now on is refused with `Closed`. Closing it again does nothing, as does closing it in a child.
    pub fn close(&self) {
        if let Some(resolver) = self.0.get() {
            resolver.close();
        }
    }

    fn get(&self) -> Result<&client::Resolver> {
        self.0.get().ok_or_else(Error::forked)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}
