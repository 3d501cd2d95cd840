//! Defragment: give the free space within a member's data back.

use keystead_proto::etcdserverpb::DefragmentRequest;

use super::of_one_member;
use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;

impl Client {
    /// Gives the free space within the data of the member that this client is connected to back to its file system. A real etcd
    /// answers nobody meanwhile, and it may take longer than the usual deadline.
    ///
    /// # Errors
    /// See [`Client::put_with`]; to do it twice harms nothing.
    pub async fn defragment(&self) -> Result<Header> {
        let options = of_one_member(self);
        let request = DefragmentRequest {};
        let channel = self.channel();
        let answer = channel.call(&rpc::DEFRAGMENT, &request, &options).await?;
        Ok(answer.header.into())
    }
}
