//! An endpoint as the user names it, and what it takes to reach it.

use std::fmt;
use std::path::PathBuf;

use http::Uri;
use http::uri::{Authority, Scheme};

use crate::error::{Error, Result};

/// Where a member listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// As the user wrote it.
    name: String,
    pub(super) place: Place,
    /// What requests name as the host they are for.
    pub(super) authority: Authority,
}

/// How to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp {
        host: String,
        port: u16,
        encrypted: bool,
    },
    Unix(PathBuf),
}

/// etcd's port for clients.
const DEFAULT_PORT: u16 = 2379;

impl Address {
    /// Reads `https://host:port`, `http://host:port`, `host:port` or `unix:///path`.
    ///
    /// # Errors
    /// It is none of these.
    pub(crate) fn parse(name: &str) -> Result<Address> {
        let refuse = |why: &str| Error::invalid(format!("endpoint {name:?}: {why}"));
        if let Some(path) = name.strip_prefix("unix://").or(name.strip_prefix("unix:")) {
            if path.is_empty() {
                return Err(refuse("the path of the socket is missing"));
            }
            return Ok(Address {
                name: name.to_owned(),
                place: Place::Unix(path.into()),
                authority: Authority::from_static("localhost"),
            });
        }
        let uri = if name.contains("://") {
            name.parse::<Uri>()
        } else {
            format!("http://{name}").parse()
        };
        let uri = uri.map_err(|error| refuse(&error.to_string()))?;
        let encrypted = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refuse("the scheme must be http, https or unix")),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(refuse("an endpoint has no path"));
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| refuse("the host is missing"))?;
        let authority = uri
            .authority()
            .ok_or_else(|| refuse("the host is missing"))?;
        Ok(Address {
            name: name.to_owned(),
            place: Place::Tcp {
                host: host.trim_matches(['[', ']']).to_owned(),
                port: uri.port_u16().unwrap_or(DEFAULT_PORT),
                encrypted,
            },
            authority: authority.clone(),
        })
    }

    /// What requests name as their scheme.
    pub(super) fn scheme(&self) -> Scheme {
        match self.place {
            Place::Tcp {
                encrypted: true, ..
            } => Scheme::HTTPS,
            Place::Tcp { .. } | Place::Unix(_) => Scheme::HTTP,
        }
    }

    /// As the user wrote it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_etcds_tools_write_them() -> Result<()> {
        for (name, host, port, encrypted) in [
            ("http://127.0.0.1:2379", "127.0.0.1", 2379, false),
            ("https://127.0.0.1:2379", "127.0.0.1", 2379, true),
            ("127.0.0.1:23790", "127.0.0.1", 23790, false),
            ("http://etcd-0.etcd/", "etcd-0.etcd", 2379, false),
            ("localhost:1", "localhost", 1, false),
            ("https://[::1]", "::1", 2379, true),
        ] {
            let place = Place::Tcp {
                host: host.to_owned(),
                port,
                encrypted,
            };
            assert_eq!(Address::parse(name)?.place, place, "{name}");
        }
        for name in ["unix:///run/etcd.sock", "unix:/run/etcd.sock"] {
            assert_eq!(
                Address::parse(name)?.place,
                Place::Unix("/run/etcd.sock".into())
            );
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_reached_is_refused_by_name() {
        for name in [
            "",
            "ftp://a:1",
            "http://a:1/path",
            "unix://",
            "http://:1",
            "a b",
        ] {
            let error = Address::parse(name).expect_err("it is no endpoint");
            assert!(error.message.contains(&format!("{name:?}")), "{error}");
        }
    }
}
