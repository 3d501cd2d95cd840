//! Compact: forget the history before a revision.

use keystead_proto::etcdserverpb::CompactionRequest;

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;

/// What to forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compact {
    /// Reads and watches before this revision are refused from then on.
    pub revision: i64,
    /// Answer only after the rows are gone from the store.
    pub physical: bool,
}

impl Client {
    /// Forgets the history before a revision.
    ///
    /// # Errors
    /// `Compacted`: it was done before, up to there or further. `FutureRevision`.
    pub async fn compact(&self, compact: Compact) -> Result<Header> {
        let request = CompactionRequest {
            revision: compact.revision,
            physical: compact.physical,
        };
        let answer = self.call(&rpc::COMPACT, &request).await?;
        Ok(answer.header.into())
    }
}
