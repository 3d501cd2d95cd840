//! Reader-writer locks, semaphores, barriers and queues.

use std::num::NonZeroU32;
use std::time::Duration;

use keystead_client as client;
use keystead_client::bytes::Bytes;

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::lock::{By, held, held_at_once, not_free, perhaps_held, taken_by};
use crate::session::Session;

/// A reader-writer lock by name.
#[derive(Clone)]
pub struct RwLock {
    client: Client,
    name: Bytes,
    by: By,
}

/// A semaphore by name.
#[derive(Clone)]
pub struct Semaphore {
    client: Client,
    name: Bytes,
    permits: NonZeroU32,
    by: By,
}

/// A barrier by name.
#[derive(Clone)]
pub struct Barrier {
    client: Client,
    name: Bytes,
}

/// A queue by name.
#[derive(Clone)]
pub struct Queue {
    client: Client,
    name: Bytes,
}

impl Client {
    /// A reader-writer lock. Nothing is sent yet.
    pub fn rwlock(&self, name: Bytes, session: Option<Session>, ttl: Option<Duration>) -> RwLock {
        RwLock {
            client: self.clone(),
            name,
            by: By::new(session, ttl),
        }
    }

    /// A semaphore of so many permits. Nothing is sent yet.
    pub fn semaphore(
        &self,
        name: Bytes,
        permits: NonZeroU32,
        session: Option<Session>,
        ttl: Option<Duration>,
    ) -> Semaphore {
        Semaphore {
            client: self.clone(),
            name,
            permits,
            by: By::new(session, ttl),
        }
    }

    /// A barrier. Nothing is sent yet.
    pub fn barrier(&self, name: Bytes) -> Barrier {
        Barrier {
            client: self.clone(),
            name,
        }
    }

    /// A queue. Nothing is sent yet.
    pub fn queue(&self, name: Bytes) -> Queue {
        Queue {
            client: self.clone(),
            name,
        }
    }
}

impl RwLock {
    /// Its name.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Takes it beside other readers. Answers `Guard`, which is there.
    ///
    /// # Errors
    /// `LockTimeout`: it was not free within `limit`; with a limit of zero it is taken if it is free.
    pub fn read(&self, limit: Option<Duration>) -> Call {
        let (this, name) = (self.clone(), self.name.clone());
        if limit == Some(Duration::ZERO) {
            return Call::new(async move {
                held_at_once(&this.client, &this.name, this.get()?.try_read().await?)
            });
        }
        Call::new(async move { Ok(held(&this.client, this.get()?.read().await?)) })
            .within(limit, move |limit| not_free(&name, limit))
    }

    /// The same if it is free. Answers `Guard`.
    pub fn try_read(&self) -> Call {
        let this = self.clone();
        Call::new(async move { Ok(perhaps_held(&this.client, this.get()?.try_read().await?)) })
    }

    /// Takes it alone. Answers `Guard`, which is there.
    ///
    /// # Errors
    /// `LockTimeout`: it was not free within `limit`; with a limit of zero it is taken if it is free.
    pub fn write(&self, limit: Option<Duration>) -> Call {
        let (this, name) = (self.clone(), self.name.clone());
        if limit == Some(Duration::ZERO) {
            return Call::new(async move {
                held_at_once(&this.client, &this.name, this.get()?.try_write().await?)
            });
        }
        Call::new(async move { Ok(held(&this.client, this.get()?.write().await?)) })
            .within(limit, move |limit| not_free(&name, limit))
    }

    /// The same if it is free. Answers `Guard`.
    pub fn try_write(&self) -> Call {
        let this = self.clone();
        Call::new(async move { Ok(perhaps_held(&this.client, this.get()?.try_write().await?)) })
    }

    fn get(&self) -> Result<client::RwLock> {
        let rwlock = self.client.get()?.rwlock(self.name.clone());
        Ok(taken_by!(rwlock, &self.by))
    }
}

impl Semaphore {
    /// Its name.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Takes a permit. Answers `Guard`, which is there.
    ///
    /// # Errors
    /// `LockTimeout`: none was free within `limit`; with a limit of zero it is taken if one is free.
    pub fn acquire(&self, limit: Option<Duration>) -> Call {
        let (this, name) = (self.clone(), self.name.clone());
        if limit == Some(Duration::ZERO) {
            return Call::new(async move {
                held_at_once(&this.client, &this.name, this.get()?.try_acquire().await?)
            });
        }
        Call::new(async move { Ok(held(&this.client, this.get()?.acquire().await?)) })
            .within(limit, move |limit| not_free(&name, limit))
    }

    /// The same if one is free. Answers `Guard`.
    pub fn try_acquire(&self) -> Call {
        let this = self.clone();
        Call::new(async move { Ok(perhaps_held(&this.client, this.get()?.try_acquire().await?)) })
    }

    fn get(&self) -> Result<client::Semaphore> {
        let client = self.client.get()?;
        let semaphore = client.semaphore(self.name.clone(), self.permits);
        Ok(taken_by!(semaphore, &self.by))
    }
}

impl Barrier {
    /// Its name.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Raises it. Answers `Is`: whether it was down before.
    pub fn hold(&self) -> Call {
        let name = self.name.clone();
        self.client.call(
            |client| async move { client.barrier(name).hold().await },
            Answer::Is,
        )
    }

    /// Lowers it, so that everybody goes on. Answers `Is`: whether it was up.
    pub fn release(&self) -> Call {
        let name = self.name.clone();
        self.client.call(
            |client| async move { client.barrier(name).release().await },
            Answer::Is,
        )
    }

    /// Waits until it is down; with a limit of zero it looks, and does not wait. Answers `Done`.
    ///
    /// # Errors
    /// `DeadlineExceeded`: it was still up after `limit`.
    pub fn wait(&self, limit: Option<Duration>) -> Call {
        let this = self.clone();
        if limit == Some(Duration::ZERO) {
            return Call::new(async move {
                match this.client.get()?.barrier(this.name).is_held().await? {
                    true => Err(Error::not_in_time("it is up")),
                    false => Ok(Answer::Done),
                }
            });
        }
        let call = self.client.call(
            |client| async move { client.barrier(this.name).wait().await },
            |()| Answer::Done,
        );
        call.within(limit, |limit| {
            Error::not_in_time(format!("it was up for {limit:?}"))
        })
    }
}

impl Queue {
    /// Its name.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Puts an item at the end. Answers `Done`.
    pub fn enqueue(&self, item: Bytes) -> Call {
        let name = self.name.clone();
        self.client.call(
            |client| async move { client.queue(name).enqueue(item).await },
            |()| Answer::Done,
        )
    }

    /// Takes the first item, and waits for one. Answers `Item`. Cancelling the call while it takes one may lose it; the limit does not,
    /// which is for the waiting alone. With a limit of zero it looks, and does not wait.
    ///
    /// # Errors
    /// `DeadlineExceeded`: there was none within `limit`.
    pub fn dequeue(&self, limit: Option<Duration>) -> Call {
        let this = self.clone();
        Call::new(async move {
            let queue = this.client.get()?.queue(this.name);
            let Some(limit) = limit else {
                return Ok(Answer::Item(queue.dequeue().await?));
            };
            let item = queue.dequeue_within(limit).await?;
            let late = || Error::not_in_time(format!("no item within {limit:?}"));
            Ok(Answer::Item(item.ok_or_else(late)?))
        })
    }
}
