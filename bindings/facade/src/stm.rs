//! Stm: runs of a function of the language, which reads and writes as if nobody else were there. What it writes is gathered here, and
//! committed when it has ended; when something that it read has changed, it runs again. It runs between two calls, on a thread of the language.

use std::fmt;
use std::sync::Arc;

use keystead_client as client;
use keystead_client::bytes::Bytes;
use keystead_client::locks::Mutex;
use keystead_client::{Isolation, KeyRange, Put, StmRuns};

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::fork::Mine;

/// The runs of one function, one after the other until one is committed.
#[derive(Clone)]
pub struct Stm {
    client: Client,
    isolation: Isolation,
    /// Nothing before the first run, and while a commit is under way.
    runs: Arc<Mine<Mutex<Option<StmRuns>>>>,
}

/// One run: it is committed or forgotten. Lost in a child of the process.
#[derive(Clone)]
pub struct StmRun {
    runs: Stm,
    /// Nothing once it is over.
    run: Arc<Mine<Mutex<Option<client::Stm>>>>,
}

impl Client {
    /// Prepares the runs of a function. Nothing is sent yet.
    pub fn stm(&self, isolation: Isolation) -> Stm {
        Stm {
            client: self.clone(),
            isolation,
            runs: Arc::new(Mine::new(Mutex::new(None))),
        }
    }
}

impl Stm {
    /// Begins a run, after its client was connected if it was not. Answers `StmRun`.
    pub fn begin(&self) -> Call {
        let this = self.clone();
        Call::new(async move {
            let mut runs = match this.slot()?.lock().take() {
                Some(runs) => runs,
                None => this.client.get()?.stm_runs(this.isolation),
            };
            let run = Arc::new(Mine::new(Mutex::new(Some(runs.begin()))));
            *this.slot()?.lock() = Some(runs);
            Ok(Answer::StmRun(StmRun { runs: this, run }))
        })
    }

    fn slot(&self) -> Result<&Mutex<Option<StmRuns>>> {
        self.runs.get().ok_or_else(Error::forked)
    }
}

impl StmRun {
    /// The value of a key, as this run sees it: with its own writes. Answers `Value`.
    pub fn get(&self, key: Bytes) -> Call {
        let this = self.clone();
        Call::new(async move { Ok(Answer::Value(this.run()?.get(key).await?)) })
    }

    /// The keys of a range with their values, as this run sees them. Answers `Pairs`.
    pub fn range(&self, keys: KeyRange) -> Call {
        let this = self.clone();
        Call::new(async move { Ok(Answer::Pairs(this.run()?.range(keys).await?)) })
    }

    /// Writes a key at the commit.
    ///
    /// # Errors
    /// `InvalidArgument`: the run is over. `Forked`: it is a run of the parent.
    pub fn put(&self, put: Put) -> Result<()> {
        self.run()?.put_with(put);
        Ok(())
    }

    /// Removes a key at the commit.
    ///
    /// # Errors
    /// See [`StmRun::put`].
    pub fn delete(&self, key: Bytes) -> Result<()> {
        self.run()?.delete(key);
        Ok(())
    }

    /// Commits what was written, if nothing that was read has changed. The run is over then. Answers `Is`; where it is false
    /// another run is to begin.
    ///
    /// # Errors
    /// `CompareFailed`: somebody else was faster 64 times in a row. `InvalidArgument`: it was over before.
    pub fn commit(&self) -> Call {
        let this = self.clone();
        Call::new(async move {
            let run = this.slot()?.lock().take().ok_or_else(over)?;
            let mut runs = this.runs.slot()?.lock().take().ok_or_else(over)?;
            let done = runs.commit(run).await?;
            *this.runs.slot()?.lock() = Some(runs);
            Ok(Answer::Is(done))
        })
    }

    fn run(&self) -> Result<client::Stm> {
        self.slot()?.lock().clone().ok_or_else(over)
    }

    fn slot(&self) -> Result<&Mutex<Option<client::Stm>>> {
        self.run.get().ok_or_else(Error::forked)
    }
}

impl fmt::Debug for StmRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StmRun")
    }
}

fn over() -> Error {
    Error::invalid("the run is over: use what it was given within the function alone")
}
