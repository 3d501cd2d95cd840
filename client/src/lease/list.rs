//! Every lease there is.

use keystead_proto::etcdserverpb::LeaseLeasesRequest;

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;

/// All leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// Who answered.
    pub header: Header,
    /// Their ids, in no order.
    pub leases: Vec<i64>,
}

impl Client {
    /// The ids of all leases, in no order.
    ///
    /// # Errors
    /// Those of every read.
    pub async fn leases(&self) -> Result<Vec<i64>> {
        Ok(self.leases_with_header().await?.leases)
    }

    /// The same, and who answered.
    ///
    /// # Errors
    /// Those of every read.
    pub async fn leases_with_header(&self) -> Result<Leases> {
        let answer = self
            .call(&rpc::LEASE_LEASES, &LeaseLeasesRequest {})
            .await?;
        Ok(Leases {
            header: answer.header.into(),
            leases: answer.leases.into_iter().map(|lease| lease.id).collect(),
        })
    }
}
