//! Hash: whether two members have the same.

use keystead_proto::etcdserverpb::HashKvRequest;

use super::of_one_member;
use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;

/// The hash of a member's keys and history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash {
    /// Who answered.
    pub header: Header,
    /// The hash. Members that compacted at the same revision have the same one at the same revision.
    pub hash: u32,
    /// The revision before which there is no history, which is no part of the hash.
    pub compact_revision: i64,
    /// The revision up to which it is; 0 where the server is older than etcd 3.6.
    pub revision: i64,
}

impl Client {
    /// Asks the member that this client is connected to for the hash of its keys and their history up to `revision`; 0 for the newest.
    ///
    /// # Errors
    /// `Compacted` and `FutureRevision`: there is no such revision (any more, or yet).
    pub async fn hash(&self, revision: i64) -> Result<Hash> {
        let options = of_one_member(self);
        let request = HashKvRequest { revision };
        let channel = self.channel();
        let answer = channel.call(&rpc::HASH_KV, &request, &options).await?;
        Ok(Hash {
            header: answer.header.into(),
            hash: answer.hash,
            compact_revision: answer.compact_revision,
            revision: answer.hash_revision,
        })
    }
}
