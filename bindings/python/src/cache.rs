//! Keys in memory.

use keystead_facade as facade;
use keystead_facade::{CacheNotice, CacheOptions, CacheView};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::answer::list;
use crate::args::{self, Data, Length, Natural, count, keys, one_key};
use crate::call::Call;
use crate::client::Client;
use crate::errors::to_exception;
use crate::notices::events;
use crate::records::{KeyValue, kvs};
use crate::watch::lag;

/// Some keys in memory.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Cache(facade::Cache);

/// The news of a cache.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct CacheSubscription(facade::CacheSubscription);

impl From<facade::Cache> for Cache {
    fn from(cache: facade::Cache) -> Cache {
        Cache(cache)
    }
}

#[pymethods]
impl Client {
    #[pyo3(signature = (key, end, prefix, from_key, most_bytes))]
    fn cache(
        &self,
        key: Option<Data>,
        end: Option<Data>,
        prefix: Option<Data>,
        from_key: Option<Data>,
        most_bytes: &Bound<'_, PyAny>,
    ) -> PyResult<Call> {
        let options = CacheOptions {
            keys: keys(key, end, prefix, from_key)?,
            most_bytes: count(most_bytes)?,
        };
        Ok(self.0.cache(options).into())
    }
}

/// A revision and its keys.
type View = (i64, Py<PyList>);

#[pymethods]
impl Cache {
    fn get(&self, py: Python<'_>, key: Data) -> PyResult<Option<KeyValue>> {
        let found = self.0.get(one_key(key)?);
        let found = found.map_err(|error| to_exception(py, error))?;
        Ok(found.map(KeyValue::from))
    }

    fn get_linearizable(&self, key: Data) -> PyResult<Call> {
        Ok(self.0.get_linearizable(one_key(key)?).into())
    }

    #[pyo3(signature = (key, end, prefix, from_key))]
    fn range(
        &self,
        py: Python<'_>,
        key: Option<Data>,
        end: Option<Data>,
        prefix: Option<Data>,
        from_key: Option<Data>,
    ) -> PyResult<View> {
        let found = self.0.range(keys(key, end, prefix, from_key)?);
        view(py, found.map_err(|error| to_exception(py, error))?)
    }

    fn all(&self, py: Python<'_>) -> PyResult<View> {
        view(py, self.0.all().map_err(|error| to_exception(py, error))?)
    }

    fn len(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.len().map_err(|error| to_exception(py, error))
    }

    fn lag(&self, py: Python<'_>) -> PyResult<(i64, f64, usize, bool)> {
        let now = self.0.lag().map_err(|error| to_exception(py, error))?;
        Ok(lag(now))
    }

    fn sync(&self) -> Call {
        self.0.sync().into()
    }

    fn reach(&self, revision: Natural) -> Call {
        self.0.reach(revision.0).into()
    }

    fn close(&self) {
        self.0.close();
    }

    fn subscribe(&self, py: Python<'_>) -> PyResult<CacheSubscription> {
        let subscription = self.0.subscribe();
        let subscription = subscription.map_err(|error| to_exception(py, error))?;
        Ok(CacheSubscription(subscription))
    }
}

#[pymethods]
impl CacheSubscription {
    #[pyo3(signature = (most, timeout))]
    fn next_batch(&self, most: &Bound<'_, PyAny>, timeout: Option<Length>) -> PyResult<Call> {
        let timeout = timeout.map(|limit| limit.0);
        Ok(self.0.next_batch(args::most(most)?, timeout).into())
    }

    fn cancel(&self) {
        self.0.cancel();
    }
}

fn view(py: Python<'_>, view: CacheView) -> PyResult<View> {
    Ok((view.revision, kvs(py, view.kvs)?))
}

/// Tuples of a word, a revision, and keys or changes; what a later client may tell besides is left out.
pub(crate) fn cache_notices(py: Python<'_>, notices: Vec<CacheNotice>) -> PyResult<Py<PyAny>> {
    let mut each = Vec::with_capacity(notices.len());
    for notice in notices {
        each.push(match notice {
            CacheNotice::State(state) => {
                ("state", state.revision, kvs(py, state.kvs)?).into_py_any(py)?
            }
            CacheNotice::Changes {
                revision,
                events: changes,
            } => ("changes", revision, events(py, changes)?).into_py_any(py)?,
            _ => continue,
        });
    }
    list(py, each)
}
