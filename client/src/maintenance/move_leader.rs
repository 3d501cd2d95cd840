//! Move leader: another member leads from now on.

use keystead_proto::etcdserverpb::MoveLeaderRequest;

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;

impl Client {
    /// Makes the member `target` the leader. Only the leader does it: see [`Client::at`].
    ///
    /// # Errors
    /// `NotLeader`: this client is connected to another member. `FailedPrecondition`: there is no such member, or it has no vote.
    pub async fn move_leader(&self, target: u64) -> Result<Header> {
        let request = MoveLeaderRequest { target_id: target };
        let answer = self.call(&rpc::MOVE_LEADER, &request).await?;
        Ok(answer.header.into())
    }
}
