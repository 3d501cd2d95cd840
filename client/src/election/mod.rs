//! Elections: the queue of a lock, in which every candidate's key holds a value and the first one leads.

pub(crate) mod observe;

use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use keystead_proto::mvccpb::KeyValue;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::kv::put::Put;
use crate::kv::range::{Order, Range};
use crate::lock::acquisition::{Patience, Wanted, acquire};
use crate::lock::guard::Guard;
use crate::lock::queue;
use crate::lock::ticket::first;
use crate::session::Session;
use crate::session::shared::Backing;

/// An election by name. Candidates lead in the order in which they campaigned; those of Go's `concurrency.Election` of the same name stand
/// in the same queue.
///
/// ```no_run
/// # async fn example(client: keystead_client::Client) -> keystead_client::Result<()> {
/// let election = client.election("elections/scheduler");
/// let leadership = election.campaign("10.0.0.1:8080").await?;
/// leadership.put("schedule", "made by the one who leads").await?;
/// leadership.proclaim("10.0.0.1:8081").await?;
/// leadership.resign().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Election {
    client: Client,
    name: Bytes,
    backing: Backing,
}

impl Client {
    /// An election. Nothing is sent yet. Whoever campaigns does so by the session that this client shares among all that has
    /// the same TTL, at first ten seconds.
    pub fn election(&self, name: impl Into<Bytes>) -> Election {
        Election {
            client: self.clone(),
            name: name.into(),
            backing: Backing::default(),
        }
    }
}

impl Election {
    /// The same election, to campaign in by the shared session of this TTL: so long a leader that died is not replaced.
    pub fn with_ttl(self, ttl: Duration) -> Election {
        Election {
            backing: Backing::Shared(ttl),
            ..self
        }
    }

    /// The same election, to campaign in by this session.
    pub fn with_session(self, session: &Session) -> Election {
        Election {
            backing: Backing::Own(session.clone()),
            ..self
        }
    }

    /// Stands as a candidate with `value`, and waits until it leads. Dropping the future withdraws, and leaves nothing behind that
    /// could become the leader.
    ///
    /// # Errors
    /// See [`Lock::lock`](crate::Lock::lock).
    pub async fn campaign(&self, value: impl Into<Bytes>) -> Result<Leadership> {
        let wanted = Wanted {
            prefix: queue(&self.name),
            rivals: queue(&self.name),
            permits: 1,
            value: value.into(),
            patience: Patience::Wait,
        };
        match acquire(&self.client, &self.backing, wanted).await? {
            Some(guard) => Ok(Leadership(guard)),
            None => Err(Error::garbled("nobody leads, and there is no vacancy")),
        }
    }

    /// Who leads, with what was proclaimed last; `None` when nobody does.
    ///
    /// # Errors
    /// See [`Client::range`].
    pub async fn leader(&self) -> Result<Option<KeyValue>> {
        let range = Range {
            keys_only: false,
            ..first(&queue(&self.name), 1, Order::Ascending)
        };
        let read = self.client.range(range).await?;
        Ok(read.kvs.into_iter().next())
    }
}

/// An election that is won. What it can do besides proclaiming and resigning is said at [`Guard`].
pub struct Leadership(Guard);

impl Leadership {
    /// The term of office: higher for every later leader. It is the fencing token.
    pub fn term(&self) -> i64 {
        self.0.fencing_token()
    }

    /// Says something else to those who observe.
    ///
    /// # Errors
    /// `LockLost`: it does not lead any more; nothing was said. Otherwise see [`Client::txn`].
    pub async fn proclaim(&self, value: impl Into<Bytes>) -> Result<()> {
        let put = Put {
            lease: self.0.lease(),
            ..Put::new(self.0.key().clone(), value)
        };
        self.0.put_with(put).await?;
        Ok(())
    }

    /// Steps down, so that the next candidate leads.
    ///
    /// # Errors
    /// `LockLost`: it did not lead any more. `DeadlineExceeded`: no answer yet; resigning goes on in the background.
    pub async fn resign(&self) -> Result<()> {
        self.0.release().await
    }
}

impl Deref for Leadership {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.0
    }
}
