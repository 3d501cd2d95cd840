//! What a user chooses: when connecting, and for every call. Plain structs with the defaults in one place.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use crate::telemetry::TelemetrySink;

/// How to connect. Every field but the endpoints has a default that suits a production client.
///
/// ```
/// # use keystead_client::ConnectOptions;
/// # use std::time::Duration;
/// let options = ConnectOptions {
///     dial_timeout: Duration::from_secs(1),
///     ..ConnectOptions::new(["http://10.0.0.1:2379", "http://10.0.0.2:2379", "unix:///run/etcd.sock"])
/// };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// `https://host:port`, `http://host:port`, `host:port` (which is http), or `unix:///path`; or `srv://domain`, which stands for what DNS has as
    /// `_etcd-client-ssl._tcp.domain` (reached by https) and `_etcd-client._tcp.domain` (by http), and `srv://domain/name` for
    /// `_etcd-client-ssl-name` and `_etcd-client-name` there, as etcdctl's `--discovery-srv` and `--discovery-srv-name` have it. All names are resolved
    /// anew whenever a connection is made.
    pub endpoints: Vec<String>,
    /// Who is asked for `srv://` endpoints; whom this system asks where there is none.
    pub nameservers: Vec<SocketAddr>,
    /// How often the members are asked where their clients are to connect, in place of `endpoints`, beginning with the first call; never where there is
    /// none. Whatever they say, there
    /// is always an endpoint left: an answer without any changes nothing, and when none of theirs can be reached, `endpoints` are tried as well.
    pub sync_interval: Option<Duration>,
    /// What https endpoints are trusted by, and who we are to them.
    pub tls: Tls,
    /// Who asks; nobody where there is none. The token is had with the first call, and anew whenever a server refuses it.
    pub credentials: Option<Credentials>,
    /// What is put before every key, and taken off again.
    pub namespace: Bytes,
    /// The defaults of every call.
    pub call: CallOptions,
    /// How long one endpoint may take to accept a connection and greet.
    pub dial_timeout: Duration,
    /// The least time between two pings of a connection that is used and silent. etcd closes a connection that pings
    /// more often than every five seconds.
    pub keepalive_interval: Duration,
    /// How long a ping may go unanswered, with nothing else heard, before the connection is given up.
    pub keepalive_timeout: Duration,
    /// Is told what happens.
    pub telemetry: Option<TelemetrySink>,
}

impl ConnectOptions {
    /// The defaults, for these endpoints.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> ConnectOptions {
        ConnectOptions {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            nameservers: Vec::new(),
            sync_interval: None,
            tls: Tls::default(),
            credentials: None,
            namespace: Bytes::new(),
            call: CallOptions::default(),
            dial_timeout: Duration::from_secs(2),
            // Together with the timeout and the driver's tick below ten seconds: that long a black hole lasts at most.
            keepalive_interval: Duration::from_secs(6),
            keepalive_timeout: Duration::from_secs(3),
            telemetry: None,
        }
    }

    /// The defaults, for the endpoints that `ETCDCTL_ENDPOINTS` names, divided by commas as etcdctl has it; for
    /// `http://127.0.0.1:2379` where it is not set. `ETCDCTL_CACERT`, `ETCDCTL_CERT` and `ETCDCTL_KEY` name files of TLS;
    /// `ETCDCTL_INSECURE_SKIP_TLS_VERIFY=true` has no server's certificate looked at. `ETCDCTL_USER` has the user, and after a colon the password, unless
    /// `ETCDCTL_PASSWORD` has it.
    pub fn from_env() -> ConnectOptions {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoints = set("ETCDCTL_ENDPOINTS");
        let endpoints = endpoints.as_deref().unwrap_or("http://127.0.0.1:2379");
        let endpoints = endpoints.split(',').map(str::trim);
        let credentials = set("ETCDCTL_USER").map(|user| match set("ETCDCTL_PASSWORD") {
            Some(password) => Credentials::new(user, password),
            None => {
                let (user, password) = user.split_once(':').unwrap_or((&user, ""));
                Credentials::new(user, password)
            }
        });
        let identity = set("ETCDCTL_CERT").zip(set("ETCDCTL_KEY"));
        let identity = identity.map(|(certificate, key)| Identity {
            certificate: certificate.into(),
            key: key.into(),
        });
        ConnectOptions {
            tls: Tls {
                ca: set("ETCDCTL_CACERT").map(PathBuf::from),
                identity,
                server_name: None,
                dangerously_skip_verify: set("ETCDCTL_INSECURE_SKIP_TLS_VERIFY")
                    .is_some_and(|word| is_true(&word)),
            },
            credentials,
            ..ConnectOptions::new(endpoints.filter(|name| !name.is_empty()))
        }
    }
}

/// Go's spellings, which etcdctl takes.
fn is_true(word: &str) -> bool {
    matches!(word, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// What https endpoints are trusted by, and who we are to them: files in PEM, which are read again for every new connection.
/// Where they cannot be read then, what was read last is used.
///
/// ```
/// # use keystead_client::{ConnectOptions, Tls};
/// let options = ConnectOptions {
///     tls: Tls { ca: Some("/etc/etcd/ca.pem".into()), ..Tls::default() },
///     ..ConnectOptions::new(["https://10.0.0.1:2379"])
/// };
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The certificates that servers' certificates must go back to; those that this system trusts where there is none.
    pub ca: Option<PathBuf>,
    /// What the client shows to a server that asks who it is.
    pub identity: Option<Identity>,
    /// The name that a server's certificate must have, where it is not the endpoint's host.
    pub server_name: Option<String>,
    /// Take any server for the right one: its certificate is not looked at, nor `ca`. Whoever can get between the client and the server
    /// then reads and writes everything, the password too. For trying things out.
    pub dangerously_skip_verify: bool,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and the one that the server trusts.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password. It is sent as it is: see that the connection is encrypted.
    pub password: String,
}

impl Credentials {
    /// A user and a password.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Credentials {
        Credentials {
            user: user.into(),
            password: password.into(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What holds for a single call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallOptions {
    /// How long a call may take, attempts and waits together. The default of ten seconds is longer than the seven
    /// after which etcd itself gives up, so that its own word is heard.
    pub deadline: Duration,
    /// Refuse a member that has no leader instead of waiting for it, on streams too. Never asked of a serializable
    /// read: that is served by a member without a leader.
    pub requires_leader: bool,
}

impl Default for CallOptions {
    fn default() -> CallOptions {
        CallOptions {
            deadline: Duration::from_secs(10),
            requires_leader: true,
        }
    }
}
