//! What is read a part at a time: watches, and scans.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use keystead_client as client;
use keystead_client::{Lag, Scan, Watch};
use tokio::sync::Mutex;

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;
use crate::error::Error;
use crate::fork::Mine;

/// A running watch. Dropping the last clone ends it. Lost in a child of the process.
#[derive(Clone)]
pub struct Watcher(Arc<Mine<client::Watcher>>);

impl Client {
    /// Watches keys; it has begun when the call answers. Answers `Watcher`.
    pub fn watch(&self, watch: Watch) -> Call {
        self.call(
            |client| async move { client.watch(watch).await },
            |watcher| Answer::Watcher(Watcher(Arc::new(Mine::new(watcher)))),
        )
    }
}

impl Watcher {
    /// Waits for what comes next, and takes as much as has come, up to `most` changes or little more. Answers `Notices`. Cancelling the call loses
    /// nothing.
    ///
    /// # Errors
    /// Why the watch ended, once. `DeadlineExceeded`: nothing has come within `limit`.
    pub fn next_batch(&self, most: usize, limit: Option<Duration>) -> Call {
        let this = self.clone();
        Call::new(async move {
            let watcher = this.0.get().ok_or_else(Error::forked)?;
            Ok(Answer::Notices(watcher.next_batch(most).await?))
        })
        .within(limit, |limit| {
            Error::not_in_time(format!("nothing to tell within {limit:?}"))
        })
    }

    /// Ends it: nothing more comes, not even what waits.
    pub fn cancel(&self) {
        if let Some(watcher) = self.0.get() {
            watcher.cancel();
        }
    }

    /// How far behind it is; `None` in a child.
    pub fn lag(&self) -> Option<Lag> {
        self.0.get().map(client::Watcher::lag)
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}

/// A scan under way. Lost in a child of the process once it has begun.
#[derive(Clone)]
pub struct Scanner {
    client: Client,
    scan: Scan,
    begun: Arc<Mine<Mutex<Option<client::Scanner>>>>,
}

impl Scanner {
    pub(crate) fn new(client: Client, scan: Scan) -> Scanner {
        Scanner {
            client,
            scan,
            begun: Arc::new(Mine::new(Mutex::new(None))),
        }
    }

    /// The next keys. Answers `Page`.
    ///
    /// # Errors
    /// See [`client::Scanner::next_batch`].
    pub fn next_batch(&self) -> Call {
        let this = self.clone();
        Call::new(async move {
            let mut begun = this.begun.get().ok_or_else(Error::forked)?.lock().await;
            let scanner = match &mut *begun {
                Some(scanner) => scanner,
                none => none.insert(this.client.get()?.scan(this.scan.clone())),
            };
            Ok(Answer::Page(scanner.next_batch().await?))
        })
    }
}
