//! Errors become exceptions: the classes are written in Python, this picks one by its number.

use keystead_facade::{Error, Outcome};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::records::KeyValue;

static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The exception that Python's users are told.
pub(crate) fn to_exception(py: Python<'_>, error: Error) -> PyErr {
    match make(py, error) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failed) => failed,
    }
}

fn make(py: Python<'_>, error: Error) -> PyResult<Bound<'_, PyAny>> {
    let outcome = match error.outcome {
        Outcome::NotApplied => "not_applied",
        Outcome::Applied => "applied",
        Outcome::Unknown => "unknown",
    };
    let current = error.current.map(|kv| KeyValue::from(*kv));
    let arguments = (
        error.kind as i32,
        error.message,
        error.code,
        outcome,
        error.retryable,
        error.endpoint,
        current,
    );
    let make = MAKE.import(py, "keystead._errors", "from_native")?;
    make.call1(arguments)
}
