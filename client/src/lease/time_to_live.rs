//! Time to live: what a server knows of a lease.

use std::time::Duration;

use bytes::Bytes;
use keystead_proto::etcdserverpb::LeaseTimeToLiveRequest;

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;
use crate::lease::ttl;

/// What is known of a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeToLive {
    /// Who answered.
    pub header: Header,
    /// The lease.
    pub lease: i64,
    /// How long it still lives without being kept alive; `None` when there is no such lease.
    pub remaining: Option<Duration>,
    /// The TTL it was granted with; zero when there is no such lease.
    pub granted: Duration,
    /// Its keys, when they were asked for.
    pub keys: Vec<Bytes>,
}

impl Client {
    /// Asks what is left of a lease.
    ///
    /// # Errors
    /// Those of every read. That there is no such lease is an answer and no error.
    pub async fn time_to_live(&self, lease: i64) -> Result<TimeToLive> {
        self.ask_time_to_live(lease, false).await
    }

    /// The same with the keys that are attached to it. Keys outside the client's namespace are told whole.
    ///
    /// # Errors
    /// `PermissionDenied`: the user may not read one of the keys.
    pub async fn time_to_live_with_keys(&self, lease: i64) -> Result<TimeToLive> {
        self.ask_time_to_live(lease, true).await
    }

    async fn ask_time_to_live(&self, lease: i64, keys: bool) -> Result<TimeToLive> {
        let request = LeaseTimeToLiveRequest { id: lease, keys };
        let answer = self.call(&rpc::LEASE_TIME_TO_LIVE, &request).await?;
        let mut keys = answer.keys;
        keys.iter_mut().for_each(|key| self.keys().strip(key));
        Ok(TimeToLive {
            header: answer.header.into(),
            lease: answer.id,
            // -1 says that there is none; a lease whose time is up and that was not revoked yet may have less.
            remaining: (answer.granted_ttl > 0).then(|| ttl(answer.ttl)),
            granted: ttl(answer.granted_ttl),
            keys,
        })
    }
}
