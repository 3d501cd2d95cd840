//! A call, as Python holds it: not begun yet. The sync client waits for it, the asyncio client submits it to its loop.

use keystead_facade as facade;
use keystead_facade::locks::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::answer::to_python;
use crate::errors::to_exception;

/// One call, which runs once.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Call(Mutex<Option<facade::Call>>);

impl From<facade::Call> for Call {
    fn from(call: facade::Call) -> Call {
        Call(Mutex::new(Some(call)))
    }
}

impl Call {
    pub(crate) fn take(&self) -> PyResult<facade::Call> {
        let call = self.0.lock().take();
        call.ok_or_else(|| PyRuntimeError::new_err("a call runs once"))
    }
}

#[pymethods]
impl Call {
    /// Runs it and waits for the answer. Other threads run meanwhile, and signals interrupt it.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let call = self.take()?;
        let mut raised = None;
        let result = py.detach(|| {
            call.wait(|| {
                raised = Python::attach(|py| py.check_signals()).err();
                raised.is_some()
            })
        });
        match (raised, result) {
            (Some(exception), _) => Err(exception),
            (None, Ok(answer)) => to_python(py, answer),
            (None, Err(error)) => Err(to_exception(py, error)),
        }
    }
}
