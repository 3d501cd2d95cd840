//! What a watch tells.

use keystead_facade as facade;
use keystead_facade::{EventKind, Notice, ResetCause};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple, PyType};

use crate::errors::to_exception;
use crate::records::{KeyValue, kvs, leaf, record, reduce};

/// One change of one key. What is asked of it is made then: most of a replay is looked at once, and some not at all.
#[pyclass(frozen, module = "keystead")]
pub(crate) struct Event {
    kind: EventKind,
    kv: facade::KeyValue,
    prev_kv: Option<Box<facade::KeyValue>>,
}

record!(Event: "kind", "kv", "prev_kv");

impl From<facade::Event> for Event {
    fn from(event: facade::Event) -> Event {
        Event {
            kind: event.kind,
            kv: event.kv,
            prev_kv: event.prev_kv.map(Box::new),
        }
    }
}

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (kind, kv, prev_kv))]
    fn make(
        kind: &str,
        kv: &Bound<'_, KeyValue>,
        prev_kv: Option<&Bound<'_, KeyValue>>,
    ) -> PyResult<Event> {
        let kind = match kind {
            "put" => EventKind::Put,
            "delete" => EventKind::Delete,
            other => {
                let text = format!("an event is a 'put' or a 'delete', not {other:?}");
                return Err(PyValueError::new_err(text));
            }
        };
        Ok(Event {
            kind,
            kv: kv.get().0.clone(),
            prev_kv: prev_kv.map(|kv| Box::new(kv.get().0.clone())),
        })
    }

    fn __reduce__<'py>(
        record: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
        reduce(record.as_any(), &["kind", "kv", "prev_kv"])
    }

    /// The put that a key of a state stands for.
    #[staticmethod]
    fn of_state(kv: &KeyValue) -> Event {
        Event {
            kind: EventKind::Put,
            kv: kv.0.clone(),
            prev_kv: None,
        }
    }

    /// "put" or "delete".
    #[getter]
    fn kind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        match self.kind {
            EventKind::Put => intern!(py, "put"),
            EventKind::Delete => intern!(py, "delete"),
        }
    }

    /// The key as it is now.
    #[getter]
    fn kv(&self, py: Python<'_>) -> PyResult<Py<KeyValue>> {
        leaf(py, KeyValue::from(self.kv.clone()))
    }

    /// The key as it was before, when that was asked for.
    #[getter]
    fn prev_kv(&self, py: Python<'_>) -> PyResult<Option<Py<KeyValue>>> {
        let before = self.prev_kv.as_deref().cloned();
        before.map(|kv| leaf(py, KeyValue::from(kv))).transpose()
    }

    /// The key that changed.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.kv.key)
    }

    /// Its value now; empty after a deletion.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.kv.value)
    }
}

/// What one revision changed among the keys that are watched.
#[pyclass(frozen, get_all, module = "keystead")]
pub(crate) struct Events {
    revision: i64,
    events: Py<PyList>,
    last: bool,
}

record!(Events: "revision", "events", "last");

/// Nothing but what was told has happened up to this revision.
#[pyclass(frozen, get_all, module = "keystead")]
pub(crate) struct Progress {
    revision: i64,
}

record!(Progress: "revision");

/// The watch is cut off, and goes on by itself.
#[pyclass(frozen, get_all, module = "keystead")]
pub(crate) struct Disconnected {
    error: Py<PyAny>,
}

record!(Disconnected: "error");

/// The watch is connected again and has missed nothing.
#[pyclass(frozen, get_all, module = "keystead")]
pub(crate) struct Resumed {
    revision: i64,
}

record!(Resumed: "revision");

/// A page of the keys as they are: whoever keeps a copy forgets it at page 0 and takes these.
#[pyclass(frozen, get_all, module = "keystead")]
pub(crate) struct Reset {
    /// "begun", "compacted" or "restored".
    cause: &'static str,
    revision: i64,
    page: u32,
    kvs: Py<PyList>,
    last: bool,
}

record!(Reset: "cause", "revision", "page", "kvs", "last");

/// The changes that lead from what was told to the keys as they are.
#[pyclass(frozen, get_all, module = "keystead")]
pub(crate) struct Diff {
    /// "compacted" or "restored".
    cause: &'static str,
    revision: i64,
    events: Py<PyList>,
    last: bool,
}

record!(Diff: "cause", "revision", "events", "last");

/// A list of what a watch told; what a later client may tell besides is left out.
pub(crate) fn notices(py: Python<'_>, notices: Vec<Notice>) -> PyResult<Py<PyAny>> {
    let each = notices
        .into_iter()
        .filter_map(|it| notice(py, it).transpose());
    let each: Vec<Py<PyAny>> = each.collect::<PyResult<_>>()?;
    Ok(PyList::new(py, each)?.into_any().unbind())
}

fn notice(py: Python<'_>, notice: Notice) -> PyResult<Option<Py<PyAny>>> {
    Ok(Some(match notice {
        Notice::Events {
            revision,
            events: changes,
            last,
        } => {
            let events = events(py, changes)?;
            Py::new(
                py,
                Events {
                    revision,
                    events,
                    last,
                },
            )?
            .into_any()
        }
        Notice::Progress { revision } => Py::new(py, Progress { revision })?.into_any(),
        Notice::Disconnected { error } => {
            let error = to_exception(py, error.into()).into_value(py).into_any();
            Py::new(py, Disconnected { error })?.into_any()
        }
        Notice::Resumed { revision } => Py::new(py, Resumed { revision })?.into_any(),
        Notice::Reset {
            cause,
            revision,
            page,
            kvs: state,
            last,
        } => {
            let reset = Reset {
                cause: name(cause),
                revision,
                page,
                kvs: kvs(py, state)?,
                last,
            };
            Py::new(py, reset)?.into_any()
        }
        Notice::Diff {
            cause,
            revision,
            events: changes,
            last,
        } => {
            let events = events(py, changes)?;
            Py::new(
                py,
                Diff {
                    cause: name(cause),
                    revision,
                    events,
                    last,
                },
            )?
            .into_any()
        }
        _ => return Ok(None),
    }))
}

/// A list of changes.
pub(crate) fn events(py: Python<'_>, events: Vec<facade::Event>) -> PyResult<Py<PyList>> {
    let each = events.into_iter().map(|event| leaf(py, Event::from(event)));
    let each: Vec<Py<Event>> = each.collect::<PyResult<_>>()?;
    Ok(PyList::new(py, each)?.unbind())
}

fn name(cause: ResetCause) -> &'static str {
    match cause {
        ResetCause::Begun => "begun",
        ResetCause::Compacted { .. } => "compacted",
        ResetCause::Restored => "restored",
    }
}
