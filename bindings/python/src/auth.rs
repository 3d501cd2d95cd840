//! Users, roles and permissions.

use keystead_facade::{Access, Permission};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::answer::list;
use crate::args::{Data, keys};
use crate::call::Call;
use crate::client::Client;

#[pymethods]
impl Client {
    fn enable_auth(&self) -> Call {
        self.0.enable_auth().into()
    }

    fn disable_auth(&self) -> Call {
        self.0.disable_auth().into()
    }

    fn auth_status(&self) -> Call {
        self.0.auth_status().into()
    }

    #[pyo3(signature = (name, password))]
    fn add_user(&self, name: String, password: Option<String>) -> Call {
        self.0.add_user(name, password).into()
    }

    fn delete_user(&self, name: String) -> Call {
        self.0.delete_user(name).into()
    }

    fn user(&self, name: String) -> Call {
        self.0.user(name).into()
    }

    fn users(&self) -> Call {
        self.0.users().into()
    }

    fn change_password(&self, name: String, password: String) -> Call {
        self.0.change_password(name, password).into()
    }

    fn grant_role(&self, user: String, role: String) -> Call {
        self.0.grant_role(user, role).into()
    }

    fn revoke_role(&self, user: String, role: String) -> Call {
        self.0.revoke_role(user, role).into()
    }

    fn add_role(&self, name: String) -> Call {
        self.0.add_role(name).into()
    }

    fn delete_role(&self, name: String) -> Call {
        self.0.delete_role(name).into()
    }

    fn role(&self, name: String) -> Call {
        self.0.role(name).into()
    }

    fn roles(&self) -> Call {
        self.0.roles().into()
    }

    #[pyo3(signature = (role, access, key, end, prefix, from_key))]
    fn grant_permission(
        &self,
        role: String,
        access: &str,
        key: Option<Data>,
        end: Option<Data>,
        prefix: Option<Data>,
        from_key: Option<Data>,
    ) -> PyResult<Call> {
        let access = match access {
            "read" => Access::Read,
            "write" => Access::Write,
            "readwrite" => Access::ReadWrite,
            other => {
                let text = format!("access is 'read', 'write' or 'readwrite', not {other:?}");
                return Err(PyValueError::new_err(text));
            }
        };
        let keys = keys(key, end, prefix, from_key)?;
        let permission = Permission { access, keys };
        Ok(self.0.grant_permission(role, permission).into())
    }

    #[pyo3(signature = (role, key, end, prefix, from_key))]
    fn revoke_permission(
        &self,
        role: String,
        key: Option<Data>,
        end: Option<Data>,
        prefix: Option<Data>,
        from_key: Option<Data>,
    ) -> PyResult<Call> {
        let keys = keys(key, end, prefix, from_key)?;
        Ok(self.0.revoke_permission(role, keys).into())
    }
}

/// What a role permits: access, first key and end of each.
pub(crate) fn permissions(py: Python<'_>, permissions: Vec<Permission>) -> PyResult<Py<PyAny>> {
    let each = permissions.into_iter().map(|permission| {
        let access = match permission.access {
            Access::Read => "read",
            Access::Write => "write",
            Access::ReadWrite => "readwrite",
            _ => "unknown",
        };
        let key = PyBytes::new(py, &permission.keys.key);
        let end = PyBytes::new(py, &permission.keys.end);
        (access, key, end).into_py_any(py)
    });
    list(py, each.collect::<PyResult<_>>()?)
}
