//! What operators ask of a member.

use std::path::PathBuf;

use keystead_facade as facade;
use keystead_facade::{Alarm, AlarmKind};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::answer::list;
use crate::args::{MemberId, Natural};
use crate::call::Call;
use crate::client::Client;
use crate::records::Header;

#[pymethods]
impl Client {
    fn status(&self) -> Call {
        self.0.status().into()
    }

    fn defragment(&self) -> Call {
        self.0.defragment().into()
    }

    fn hash(&self, revision: Natural) -> Call {
        self.0.hash(revision.0).into()
    }

    fn alarms(&self) -> Call {
        self.0.alarms().into()
    }

    fn disarm(&self, member_id: MemberId, kind: &str) -> PyResult<Call> {
        let kind = match kind {
            "no_space" => AlarmKind::NoSpace,
            "corrupt" => AlarmKind::Corrupt,
            other => {
                let text = format!("an alarm is 'no_space' or 'corrupt', not {other:?}");
                return Err(PyValueError::new_err(text));
            }
        };
        let alarm = Alarm {
            member_id: member_id.0,
            kind,
        };
        Ok(self.0.disarm(alarm).into())
    }

    fn move_leader(&self, target: MemberId) -> Call {
        self.0.move_leader(target.0).into()
    }

    fn save_snapshot(&self, path: PathBuf) -> Call {
        self.0.save_snapshot(path).into()
    }
}

pub(crate) fn status(py: Python<'_>, status: facade::Status) -> PyResult<Py<PyAny>> {
    let sizes = (
        status.db_size_bytes,
        status.db_size_in_use_bytes,
        status.db_size_quota_bytes,
    );
    let raft = (
        status.raft_index,
        status.raft_applied_index,
        status.raft_term,
    );
    let header = Header::from(status.header);
    let versions = (status.version, status.storage_version);
    (
        header,
        versions,
        sizes,
        status.leader,
        raft,
        status.is_learner,
        status.errors,
    )
        .into_py_any(py)
}

pub(crate) fn hash(py: Python<'_>, hash: facade::Hash) -> PyResult<Py<PyAny>> {
    (
        Header::from(hash.header),
        hash.hash,
        hash.compact_revision,
        hash.revision,
    )
        .into_py_any(py)
}

pub(crate) fn alarms(py: Python<'_>, alarms: facade::Alarms) -> PyResult<Py<PyAny>> {
    let each = alarms.alarms.into_iter().map(|alarm| {
        let kind = match alarm.kind {
            AlarmKind::NoSpace => "no_space",
            AlarmKind::Corrupt => "corrupt",
            _ => "unknown",
        };
        (alarm.member_id, kind).into_py_any(py)
    });
    list(py, each.collect::<PyResult<_>>()?)
}

pub(crate) fn snapshot(py: Python<'_>, saved: facade::SavedSnapshot) -> PyResult<Py<PyAny>> {
    let digest = PyBytes::new(py, &saved.digest);
    (saved.size_bytes, digest, saved.version).into_py_any(py)
}
