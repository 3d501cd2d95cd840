//! What is answered most: records that copy their bytes out when somebody looks at them.

use keystead_facade as facade;
use keystead_facade::Bytes;
use pyo3::basic::CompareOp;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple, PyType};

use crate::args::Data;

/// `Name(field=value, ..)`, as Python's own records show themselves.
pub(crate) fn show(record: &Bound<'_, PyAny>, fields: &[&str]) -> PyResult<String> {
    let mut shown = Vec::with_capacity(fields.len());
    for field in fields {
        shown.push(format!("{field}={}", record.getattr(*field)?.repr()?));
    }
    Ok(format!(
        "{}({})",
        record.get_type().name()?,
        shown.join(", ")
    ))
}

/// Whether two records of one type have equal fields; `NotImplemented` is for other types.
pub(crate) fn compare(
    record: &Bound<'_, PyAny>,
    other: &Bound<'_, PyAny>,
    operator: CompareOp,
    fields: &[&str],
) -> PyResult<Py<PyAny>> {
    let py = record.py();
    if !record.get_type().is(other.get_type()) || !matches!(operator, CompareOp::Eq | CompareOp::Ne)
    {
        return Ok(py.NotImplemented());
    }
    let mut equal = true;
    for field in fields {
        equal = equal && record.getattr(*field)?.eq(other.getattr(*field)?)?;
    }
    let answer = equal == matches!(operator, CompareOp::Eq);
    Ok(answer.into_pyobject(py)?.to_owned().into_any().unbind())
}

/// A record shows its fields and is equal to one that has the same.
macro_rules! record {
    ($name:ident: $($field:literal),+) => {
        #[pymethods]
        impl $name {
            #[classattr]
            fn __match_args__() -> ($(record!(@text $field),)+) {
                ($($field,)+)
            }

            fn __repr__(record: &Bound<'_, Self>) -> PyResult<String> {
                $crate::records::show(record.as_any(), &[$($field),+])
            }

            fn __richcmp__(
                record: &Bound<'_, Self>,
                other: &Bound<'_, PyAny>,
                operator: pyo3::basic::CompareOp,
            ) -> PyResult<Py<PyAny>> {
                $crate::records::compare(record.as_any(), other, operator, &[$($field),+])
            }
        }
    };
    (@text $field:literal) => { &'static str };
}
pub(crate) use record;

/// What makes a record again, for `copy` and `pickle`: its type, and its fields.
pub(crate) fn reduce<'py>(
    record: &Bound<'py, PyAny>,
    fields: &[&str],
) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
    let values: PyResult<Vec<_>> = fields.iter().map(|field| record.getattr(*field)).collect();
    Ok((record.get_type(), PyTuple::new(record.py(), values?)?))
}

/// A record is made of its fields, in their order, and so copied and pickled.
macro_rules! made {
    ($name:ident: $($field:ident: $kind:ty),+) => {
        #[pymethods]
        impl $name {
            #[new]
            #[pyo3(signature = ($($field),+))]
            fn make($($field: $kind),+) -> $name {
                $name { $($field),+ }
            }

            fn __reduce__<'py>(
                record: &Bound<'py, Self>,
            ) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
                reduce(record.as_any(), &[$(stringify!($field)),+])
            }
        }
    };
}

/// A record without a reference to anything of Python. Python's garbage collector, which pyo3 has look at every object, need not look at
/// it: a batch of many would have it run, and look at everything else.
pub(crate) fn leaf<T>(py: Python<'_>, record: T) -> PyResult<Py<T>>
where
    T: pyo3::PyClass<BaseType = PyAny> + Into<PyClassInitializer<T>>,
{
    let made = Py::new(py, record)?;
    // SAFETY: it is an object of a type that the collector knows, made just now. Such objects may be untracked at any time, and are freed the same
    // way then; untracked, this one is never taken for garbage, which it could only be as part of a cycle.
    unsafe { pyo3::ffi::PyObject_GC_UnTrack(made.as_ptr().cast()) };
    Ok(made)
}

/// Who answered, and how far it was.
#[pyclass(frozen, get_all, module = "keystead", from_py_object)]
#[derive(Clone, Copy)]
pub(crate) struct Header {
    cluster_id: u64,
    member_id: u64,
    revision: i64,
    raft_term: u64,
}

record!(Header: "cluster_id", "member_id", "revision", "raft_term");
made!(Header: cluster_id: u64, member_id: u64, revision: i64, raft_term: u64);

impl From<facade::Header> for Header {
    fn from(header: facade::Header) -> Header {
        Header {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            revision: header.revision,
            raft_term: header.raft_term,
        }
    }
}

/// A key with its value. Its bytes share the memory of the answer they came in until this is dropped.
#[pyclass(frozen, module = "keystead")]
pub(crate) struct KeyValue(pub(crate) facade::KeyValue);

record!(KeyValue: "key", "value", "create_revision", "mod_revision", "version", "lease");

impl From<facade::KeyValue> for KeyValue {
    fn from(kv: facade::KeyValue) -> KeyValue {
        KeyValue(kv)
    }
}

#[pymethods]
impl KeyValue {
    #[new]
    #[pyo3(signature = (key, value, create_revision, mod_revision, version, lease))]
    fn make(
        key: Data,
        value: Data,
        create_revision: i64,
        mod_revision: i64,
        version: i64,
        lease: i64,
    ) -> KeyValue {
        KeyValue(facade::KeyValue {
            key: key.0,
            value: value.0,
            create_revision,
            mod_revision,
            version,
            lease,
        })
    }

    fn __reduce__<'py>(
        record: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
        let fields = [
            "key",
            "value",
            "create_revision",
            "mod_revision",
            "version",
            "lease",
        ];
        reduce(record.as_any(), &fields)
    }

    /// The key.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.key)
    }

    /// The value.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.value)
    }

    /// The revision at which it was created; higher for every later life of the key.
    #[getter]
    fn create_revision(&self) -> i64 {
        self.0.create_revision
    }

    /// The revision of the last write to it.
    #[getter]
    fn mod_revision(&self) -> i64 {
        self.0.mod_revision
    }

    /// How often it was written since it was created.
    #[getter]
    fn version(&self) -> i64 {
        self.0.version
    }

    /// The lease that it is attached to; 0 for none.
    #[getter]
    fn lease(&self) -> i64 {
        self.0.lease
    }
}

/// The answer to a read.
#[pyclass(frozen, get_all, module = "keystead")]
pub(crate) struct RangeResult {
    header: Header,
    kvs: Py<PyList>,
    more: bool,
    count: i64,
}

record!(RangeResult: "header", "kvs", "more", "count");
made!(RangeResult: header: Header, kvs: Py<PyList>, more: bool, count: i64);

impl RangeResult {
    pub(crate) fn new(py: Python<'_>, range: facade::RangeResult) -> PyResult<RangeResult> {
        Ok(RangeResult {
            header: range.header.into(),
            kvs: kvs(py, range.kvs)?,
            more: range.more,
            count: range.count,
        })
    }
}

#[pymethods]
impl RangeResult {
    fn __len__(&self, py: Python<'_>) -> usize {
        self.kvs.bind(py).len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.kvs.bind(py).try_iter()?.into_any())
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.kvs.bind(py).as_any().get_item(index)
    }
}

/// The answer to a write.
#[pyclass(frozen, get_all, module = "keystead")]
pub(crate) struct PutResult {
    header: Header,
    prev_kv: Option<Py<KeyValue>>,
}

record!(PutResult: "header", "prev_kv");
made!(PutResult: header: Header, prev_kv: Option<Py<KeyValue>>);

impl PutResult {
    pub(crate) fn new(py: Python<'_>, put: facade::PutResult) -> PyResult<PutResult> {
        let prev_kv = put.prev_kv.map(|kv| Py::new(py, KeyValue(kv)));
        Ok(PutResult {
            header: put.header.into(),
            prev_kv: prev_kv.transpose()?,
        })
    }
}

#[pymethods]
impl PutResult {
    /// The revision of the write.
    #[getter]
    fn revision(&self) -> i64 {
        self.header.revision
    }
}

/// The answer to a removal.
#[pyclass(frozen, get_all, module = "keystead")]
pub(crate) struct DeleteResult {
    header: Header,
    deleted: i64,
    prev_kvs: Py<PyList>,
}

record!(DeleteResult: "header", "deleted", "prev_kvs");
made!(DeleteResult: header: Header, deleted: i64, prev_kvs: Py<PyList>);

impl DeleteResult {
    pub(crate) fn new(py: Python<'_>, delete: facade::DeleteResult) -> PyResult<DeleteResult> {
        Ok(DeleteResult {
            header: delete.header.into(),
            deleted: delete.deleted,
            prev_kvs: kvs(py, delete.prev_kvs)?,
        })
    }
}

/// The answer to a transaction.
#[pyclass(frozen, get_all, module = "keystead")]
pub(crate) struct TxnResult {
    header: Header,
    succeeded: bool,
    /// One for each operation that ran; none when they cannot be known: see `once`.
    results: Option<Py<PyList>>,
}

record!(TxnResult: "header", "succeeded", "results");
made!(TxnResult: header: Header, succeeded: bool, results: Option<Py<PyList>>);

impl TxnResult {
    pub(crate) fn new(py: Python<'_>, txn: facade::TxnResult) -> PyResult<TxnResult> {
        TxnResult::with(py, txn.header, txn.succeeded, Some(txn.results))
    }

    pub(crate) fn once(py: Python<'_>, once: facade::OnceResult) -> PyResult<TxnResult> {
        TxnResult::with(py, once.header, once.succeeded, once.results)
    }

    fn with(
        py: Python<'_>,
        header: facade::Header,
        succeeded: bool,
        results: Option<Vec<facade::OpResult>>,
    ) -> PyResult<TxnResult> {
        let results = results.map(|results| {
            let each = results.into_iter().map(|result| op_result(py, result));
            let each: Vec<Py<PyAny>> = each.collect::<PyResult<_>>()?;
            PyList::new(py, each).map(Bound::unbind)
        });
        Ok(TxnResult {
            header: header.into(),
            succeeded,
            results: results.transpose()?,
        })
    }
}

#[pymethods]
impl TxnResult {
    fn __bool__(&self) -> PyResult<bool> {
        let text = "a transaction's result is neither true nor false: ask for .succeeded";
        Err(PyTypeError::new_err(text))
    }
}

fn op_result(py: Python<'_>, result: facade::OpResult) -> PyResult<Py<PyAny>> {
    Ok(match result {
        facade::OpResult::Range(range) => Py::new(py, RangeResult::new(py, range)?)?.into_any(),
        facade::OpResult::Put(put) => Py::new(py, PutResult::new(py, put)?)?.into_any(),
        facade::OpResult::Delete(delete) => Py::new(py, DeleteResult::new(py, delete)?)?.into_any(),
        facade::OpResult::Txn(txn) => Py::new(py, TxnResult::new(py, txn)?)?.into_any(),
    })
}

/// A list of keys.
pub(crate) fn kvs(py: Python<'_>, kvs: Vec<facade::KeyValue>) -> PyResult<Py<PyList>> {
    let each = kvs.into_iter().map(|kv| leaf(py, KeyValue(kv)));
    let each: Vec<Py<KeyValue>> = each.collect::<PyResult<_>>()?;
    Ok(PyList::new(py, each)?.unbind())
}

/// A list of byte strings.
pub(crate) fn byte_strings(py: Python<'_>, strings: &[Bytes]) -> PyResult<Py<PyList>> {
    let each = strings.iter().map(|bytes| PyBytes::new(py, bytes));
    let each: Vec<Bound<'_, PyBytes>> = each.collect();
    Ok(PyList::new(py, each)?.unbind())
}

/// A list of pairs of byte strings.
pub(crate) fn byte_pairs(py: Python<'_>, pairs: &[(Bytes, Bytes)]) -> PyResult<Py<PyList>> {
    let each = pairs
        .iter()
        .map(|(key, value)| (PyBytes::new(py, key), PyBytes::new(py, value)));
    let each: Vec<_> = each.collect();
    Ok(PyList::new(py, each)?.unbind())
}
