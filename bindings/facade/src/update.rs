//! Update: read a key, let the language decide, write it back if it has not changed meanwhile; else again, with the new state and after a
//! wait that grows. The deciding happens between two calls, on a thread of the language.

use std::sync::Arc;

use keystead_client::bytes::Bytes;
use keystead_client::locks::Mutex;
use keystead_client::{Change, KeyValue, Updater};

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;
use crate::error::Error;
use crate::fork::Mine;

/// A key being updated.
#[derive(Clone)]
pub struct Update {
    client: Client,
    key: Bytes,
    /// Nothing while it was not read, or a call is under way.
    read: Arc<Mine<Mutex<Option<Updater>>>>,
}

impl Client {
    /// Begins to update a key. Nothing is sent yet.
    pub fn update(&self, key: Bytes) -> Update {
        Update {
            client: self.clone(),
            key,
            read: Arc::new(Mine::new(Mutex::new(None))),
        }
    }
}

impl Update {
    /// Reads the key. Answers `KeyValue`.
    pub fn read(&self) -> Call {
        let this = self.clone();
        Call::new(async move {
            let updater = this.client.get()?.updater(this.key.clone()).await?;
            let current = updater.current().cloned();
            this.keep(updater)?;
            Ok(Answer::KeyValue(current))
        })
    }

    /// Changes it, if it is as it was read. Answers `Updated`; where that is none, [`Update::current`] is how it is now, to decide anew.
    ///
    /// # Errors
    /// `CompareFailed`: somebody else was faster 64 times in a row. `InvalidArgument`: it was not read.
    pub fn write(&self, change: Change) -> Call {
        let this = self.clone();
        Call::new(async move {
            let read = this.read.get().ok_or_else(Error::forked)?.lock().take();
            let unread = || Error::invalid("a key is read before it is written back");
            let mut updater = read.ok_or_else(unread)?;
            let written = updater.write(change).await?;
            this.keep(updater)?;
            Ok(Answer::Updated(written.map(|swapped| swapped.header)))
        })
    }

    /// How the key was when it was read last.
    pub fn current(&self) -> Option<KeyValue> {
        self.read.get()?.lock().as_ref()?.current().cloned()
    }

    fn keep(&self, updater: Updater) -> Result<(), Error> {
        let read = self.read.get().ok_or_else(Error::forked)?;
        *read.lock() = Some(updater);
        Ok(())
    }
}
