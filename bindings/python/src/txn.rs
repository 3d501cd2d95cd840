//! Transactions: what must hold, and what runs then.

use keystead_facade as facade;
use keystead_facade::{Delete, Operand, Relation, Txn};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::args::{Data, LeaseId, Natural, keys};
use crate::call::Call;
use crate::client::Client;
use crate::kv::{put, read};

/// Something that must hold.
#[pyclass(frozen, module = "keystead", from_py_object)]
#[derive(Clone)]
pub(crate) struct Compare(pub(crate) facade::Compare);

#[pymethods]
impl Compare {
    /// `field` and `relation` are words; `operand` is a number, or what is compared with a value.
    #[new]
    fn new(
        key: Option<Data>,
        end: Option<Data>,
        prefix: Option<Data>,
        field: &str,
        relation: &str,
        operand: &Bound<'_, PyAny>,
    ) -> PyResult<Compare> {
        let number = || operand.extract::<Natural>().map(|number| number.0);
        let operand = match field {
            "value" => Operand::Value(operand.extract::<Data>()?.0),
            "lease" => Operand::Lease(operand.extract::<LeaseId>()?.0),
            "version" => Operand::Version(number()?),
            "create_revision" => Operand::CreateRevision(number()?),
            "mod_revision" => Operand::ModRevision(number()?),
            other => return Err(PyTypeError::new_err(format!("a key has no {other}"))),
        };
        let relation = match relation {
            "==" => Relation::Equal,
            "!=" => Relation::NotEqual,
            ">" => Relation::Greater,
            "<" => Relation::Less,
            other => {
                return Err(PyTypeError::new_err(format!(
                    "nothing is compared by {other}"
                )));
            }
        };
        Ok(Compare(facade::Compare {
            keys: keys(key, end, prefix, None)?,
            relation,
            operand,
        }))
    }

    fn __bool__(&self) -> PyResult<bool> {
        let text = "a compare is judged by the server, within a transaction";
        Err(PyTypeError::new_err(text))
    }
}

/// Something that runs within a transaction.
#[pyclass(frozen, module = "keystead", from_py_object)]
#[derive(Clone)]
pub(crate) struct Op(pub(crate) facade::TxnOp);

#[pymethods]
impl Op {
    #[staticmethod]
    #[pyo3(signature = (key, value, lease, prev_kv, ignore_value, ignore_lease))]
    fn put(
        key: Data,
        value: Option<Data>,
        lease: Option<LeaseId>,
        prev_kv: bool,
        ignore_value: bool,
        ignore_lease: bool,
    ) -> PyResult<Op> {
        let put = put(key, value, lease, prev_kv, ignore_value, ignore_lease)?;
        Ok(Op(facade::TxnOp::Put(put)))
    }

    #[staticmethod]
    #[pyo3(signature = (key, end, prefix, from_key, limit, sort_by, descending, keys_only, count_only))]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are named where it is called"
    )]
    fn get(
        key: Option<Data>,
        end: Option<Data>,
        prefix: Option<Data>,
        from_key: Option<Data>,
        limit: Natural,
        sort_by: Option<&str>,
        descending: bool,
        keys_only: bool,
        count_only: bool,
    ) -> PyResult<Op> {
        let keys = keys(key, end, prefix, from_key)?;
        let range = read(keys, limit, sort_by, descending, keys_only, count_only)?;
        Ok(Op(facade::TxnOp::Range(range)))
    }

    #[staticmethod]
    #[pyo3(signature = (key, end, prefix, from_key, prev_kv))]
    fn delete(
        key: Option<Data>,
        end: Option<Data>,
        prefix: Option<Data>,
        from_key: Option<Data>,
        prev_kv: bool,
    ) -> PyResult<Op> {
        let keys = keys(key, end, prefix, from_key)?;
        Ok(Op(facade::TxnOp::Delete(Delete { keys, prev_kv })))
    }

    /// A transaction within.
    #[staticmethod]
    fn txn(when: Vec<Compare>, then: Vec<Op>, otherwise: Vec<Op>) -> Op {
        Op(facade::TxnOp::Txn(txn(when, then, otherwise)))
    }
}

#[pymethods]
impl Client {
    fn txn(&self, when: Vec<Compare>, then: Vec<Op>, otherwise: Vec<Op>, once: bool) -> Call {
        let txn = txn(when, then, otherwise);
        if once {
            self.0.once(txn).into()
        } else {
            self.0.txn(txn).into()
        }
    }
}

/// A transaction of what was given.
pub(crate) fn txn(when: Vec<Compare>, then: Vec<Op>, otherwise: Vec<Op>) -> Txn {
    Txn {
        when: when.into_iter().map(|compare| compare.0).collect(),
        then: then.into_iter().map(|op| op.0).collect(),
        otherwise: otherwise.into_iter().map(|op| op.0).collect(),
    }
}
