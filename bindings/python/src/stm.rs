//! Stm: runs of a function that is written in Python.

use keystead_facade as facade;
use keystead_facade::{Isolation, Put};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::args::{Data, LeaseId, keys, one_key};
use crate::call::Call;
use crate::client::Client;
use crate::errors::to_exception;

/// The runs of one function.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Stm(facade::Stm);

/// One of them.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct StmRun(facade::StmRun);

impl From<facade::StmRun> for StmRun {
    fn from(run: facade::StmRun) -> StmRun {
        StmRun(run)
    }
}

#[pymethods]
impl Client {
    /// `isolation` is a word.
    fn stm(&self, isolation: &str) -> PyResult<Stm> {
        let isolation = match isolation {
            "serializable_snapshot" => Isolation::SerializableSnapshot,
            "serializable" => Isolation::Serializable,
            "repeatable_reads" => Isolation::RepeatableReads,
            "read_committed" => Isolation::ReadCommitted,
            other => {
                let text = format!("there is no isolation {other:?}");
                return Err(PyValueError::new_err(text));
            }
        };
        Ok(Stm(self.0.stm(isolation)))
    }
}

#[pymethods]
impl Stm {
    fn begin(&self) -> Call {
        self.0.begin().into()
    }
}

#[pymethods]
impl StmRun {
    fn get(&self, key: Data) -> PyResult<Call> {
        Ok(self.0.get(one_key(key)?).into())
    }

    #[pyo3(signature = (key, end, prefix, from_key))]
    fn range(
        &self,
        key: Option<Data>,
        end: Option<Data>,
        prefix: Option<Data>,
        from_key: Option<Data>,
    ) -> PyResult<Call> {
        Ok(self.0.range(keys(key, end, prefix, from_key)?).into())
    }

    #[pyo3(signature = (key, value, lease))]
    fn put(&self, py: Python<'_>, key: Data, value: Data, lease: Option<LeaseId>) -> PyResult<()> {
        let put = Put {
            lease: lease.map_or(0, |LeaseId(lease)| lease),
            ..Put::new(one_key(key)?, value.0)
        };
        self.0.put(put).map_err(|error| to_exception(py, error))
    }

    fn delete(&self, py: Python<'_>, key: Data) -> PyResult<()> {
        let done = self.0.delete(one_key(key)?);
        done.map_err(|error| to_exception(py, error))
    }

    fn commit(&self) -> Call {
        self.0.commit().into()
    }
}
