//! Elections.

use keystead_facade as facade;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::args::{Data, Length, Ttl};
use crate::call::Call;
use crate::client::Client;
use crate::lock::{by, name};
use crate::session::Session;

/// An election by name.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Election(facade::Election);

/// Tells who leads.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct LeaderObserver(facade::LeaderObserver);

#[pymethods]
impl Client {
    #[pyo3(signature = (name, session, ttl))]
    fn election(
        &self,
        name: Data,
        session: Option<&Bound<'_, Session>>,
        ttl: Option<Ttl>,
    ) -> PyResult<Election> {
        let (session, ttl) = by(session, ttl)?;
        Ok(Election(self.0.election(self::name(name)?, session, ttl)))
    }
}

#[pymethods]
impl Election {
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.name())
    }

    #[pyo3(signature = (value, timeout))]
    fn campaign(&self, value: Data, timeout: Option<Length>) -> Call {
        self.0
            .campaign(value.0, timeout.map(|limit| limit.0))
            .into()
    }

    fn leader(&self) -> Call {
        self.0.leader().into()
    }

    fn observe(&self) -> LeaderObserver {
        LeaderObserver(self.0.observe())
    }
}

#[pymethods]
impl LeaderObserver {
    #[pyo3(signature = (timeout))]
    fn next(&self, timeout: Option<Length>) -> Call {
        self.0.next(timeout.map(|limit| limit.0)).into()
    }
}
