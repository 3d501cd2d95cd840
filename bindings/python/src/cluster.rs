//! Who the members are.

use keystead_facade::Member;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use crate::answer::list;
use crate::args::MemberId;
use crate::call::Call;
use crate::client::Client;

#[pymethods]
impl Client {
    fn members(&self, linearizable: bool) -> Call {
        self.0.members(linearizable).into()
    }

    fn add_member(&self, peer_urls: Vec<String>, is_learner: bool) -> Call {
        self.0.add_member(peer_urls, is_learner).into()
    }

    fn remove_member(&self, id: MemberId) -> Call {
        self.0.remove_member(id.0).into()
    }

    fn update_member(&self, id: MemberId, peer_urls: Vec<String>) -> Call {
        self.0.update_member(id.0, peer_urls).into()
    }

    fn promote_member(&self, id: MemberId) -> Call {
        self.0.promote_member(id.0).into()
    }
}

pub(crate) fn members(py: Python<'_>, members: Vec<Member>) -> PyResult<Py<PyAny>> {
    let each = members.into_iter().map(|it| member(py, it));
    list(py, each.collect::<PyResult<_>>()?)
}

pub(crate) fn member(py: Python<'_>, member: Member) -> PyResult<Py<PyAny>> {
    let Member {
        id,
        name,
        peer_urls,
        client_urls,
        is_learner,
    } = member;
    (id, name, peer_urls, client_urls, is_learner).into_py_any(py)
}
