//! Grant: a lease comes into being.

use std::time::Duration;

use keystead_proto::etcdserverpb::LeaseGrantRequest;

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;
use crate::lease::{ttl, ttl_secs};

/// Which lease to grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// How long it lives without being kept alive. Counted in whole seconds, rounded up; the server has a least one.
    pub ttl: Duration,
    /// Its id; 0 lets the server choose.
    pub lease: i64,
}

/// The answer to a [`Grant`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Who answered.
    pub header: Header,
    /// The id of the lease.
    pub lease: i64,
    /// How long it lives without being kept alive, as the server decided.
    pub ttl: Duration,
}

impl Client {
    /// Grants a lease of at least `ttl`. Nothing keeps it alive by itself: [`Client::session`] does.
    ///
    /// # Errors
    /// See [`Client::grant_with`].
    pub async fn grant(&self, ttl: Duration) -> Result<Granted> {
        self.grant_with(Grant { ttl, lease: 0 }).await
    }

    /// Grants a lease, with every option.
    ///
    /// # Errors
    /// `FailedPrecondition`: there is a lease with that id. `InvalidArgument`: the TTL is larger than a server takes. Where the
    /// outcome is `Unknown` there may be a lease that ends by itself after its TTL.
    pub async fn grant_with(&self, grant: Grant) -> Result<Granted> {
        let request = LeaseGrantRequest {
            ttl: ttl_secs(grant.ttl),
            id: grant.lease,
        };
        let answer = self.call(&rpc::LEASE_GRANT, &request).await?;
        Ok(Granted {
            header: answer.header.into(),
            lease: answer.id,
            ttl: ttl(answer.ttl),
        })
    }
}
