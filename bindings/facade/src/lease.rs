//! Leases that nobody keeps alive.

use std::time::Duration;

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;

impl Client {
    /// Grants a lease. Answers `Granted`.
    pub fn grant(&self, ttl: Duration) -> Call {
        self.call(
            move |client| async move { client.grant(ttl).await },
            Answer::Granted,
        )
    }

    /// Ends a lease: what is attached to it goes. Answers `Header`.
    pub fn revoke(&self, lease: i64) -> Call {
        self.call(
            move |client| async move { client.revoke(lease).await },
            Answer::Header,
        )
    }

    /// Renews a lease, once. Answers `Ttl`.
    pub fn keep_alive_once(&self, lease: i64) -> Call {
        self.call(
            move |client| async move { client.keep_alive_once(lease).await },
            Answer::Ttl,
        )
    }

    /// How long a lease has, and, when asked for, what is attached to it. Answers `TimeToLive`.
    pub fn time_to_live(&self, lease: i64, keys: bool) -> Call {
        self.call(
            move |client| async move {
                if keys {
                    client.time_to_live_with_keys(lease).await
                } else {
                    client.time_to_live(lease).await
                }
            },
            Answer::TimeToLive,
        )
    }

    /// All leases there are. Answers `Leases`.
    pub fn leases(&self) -> Call {
        self.call(
            |client| async move { client.leases().await },
            Answer::Leases,
        )
    }
}
