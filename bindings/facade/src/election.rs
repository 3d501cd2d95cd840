//! Elections.

use std::sync::Arc;
use std::time::Duration;

use keystead_client as client;
use keystead_client::bytes::Bytes;
use tokio::sync::Mutex;

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::fork::Mine;
use crate::lock::{By, Guard, Held, not_free, taken_by};
use crate::session::Session;

/// An election by name.
#[derive(Clone)]
pub struct Election {
    client: Client,
    name: Bytes,
    by: By,
}

impl Client {
    /// An election, to campaign in by `session`, or by the shared session of `ttl`. Nothing is sent yet.
    pub fn election(
        &self,
        name: Bytes,
        session: Option<Session>,
        ttl: Option<Duration>,
    ) -> Election {
        Election {
            client: self.clone(),
            name,
            by: By::new(session, ttl),
        }
    }
}

impl Election {
    /// Its name.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Stands as a candidate, and waits until it leads. Answers `Guard`, which is there. Cancelling the call withdraws.
    ///
    /// # Errors
    /// `LockTimeout`: it did not lead within `limit`. See [`client::Election::campaign`].
    pub fn campaign(&self, value: Bytes, limit: Option<Duration>) -> Call {
        let (this, name) = (self.clone(), self.name.clone());
        Call::new(async move {
            let leadership = this.get()?.campaign(value).await?;
            Ok(Answer::Guard(Some(Guard::new(
                &this.client,
                Held::Leadership(leadership),
            ))))
        })
        .within(limit, move |limit| not_free(&name, limit))
    }

    /// Who leads, with what was proclaimed last. Answers `KeyValue`.
    pub fn leader(&self) -> Call {
        let this = self.clone();
        Call::new(async move { Ok(Answer::KeyValue(this.get()?.leader().await?)) })
    }

    /// Tells who leads, as it changes. Nothing is sent yet.
    pub fn observe(&self) -> LeaderObserver {
        LeaderObserver {
            election: self.clone(),
            begun: Arc::new(Mine::new(Mutex::new(None))),
        }
    }

    fn get(&self) -> Result<client::Election> {
        let election = self.client.get()?.election(self.name.clone());
        Ok(taken_by!(election, &self.by))
    }
}

/// Tells who leads.
#[derive(Clone)]
pub struct LeaderObserver {
    election: Election,
    begun: Arc<Mine<Mutex<Option<client::Observer>>>>,
}

impl LeaderObserver {
    /// Waits for the next news. Answers `Leader`. Cancelling the call loses nothing.
    ///
    /// # Errors
    /// `DeadlineExceeded`: there was none within `limit`. See [`client::Observer::next`].
    pub fn next(&self, limit: Option<Duration>) -> Call {
        let this = self.clone();
        Call::new(async move {
            let mut begun = this.begun.get().ok_or_else(Error::forked)?.lock().await;
            let observer = match &mut *begun {
                Some(observer) => observer,
                none => none.insert(this.election.get()?.observe()),
            };
            Ok(Answer::Leader(observer.next().await?))
        })
        .within(limit, |limit| {
            Error::not_in_time(format!("no news within {limit:?}"))
        })
    }
}
