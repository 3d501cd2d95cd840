//! Updates: read, decide in Python, write back.

use keystead_facade as facade;
use keystead_facade::Change;
use pyo3::prelude::*;

use crate::args::{Data, LeaseId, one_key};
use crate::call::Call;
use crate::client::Client;
use crate::records::KeyValue;

/// A key being updated.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Update(facade::Update);

#[pymethods]
impl Client {
    fn update(&self, key: Data) -> PyResult<Update> {
        Ok(Update(self.0.update(one_key(key)?)))
    }
}

#[pymethods]
impl Update {
    fn read(&self) -> Call {
        self.0.read().into()
    }

    /// Writes a value, with a lease of its own if one is given; removes the key when there is no value.
    #[pyo3(signature = (value, lease))]
    fn write(&self, value: Option<Data>, lease: Option<LeaseId>) -> Call {
        let change = match (value, lease) {
            (None, _) => Change::Delete,
            (Some(Data(value)), None) => Change::Put(value),
            (Some(Data(value)), Some(LeaseId(lease))) => Change::PutLeased { value, lease },
        };
        self.0.write(change).into()
    }

    fn current(&self) -> Option<KeyValue> {
        self.0.current().map(KeyValue::from)
    }
}
