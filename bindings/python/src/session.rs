//! Sessions.

use keystead_facade as facade;
use keystead_facade::{Loss, SessionState};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::args::{Data, Length, Ttl, one_key};
use crate::call::Call;
use crate::client::Client;

/// A lease that is kept alive.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Session(pub(crate) facade::Session);

impl From<facade::Session> for Session {
    fn from(session: facade::Session) -> Session {
        Session(session)
    }
}

#[pymethods]
impl Client {
    fn session(&self, ttl: Ttl) -> Call {
        self.0.session(ttl.0).into()
    }
}

#[pymethods]
impl Session {
    #[getter]
    fn lease(&self) -> i64 {
        self.0.lease()
    }

    #[getter]
    fn ttl(&self) -> f64 {
        self.0.ttl().as_secs_f64()
    }

    #[getter]
    fn state(&self) -> (&'static str, Option<&'static str>) {
        state(self.0.state())
    }

    #[getter]
    fn remaining(&self) -> f64 {
        self.0.remaining().as_secs_f64()
    }

    #[pyo3(signature = (timeout))]
    fn lost(&self, timeout: Option<Length>) -> Call {
        self.0.lost(timeout.map(|limit| limit.0)).into()
    }

    fn put(&self, key: Data, value: Data) -> PyResult<Call> {
        Ok(self.0.put(one_key(key)?, value.0).into())
    }

    fn close(&self) -> Call {
        self.0.close().into()
    }
}

/// What something is worth, and why it is lost, if it is.
pub(crate) fn state(state: SessionState) -> (&'static str, Option<&'static str>) {
    match state {
        SessionState::Active => ("active", None),
        SessionState::Suspect => ("suspect", None),
        SessionState::Lost(why) => ("lost", Some(loss(why))),
    }
}

/// Why something is lost.
pub(crate) fn loss(loss: Loss) -> &'static str {
    match loss {
        Loss::Expired => "expired",
        Loss::Forgotten => "forgotten",
        Loss::AuthFailed => "auth_failed",
        Loss::Paused => "paused",
        Loss::Forked => "forked",
        // What a later facade tells apart ended it from outside.
        Loss::Revoked | _ => "revoked",
    }
}

/// The loss that [`loss`] gave this name.
pub(crate) fn loss_named(name: &str) -> PyResult<Loss> {
    let all = [
        Loss::Expired,
        Loss::Revoked,
        Loss::Forgotten,
        Loss::AuthFailed,
        Loss::Paused,
        Loss::Forked,
    ];
    let found = all.into_iter().find(|each| loss(*each) == name);
    found.ok_or_else(|| PyValueError::new_err(format!("nothing is lost by being {name:?}")))
}
