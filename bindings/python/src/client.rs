//! The client: connecting, its views, and closing it.

use std::net::SocketAddr;
use std::path::PathBuf;

use keystead_facade as facade;
use keystead_facade::{CallOptions, ConnectOptions, Credentials, Identity, Tls};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::args::{Data, Length};
use crate::call::Call;

/// A client of one cluster.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Client(pub(crate) facade::Client);

impl From<facade::Client> for Client {
    fn from(client: facade::Client) -> Client {
        Client(client)
    }
}

#[pymethods]
impl Client {
    /// Makes one. The answer is the client.
    #[staticmethod]
    #[pyo3(signature = (endpoints, *, user, password, ca, cert, key, server_name, insecure_skip_verify, namespace, deadline,
        requires_leader, dial_timeout, sync_interval, nameservers, from_env, lazy))]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are named where it is called"
    )]
    fn open(
        endpoints: Option<Vec<String>>,
        user: Option<String>,
        password: Option<String>,
        ca: Option<PathBuf>,
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
        server_name: Option<String>,
        insecure_skip_verify: Option<bool>,
        namespace: Option<Data>,
        deadline: Option<Length>,
        requires_leader: Option<bool>,
        dial_timeout: Option<Length>,
        sync_interval: Option<Length>,
        nameservers: Option<Vec<String>>,
        from_env: bool,
        lazy: bool,
    ) -> PyResult<Call> {
        let mut options = match (endpoints, from_env) {
            (Some(endpoints), false) => ConnectOptions::new(endpoints),
            (None, true) => ConnectOptions::from_env(),
            (Some(endpoints), true) => ConnectOptions {
                endpoints,
                ..ConnectOptions::from_env()
            },
            (None, false) => {
                let text =
                    "a client needs endpoints, such as 'http://127.0.0.1:2379', or from_env=True";
                return Err(PyTypeError::new_err(text));
            }
        };
        if options.endpoints.is_empty() {
            return Err(PyValueError::new_err("a client needs an endpoint"));
        }
        options.credentials = match (user, password) {
            (Some(user), Some(password)) => Some(Credentials::new(user, password)),
            (None, None) => options.credentials,
            _ => return Err(PyTypeError::new_err("a user comes with a password")),
        };
        let identity = match (cert, key) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            (None, None) => options.tls.identity,
            _ => return Err(PyTypeError::new_err("a certificate comes with its key")),
        };
        options.tls = Tls {
            ca: ca.or(options.tls.ca),
            identity,
            server_name: server_name.or(options.tls.server_name),
            dangerously_skip_verify: insecure_skip_verify
                .unwrap_or(options.tls.dangerously_skip_verify),
        };
        if let Some(Data(namespace)) = namespace {
            options.namespace = namespace;
        }
        options.call = call_options(options.call, deadline, requires_leader)?;
        if let Some(limit) = dial_timeout {
            options.dial_timeout = some_time(limit, "dial_timeout")?;
        }
        if let Some(interval) = sync_interval {
            options.sync_interval = Some(some_time(interval, "sync_interval")?);
        }
        for name in nameservers.unwrap_or_default() {
            let address: Result<SocketAddr, _> = name.parse();
            let refused =
                |_| PyValueError::new_err(format!("{name:?} is no address of a name server"));
            options.nameservers.push(address.map_err(refused)?);
        }
        Ok(facade::Client::open(options, !lazy).into())
    }

    /// Connects now, where the first call would.
    fn connect(&self) -> Call {
        self.0.connect().into()
    }

    /// The same client with a view of the keys below a prefix alone.
    fn namespace(&self, prefix: Data) -> Client {
        Client(self.0.namespace(&prefix.0))
    }

    /// The same client with other options for its calls.
    #[pyo3(signature = (deadline, requires_leader))]
    fn with_options(
        &self,
        deadline: Option<Length>,
        requires_leader: Option<bool>,
    ) -> PyResult<Client> {
        let options = call_options(self.0.call_options(), deadline, requires_leader)?;
        Ok(Client(self.0.with_options(options)))
    }

    /// A client of one endpoint alone.
    fn at(&self, endpoint: String) -> Call {
        self.0.at(endpoint).into()
    }

    fn sync_endpoints(&self) -> Call {
        self.0.sync_endpoints().into()
    }

    #[getter]
    fn endpoints(&self) -> Vec<String> {
        self.0.endpoints().to_vec()
    }

    #[getter]
    fn deadline(&self) -> f64 {
        self.0.call_options().deadline.as_secs_f64()
    }

    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&self) -> Call {
        self.0.close().into()
    }
}

fn call_options(
    mut options: CallOptions,
    deadline: Option<Length>,
    requires_leader: Option<bool>,
) -> PyResult<CallOptions> {
    if let Some(deadline) = deadline {
        options.deadline = some_time(deadline, "deadline")?;
    }
    if let Some(requires_leader) = requires_leader {
        options.requires_leader = requires_leader;
    }
    Ok(options)
}

fn some_time(length: Length, name: &str) -> PyResult<std::time::Duration> {
    if length.0.is_zero() {
        return Err(PyValueError::new_err(format!("{name} is above zero")));
    }
    Ok(length.0)
}
