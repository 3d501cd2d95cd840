//! What a user chooses: when connecting, and for every call. Plain structs with the defaults in one place.

use std::time::Duration;

use bytes::Bytes;

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
    /// `http://host:port`, `host:port`, or `unix:///path`. Names are resolved anew whenever a connection is made.
    pub endpoints: Vec<String>,
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
}

impl ConnectOptions {
    /// The defaults, for these endpoints.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> ConnectOptions {
        ConnectOptions {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            namespace: Bytes::new(),
            call: CallOptions::default(),
            dial_timeout: Duration::from_secs(2),
            // Together with the timeout and the driver's tick below ten seconds: that long a black hole lasts at most.
            keepalive_interval: Duration::from_secs(6),
            keepalive_timeout: Duration::from_secs(3),
        }
    }

    /// The defaults, for the endpoints that `ETCDCTL_ENDPOINTS` names, divided by commas as etcdctl has it; for
    /// `http://127.0.0.1:2379` where it is not set.
    pub fn from_env() -> ConnectOptions {
        let endpoints = std::env::var("ETCDCTL_ENDPOINTS").unwrap_or_default();
        let endpoints = endpoints.split(',').map(str::trim);
        let endpoints: Vec<_> = endpoints.filter(|name| !name.is_empty()).collect();
        if endpoints.is_empty() {
            return ConnectOptions::new(["http://127.0.0.1:2379"]);
        }
        ConnectOptions::new(endpoints)
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
