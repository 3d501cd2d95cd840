//! Keys and values.

use keystead_facade::{Compact, Delete, KeyRange, Order, Put, Range, Scan, Sort, SortBy};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::args::{Data, LeaseId, Natural, expected, keys, one_key};
use crate::call::Call;
use crate::client::Client;
use crate::watch::Scanner;

#[pymethods]
impl Client {
    fn get(&self, key: Data) -> PyResult<Call> {
        Ok(self.0.get_key(one_key(key)?).into())
    }

    /// The arguments are those of `range_of`.
    #[pyo3(signature = (key, end, prefix, from_key, limit, revision, sort_by, descending, serializable, keys_only, count_only,
        min_mod_revision, max_mod_revision, min_create_revision, max_create_revision))]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are named where it is called"
    )]
    fn range(
        &self,
        key: Option<Data>,
        end: Option<Data>,
        prefix: Option<Data>,
        from_key: Option<Data>,
        limit: Natural,
        revision: Natural,
        sort_by: Option<&str>,
        descending: bool,
        serializable: bool,
        keys_only: bool,
        count_only: bool,
        min_mod_revision: Natural,
        max_mod_revision: Natural,
        min_create_revision: Natural,
        max_create_revision: Natural,
    ) -> PyResult<Call> {
        let range = Range {
            keys: keys(key, end, prefix, from_key)?,
            limit: limit.0,
            revision: revision.0,
            sort: sort(sort_by, descending)?,
            serializable,
            keys_only,
            count_only,
            min_mod_revision: min_mod_revision.0,
            max_mod_revision: max_mod_revision.0,
            min_create_revision: min_create_revision.0,
            max_create_revision: max_create_revision.0,
        };
        Ok(self.0.range(range).into())
    }

    #[pyo3(signature = (key, end, prefix, from_key, revision, page, keys_only, serializable))]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are named where it is called"
    )]
    fn scan(
        &self,
        key: Option<Data>,
        end: Option<Data>,
        prefix: Option<Data>,
        from_key: Option<Data>,
        revision: Natural,
        page: Natural,
        keys_only: bool,
        serializable: bool,
    ) -> PyResult<Scanner> {
        let scan = Scan {
            keys: keys(key, end, prefix, from_key)?,
            revision: revision.0,
            page: page.0,
            keys_only,
            serializable,
        };
        Ok(self.0.scan(scan).into())
    }

    #[pyo3(signature = (key, value, lease, prev_kv, ignore_value, ignore_lease, if_mod_revision, if_value, if_missing, if_present))]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are named where it is called"
    )]
    fn put(
        &self,
        key: Data,
        value: Option<Data>,
        lease: Option<LeaseId>,
        prev_kv: bool,
        ignore_value: bool,
        ignore_lease: bool,
        if_mod_revision: Option<Natural>,
        if_value: Option<Data>,
        if_missing: bool,
        if_present: bool,
    ) -> PyResult<Call> {
        let put = put(key, value, lease, prev_kv, ignore_value, ignore_lease)?;
        Ok(
            match expected(if_mod_revision, if_value, if_missing, if_present)? {
                None => self.0.put(put).into(),
                Some(expected) => self.0.put_if(put, expected).into(),
            },
        )
    }

    #[pyo3(signature = (key, end, prefix, from_key, prev_kv, if_mod_revision, if_value))]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are named where it is called"
    )]
    fn delete(
        &self,
        key: Option<Data>,
        end: Option<Data>,
        prefix: Option<Data>,
        from_key: Option<Data>,
        prev_kv: bool,
        if_mod_revision: Option<Natural>,
        if_value: Option<Data>,
    ) -> PyResult<Call> {
        let keys = keys(key, end, prefix, from_key)?;
        let expected = expected(if_mod_revision, if_value, false, false)?;
        if expected.is_some() && !keys.is_single() {
            return Err(PyTypeError::new_err("a condition is about one key"));
        }
        let delete = Delete { keys, prev_kv };
        Ok(match expected {
            None => self.0.delete(delete).into(),
            Some(expected) => self.0.delete_if(delete, expected).into(),
        })
    }

    fn compact(&self, revision: Natural, physical: bool) -> Call {
        let compact = Compact {
            revision: revision.0,
            physical,
        };
        self.0.compact(compact).into()
    }
}

/// A write as people say it.
pub(crate) fn put(
    key: Data,
    value: Option<Data>,
    lease: Option<LeaseId>,
    prev_kv: bool,
    ignore_value: bool,
    ignore_lease: bool,
) -> PyResult<Put> {
    if value.is_some() == ignore_value {
        return Err(PyTypeError::new_err(
            "a put has a value, or keeps the one that is there",
        ));
    }
    if lease.is_some() && ignore_lease {
        return Err(PyTypeError::new_err(
            "a put has a lease, or keeps the one that is there",
        ));
    }
    Ok(Put {
        key: one_key(key)?,
        value: value.map(|value| value.0).unwrap_or_default(),
        lease: lease.map_or(0, |lease| lease.0),
        prev_kv,
        ignore_value,
        ignore_lease,
    })
}

/// A read as people say it, within a transaction.
pub(crate) fn read(
    keys: KeyRange,
    limit: Natural,
    sort_by: Option<&str>,
    descending: bool,
    keys_only: bool,
    count_only: bool,
) -> PyResult<Range> {
    Ok(Range {
        limit: limit.0,
        sort: sort(sort_by, descending)?,
        keys_only,
        count_only,
        ..Range::new(keys)
    })
}

fn sort(by: Option<&str>, descending: bool) -> PyResult<Option<Sort>> {
    let order = if descending {
        Order::Descending
    } else {
        Order::Ascending
    };
    let by = match by {
        None if descending => SortBy::Key,
        None => return Ok(None),
        Some("key") => SortBy::Key,
        Some("version") => SortBy::Version,
        Some("create_revision") => SortBy::CreateRevision,
        Some("mod_revision") => SortBy::ModRevision,
        Some("value") => SortBy::Value,
        Some(other) => {
            return Err(PyValueError::new_err(format!(
                "keys are sorted by key, version, create_revision, mod_revision or value, not by {other:?}"
            )));
        }
    };
    Ok(Some(Sort { by, order }))
}
