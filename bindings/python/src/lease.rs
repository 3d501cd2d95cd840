//! Leases that nobody keeps alive.

use pyo3::prelude::*;

use crate::args::{LeaseId, Ttl};
use crate::call::Call;
use crate::client::Client;

#[pymethods]
impl Client {
    fn grant(&self, ttl: Ttl) -> Call {
        self.0.grant(ttl.0).into()
    }

    fn revoke(&self, lease: LeaseId) -> Call {
        self.0.revoke(lease.0).into()
    }

    fn keep_alive_once(&self, lease: LeaseId) -> Call {
        self.0.keep_alive_once(lease.0).into()
    }

    fn time_to_live(&self, lease: LeaseId, keys: bool) -> Call {
        self.0.time_to_live(lease.0, keys).into()
    }

    fn leases(&self) -> Call {
        self.0.leases().into()
    }
}
