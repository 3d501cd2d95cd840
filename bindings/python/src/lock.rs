//! Locks, and the guard of whatever is held.

use keystead_facade as facade;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::args::{Data, LeaseId, Length, Ttl};
use crate::call::Call;
use crate::client::Client;
use crate::errors::to_exception;
use crate::kv::put;
use crate::session::{Session, state};
use crate::txn::{Compare, Op, txn};

/// A lock by name.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Lock(facade::Lock);

/// By which session something is taken.
pub(crate) fn by(
    session: Option<&Bound<'_, Session>>,
    ttl: Option<Ttl>,
) -> PyResult<(Option<facade::Session>, Option<std::time::Duration>)> {
    if session.is_some() && ttl.is_some() {
        return Err(PyTypeError::new_err("a session has a TTL of its own"));
    }
    let session = session.map(|session| session.get().0.clone());
    Ok((session, ttl.map(|ttl| ttl.0)))
}

/// A name is never empty: the keys of everything would stand below it.
pub(crate) fn name(name: Data) -> PyResult<facade::Bytes> {
    if name.0.is_empty() {
        return Err(PyValueError::new_err("a name is never empty"));
    }
    Ok(name.0)
}

#[pymethods]
impl Client {
    #[pyo3(signature = (name, session, ttl))]
    fn lock(
        &self,
        name: Data,
        session: Option<&Bound<'_, Session>>,
        ttl: Option<Ttl>,
    ) -> PyResult<Lock> {
        let (session, ttl) = by(session, ttl)?;
        Ok(Lock(self.0.lock(self::name(name)?, session, ttl)))
    }
}

#[pymethods]
impl Lock {
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.name())
    }

    #[pyo3(signature = (timeout))]
    fn lock(&self, timeout: Option<Length>) -> Call {
        self.0.lock(timeout.map(|limit| limit.0)).into()
    }

    fn try_lock(&self) -> Call {
        self.0.try_lock().into()
    }
}

/// What is held.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Guard(facade::Guard);

impl From<facade::Guard> for Guard {
    fn from(guard: facade::Guard) -> Guard {
        Guard(guard)
    }
}

#[pymethods]
impl Guard {
    #[getter]
    fn fencing_token(&self) -> i64 {
        self.0.fencing_token()
    }

    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.key())
    }

    #[getter]
    fn lease(&self) -> i64 {
        self.0.lease()
    }

    #[getter]
    fn state(&self) -> (&'static str, Option<&'static str>) {
        state(self.0.state())
    }

    #[getter]
    fn released(&self) -> bool {
        self.0.is_released()
    }

    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.0.check().map_err(|error| to_exception(py, error))
    }

    #[pyo3(signature = (timeout))]
    fn lost(&self, timeout: Option<Length>) -> Call {
        self.0.lost(timeout.map(|limit| limit.0)).into()
    }

    #[pyo3(signature = (key, value, lease, prev_kv))]
    fn put(&self, key: Data, value: Data, lease: Option<LeaseId>, prev_kv: bool) -> PyResult<Call> {
        let put = put(key, Some(value), lease, prev_kv, false, false)?;
        Ok(self.0.put(put).into())
    }

    fn txn(&self, when: Vec<Compare>, then: Vec<Op>, otherwise: Vec<Op>) -> Call {
        self.0.txn(txn(when, then, otherwise)).into()
    }

    fn proclaim(&self, value: Data) -> Call {
        self.0.proclaim(value.0).into()
    }

    fn release(&self) -> Call {
        self.0.release().into()
    }
}
