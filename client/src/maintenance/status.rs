//! Status: how one member is.

use keystead_proto::etcdserverpb::StatusRequest;

use super::of_one_member;
use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;

/// How a member is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Who answered.
    pub header: Header,
    /// The server's version.
    pub version: String,
    /// The version of what it stores; empty where the server is older than etcd 3.6.
    pub storage_version: String,
    /// The size of its data, free space within included.
    pub db_size_bytes: i64,
    /// The size of its data without the space that a defragmentation would give back.
    pub db_size_in_use_bytes: i64,
    /// The size at which it takes no more; 0 where the server does not say.
    pub db_size_quota_bytes: i64,
    /// The member that it takes for the leader; 0 for none.
    pub leader: u64,
    /// The last entry of its log that it knows as committed.
    pub raft_index: u64,
    /// The last entry that it has applied.
    pub raft_applied_index: u64,
    /// Its term.
    pub raft_term: u64,
    /// It has no vote yet.
    pub is_learner: bool,
    /// What is wrong with it, alarms for instance.
    pub errors: Vec<String>,
    /// The downgrade of the cluster that is under way, if any; `None` where the server is older than etcd 3.6.
    pub downgrade: Option<Downgrade>,
}

/// Whether a cluster is on its way to an older version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downgrade {
    /// It is.
    pub enabled: bool,
    /// The version it goes to; empty where it does not.
    pub target_version: String,
}

impl Client {
    /// Asks the member that this client is connected to how it is.
    ///
    /// # Errors
    /// See [`Client::range`].
    pub async fn status(&self) -> Result<Status> {
        let options = of_one_member(self);
        let channel = self.channel();
        let answer = channel
            .call(&rpc::STATUS, &StatusRequest {}, &options)
            .await?;
        Ok(Status {
            header: answer.header.into(),
            version: answer.version,
            storage_version: answer.storage_version,
            db_size_bytes: answer.db_size,
            db_size_in_use_bytes: answer.db_size_in_use,
            db_size_quota_bytes: answer.db_size_quota,
            leader: answer.leader,
            raft_index: answer.raft_index,
            raft_applied_index: answer.raft_applied_index,
            raft_term: answer.raft_term,
            is_learner: answer.is_learner,
            errors: answer.errors,
            downgrade: answer.downgrade_info.map(|info| Downgrade {
                enabled: info.enabled,
                target_version: info.target_version,
            }),
        })
    }
}
