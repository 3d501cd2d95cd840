//! The sessions of a client: one for each TTL that locks, elections and registrations share, and the streams that keep
//! all of them alive.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use super::Session;
use super::clock::Moment;
use super::hold::{Hold, over};
use super::renewal::Renewals;
use super::tenure::{Loss, Tenure};
use crate::channel::Channel;
use crate::client::Client;
use crate::error::Result;
use crate::lease::ttl_secs;
use crate::locks::Mutex;
use crate::options::CallOptions;

/// The TTL of what is taken without naming one: a holder that dies blocks the others that long, a holder without a connection keeps
/// what it has nearly that long.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_secs(10);

/// What the clones of a client share. It holds no client, so the last clone takes it along.
pub(crate) struct Sessions {
    renewals: Arc<Renewals>,
    /// Of what sessions do by themselves.
    options: CallOptions,
    /// By TTL in seconds. One that is lost is replaced by the next who asks.
    shared: Mutex<HashMap<i64, Arc<OnceCell<Arc<Hold>>>>>,
    /// Every session that was started, shared or not. Those that are gone are forgotten when one is added.
    started: Mutex<Vec<Weak<Hold>>>,
}

/// By which session something is taken.
#[derive(Clone)]
pub(crate) enum Backing {
    /// The one that all share with this TTL.
    Shared(Duration),
    /// The user's own.
    Own(Session),
}

impl Default for Backing {
    fn default() -> Backing {
        Backing::Shared(DEFAULT_TTL)
    }
}

impl Backing {
    /// The session, which is there and was not lost just now.
    pub(crate) async fn hold(&self, client: &Client) -> Result<Arc<Hold>> {
        match self {
            Backing::Shared(ttl) => client.sessions().shared(client, *ttl).await,
            Backing::Own(session) => {
                session.hold().usable()?;
                Ok(session.hold().clone())
            }
        }
    }
}

impl Sessions {
    pub(crate) fn new(channel: Channel, options: CallOptions) -> Sessions {
        Sessions {
            renewals: Arc::new(Renewals::new(channel, options)),
            options,
            shared: Mutex::default(),
            started: Mutex::default(),
        }
    }

    /// Grants a lease and keeps it alive. Should the caller go, the lease that is granted meanwhile is given back.
    pub(crate) async fn start(&self, client: &Client, ttl: Duration) -> Result<Arc<Hold>> {
        let (client, renewals, options) = (client.clone(), self.renewals.clone(), self.options);
        let started = tokio::spawn(async move {
            let sent = Moment::now();
            let granted = client.grant(ttl).await?;
            let sink = client.channel().sink().clone();
            let tenure = Tenure::new(granted.lease, granted.ttl, sent, granted.header, sink);
            let tenure = Arc::new(tenure);
            let renewing = renewals.keep(tenure.clone());
            let channel = client.channel().clone();
            Ok(Hold::new(tenure, renewing, channel, options))
        });
        let hold = started.await.unwrap_or_else(|_| Err(over(Loss::Revoked)))?;
        let mut started = self.started.lock();
        started.retain(|hold| hold.strong_count() > 0);
        started.push(Arc::downgrade(&hold));
        Ok(hold)
    }

    /// Ends all that are there, at the same time.
    pub(crate) async fn end(&self) -> Result<()> {
        let started = std::mem::take(&mut *self.started.lock());
        let mut ends = JoinSet::new();
        for hold in started.iter().filter_map(Weak::upgrade) {
            ends.spawn(async move { hold.close().await });
        }
        let ends = ends.join_all().await;
        ends.into_iter().collect()
    }

    async fn shared(&self, client: &Client, ttl: Duration) -> Result<Arc<Hold>> {
        loop {
            let cell = self.shared.lock().entry(ttl_secs(ttl)).or_default().clone();
            let hold = cell.get_or_try_init(|| self.start(client, ttl)).await?;
            if hold.usable().is_ok() {
                return Ok(hold.clone());
            }
            let mut shared = self.shared.lock();
            if shared
                .get(&ttl_secs(ttl))
                .is_some_and(|now| Arc::ptr_eq(now, &cell))
            {
                shared.remove(&ttl_secs(ttl));
            }
        }
    }
}
