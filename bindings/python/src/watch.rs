//! Watches and scans.

use keystead_facade as facade;
use keystead_facade::{OnGap, Watch};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::args::{self, Data, Length, Natural, count, keys};
use crate::call::Call;
use crate::client::Client;

/// A running watch.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Watcher(facade::Watcher);

impl From<facade::Watcher> for Watcher {
    fn from(watcher: facade::Watcher) -> Watcher {
        Watcher(watcher)
    }
}

#[pymethods]
impl Client {
    #[pyo3(signature = (key, end, prefix, from_key, start_revision, state_first, prev_kv, no_put, no_delete, progress, buffer_bytes,
        on_gap, most_keys))]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are named where it is called"
    )]
    fn watch(
        &self,
        key: Option<Data>,
        end: Option<Data>,
        prefix: Option<Data>,
        from_key: Option<Data>,
        start_revision: Natural,
        state_first: bool,
        prev_kv: bool,
        no_put: bool,
        no_delete: bool,
        progress: bool,
        buffer_bytes: &Bound<'_, PyAny>,
        on_gap: &str,
        most_keys: Natural,
    ) -> PyResult<Call> {
        if state_first && start_revision.0 != 0 {
            let text = "a watch begins with the state or at a revision";
            return Err(PyTypeError::new_err(text));
        }
        let on_gap = match on_gap {
            "reset" => OnGap::Reset,
            "fail" => OnGap::Fail,
            "diff" if !state_first || no_put || no_delete => {
                let text =
                    "a watch that tells differences begins with the state and leaves nothing out";
                return Err(PyValueError::new_err(text));
            }
            "diff" => OnGap::Diff {
                most_keys: u32::try_from(most_keys.0).unwrap_or(u32::MAX),
            },
            other => {
                let text = format!("on_gap is 'reset', 'diff' or 'fail', not {other:?}");
                return Err(PyValueError::new_err(text));
            }
        };
        let watch = Watch {
            keys: keys(key, end, prefix, from_key)?,
            start_revision: start_revision.0,
            state_first,
            prev_kv,
            no_put,
            no_delete,
            progress,
            buffer_bytes: count(buffer_bytes)?,
            on_gap,
        };
        Ok(self.0.watch(watch).into())
    }
}

#[pymethods]
impl Watcher {
    #[pyo3(signature = (most, timeout))]
    fn next_batch(&self, most: &Bound<'_, PyAny>, timeout: Option<Length>) -> PyResult<Call> {
        let timeout = timeout.map(|limit| limit.0);
        Ok(self.0.next_batch(args::most(most)?, timeout).into())
    }

    fn cancel(&self) {
        self.0.cancel();
    }

    /// The revision, how old the knowledge is in seconds, what waits in bytes, and whether it is connected.
    fn lag(&self) -> Option<(i64, f64, usize, bool)> {
        self.0.lag().map(lag)
    }
}

pub(crate) fn lag(lag: facade::Lag) -> (i64, f64, usize, bool) {
    let staleness = lag.staleness.as_secs_f64();
    (lag.revision, staleness, lag.buffered_bytes, lag.connected)
}

/// A scan under way.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Scanner(facade::Scanner);

impl From<facade::Scanner> for Scanner {
    fn from(scanner: facade::Scanner) -> Scanner {
        Scanner(scanner)
    }
}

#[pymethods]
impl Scanner {
    fn next_batch(&self) -> Call {
        self.0.next_batch().into()
    }
}
