//! Services. Metadata crosses as JSON text, which Python reads and writes by itself.

use keystead_facade as facade;
use keystead_facade::{Endpoint, Pick, Register, RegistrationState, serde_json};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::args::{Data, Ttl};
use crate::call::Call;
use crate::client::Client;
use crate::errors::to_exception;
use crate::lock::name;
use crate::session::{loss, loss_named};

/// An endpoint that is registered.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Registration(facade::Registration);

/// Where a service can be reached.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Resolver(facade::Resolver);

impl From<facade::Registration> for Registration {
    fn from(registration: facade::Registration) -> Registration {
        Registration(registration)
    }
}

impl From<facade::Resolver> for Resolver {
    fn from(resolver: facade::Resolver) -> Resolver {
        Resolver(resolver)
    }
}

#[pymethods]
impl Client {
    #[pyo3(signature = (service, address, metadata, ttl))]
    fn register(
        &self,
        service: Data,
        address: String,
        metadata: &str,
        ttl: Option<Ttl>,
    ) -> PyResult<Call> {
        let register = Register::new(name(service)?, endpoint((address, metadata.to_owned()))?);
        let ttl = ttl.map_or(register.ttl, |ttl| ttl.0);
        Ok(self.0.register(Register { ttl, ..register }).into())
    }

    fn resolve(&self, service: Data) -> PyResult<Call> {
        Ok(self.0.resolve(name(service)?).into())
    }
}

#[pymethods]
impl Registration {
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.key())
    }

    #[getter]
    fn state(&self) -> (&'static str, Option<i64>, Option<&'static str>) {
        registration_state(self.0.state())
    }

    fn changed(&self, seen: SeenState) -> PyResult<Call> {
        Ok(self.0.changed(seen_state(seen)?).into())
    }

    fn withdraw(&self) -> Call {
        self.0.withdraw().into()
    }
}

/// What [`registration_state`] made, come back.
type SeenState = (String, Option<i64>, Option<String>);

/// Addresses with their metadata in JSON.
type Found = Vec<(String, String)>;

#[pymethods]
impl Resolver {
    fn endpoints(&self, py: Python<'_>) -> PyResult<Found> {
        let found = self
            .0
            .endpoints()
            .map_err(|error| to_exception(py, error))?;
        endpoints(py, &found)
    }

    fn pick(&self, py: Python<'_>, random: bool) -> PyResult<Option<(String, String)>> {
        let how = if random {
            Pick::Random
        } else {
            Pick::RoundRobin
        };
        let found = self.0.pick(how).map_err(|error| to_exception(py, error))?;
        Ok(found.map(|endpoint| (endpoint.address, endpoint.metadata.to_string())))
    }

    fn changed(&self, seen: Found) -> PyResult<Call> {
        let seen: PyResult<Vec<Endpoint>> = seen.into_iter().map(endpoint).collect();
        Ok(self.0.changed(seen?).into())
    }

    fn sync(&self) -> Call {
        self.0.sync().into()
    }

    fn close(&self) {
        self.0.close();
    }
}

pub(crate) fn endpoints(_: Python<'_>, found: &[Endpoint]) -> PyResult<Found> {
    let each = found.iter();
    Ok(each
        .map(|it| (it.address.clone(), it.metadata.to_string()))
        .collect())
}

fn endpoint((address, metadata): (String, String)) -> PyResult<Endpoint> {
    if address.is_empty() {
        return Err(PyValueError::new_err("an address is never empty"));
    }
    let metadata = serde_json::from_str(&metadata);
    Ok(Endpoint {
        address,
        metadata: metadata.map_err(|error| PyValueError::new_err(error.to_string()))?,
    })
}

/// What it is, since which revision, and after which loss.
pub(crate) fn registration_state(
    state: RegistrationState,
) -> (&'static str, Option<i64>, Option<&'static str>) {
    match state {
        RegistrationState::Registered { revision, after } => {
            ("registered", Some(revision), after.map(loss))
        }
        RegistrationState::Lost(why) => ("lost", None, Some(loss(why))),
    }
}

fn seen_state((name, revision, why): SeenState) -> PyResult<RegistrationState> {
    let why = why.map(|name| loss_named(&name)).transpose()?;
    match (name.as_str(), revision, why) {
        ("registered", Some(revision), after) => {
            Ok(RegistrationState::Registered { revision, after })
        }
        ("lost", None, Some(why)) => Ok(RegistrationState::Lost(why)),
        _ => Err(PyValueError::new_err("that is no state of a registration")),
    }
}
