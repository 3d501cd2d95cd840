//! Every lease there is.

use keystead_proto::etcdserverpb::LeaseLeasesRequest;

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;

impl Client {
    /// The ids of all leases, in no order.
    ///
    /// # Errors
    /// Those of every read.
    pub async fn leases(&self) -> Result<Vec<i64>> {
        let answer = self
            .call(&rpc::LEASE_LEASES, &LeaseLeasesRequest {})
            .await?;
        Ok(answer.leases.into_iter().map(|lease| lease.id).collect())
    }
}
