//! Revoke: a lease ends, and the keys that are attached to it are removed.

use keystead_proto::etcdserverpb::LeaseRevokeRequest;

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;

impl Client {
    /// Ends a lease and removes its keys, all at one revision.
    ///
    /// # Errors
    /// `LeaseNotFound`. Where the outcome is `Unknown` it may have ended, or may yet; revoking it again is safe.
    pub async fn revoke(&self, lease: i64) -> Result<Header> {
        let request = LeaseRevokeRequest { id: lease };
        let answer = self.call(&rpc::LEASE_REVOKE, &request).await?;
        Ok(answer.header.into())
    }
}
