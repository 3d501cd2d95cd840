//! Who answered, and how far it was.

use keystead_proto::etcdserverpb::ResponseHeader;

/// What every answer begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Header {
    /// The cluster.
    pub cluster_id: u64,
    /// The member that answered.
    pub member_id: u64,
    /// The store's revision when the answer was made. The only field that is set inside a transaction's answers.
    pub revision: i64,
    /// The member's Raft term.
    pub raft_term: u64,
}

impl From<Option<ResponseHeader>> for Header {
    fn from(header: Option<ResponseHeader>) -> Header {
        let header = header.unwrap_or_default();
        Header {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            revision: header.revision,
            raft_term: header.raft_term,
        }
    }
}
