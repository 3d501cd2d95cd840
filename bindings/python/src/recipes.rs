//! Reader-writer locks, semaphores, barriers and queues.

use keystead_facade as facade;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::args::{Data, Length, Permits, Ttl};
use crate::call::Call;
use crate::client::Client;
use crate::lock::{by, name};
use crate::session::Session;

/// A reader-writer lock by name.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct RwLock(facade::RwLock);

/// A semaphore by name.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Semaphore(facade::Semaphore);

/// A barrier by name.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Barrier(facade::Barrier);

/// A queue by name.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Queue(facade::Queue);

#[pymethods]
impl Client {
    #[pyo3(signature = (name, session, ttl))]
    fn rwlock(
        &self,
        name: Data,
        session: Option<&Bound<'_, Session>>,
        ttl: Option<Ttl>,
    ) -> PyResult<RwLock> {
        let (session, ttl) = by(session, ttl)?;
        Ok(RwLock(self.0.rwlock(self::name(name)?, session, ttl)))
    }

    #[pyo3(signature = (name, permits, session, ttl))]
    fn semaphore(
        &self,
        name: Data,
        permits: Permits,
        session: Option<&Bound<'_, Session>>,
        ttl: Option<Ttl>,
    ) -> PyResult<Semaphore> {
        let (session, ttl) = by(session, ttl)?;
        let name = self::name(name)?;
        Ok(Semaphore(self.0.semaphore(name, permits.0, session, ttl)))
    }

    fn barrier(&self, name: Data) -> PyResult<Barrier> {
        Ok(Barrier(self.0.barrier(self::name(name)?)))
    }

    fn queue(&self, name: Data) -> PyResult<Queue> {
        Ok(Queue(self.0.queue(self::name(name)?)))
    }
}

#[pymethods]
impl RwLock {
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.name())
    }

    #[pyo3(signature = (timeout))]
    fn read(&self, timeout: Option<Length>) -> Call {
        self.0.read(timeout.map(|limit| limit.0)).into()
    }

    fn try_read(&self) -> Call {
        self.0.try_read().into()
    }

    #[pyo3(signature = (timeout))]
    fn write(&self, timeout: Option<Length>) -> Call {
        self.0.write(timeout.map(|limit| limit.0)).into()
    }

    fn try_write(&self) -> Call {
        self.0.try_write().into()
    }
}

#[pymethods]
impl Semaphore {
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.name())
    }

    #[pyo3(signature = (timeout))]
    fn acquire(&self, timeout: Option<Length>) -> Call {
        self.0.acquire(timeout.map(|limit| limit.0)).into()
    }

    fn try_acquire(&self) -> Call {
        self.0.try_acquire().into()
    }
}

#[pymethods]
impl Barrier {
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.name())
    }

    fn hold(&self) -> Call {
        self.0.hold().into()
    }

    fn release(&self) -> Call {
        self.0.release().into()
    }

    #[pyo3(signature = (timeout))]
    fn wait(&self, timeout: Option<Length>) -> Call {
        self.0.wait(timeout.map(|limit| limit.0)).into()
    }
}

#[pymethods]
impl Queue {
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.name())
    }

    fn enqueue(&self, item: Data) -> Call {
        self.0.enqueue(item.0).into()
    }

    #[pyo3(signature = (timeout))]
    fn dequeue(&self, timeout: Option<Length>) -> Call {
        self.0.dequeue(timeout.map(|limit| limit.0)).into()
    }
}
