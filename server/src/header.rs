//! Fills every response header. Called wherever an answer is made; nothing else writes a cluster id, a member id or a
//! term into a message.

use std::sync::atomic::{AtomicU64, Ordering};

use keystead_proto::etcdserverpb::ResponseHeader;

/// What all headers of this member share.
pub struct Headers {
    cluster_id: u64,
    member_id: u64,
    raft_term: AtomicU64,
}

impl Headers {
    /// The headers of one member.
    pub fn new(cluster_id: u64, member_id: u64) -> Self {
        Self {
            cluster_id,
            member_id,
            raft_term: AtomicU64::new(0),
        }
    }

    /// This member's id.
    pub fn member_id(&self) -> u64 {
        self.member_id
    }

    /// Answers from now on tell this term.
    pub fn set_term(&self, term: u64) {
        self.raft_term.store(term, Ordering::Relaxed);
    }

    /// The header of an answer as of `revision`.
    pub fn at(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term: self.raft_term.load(Ordering::Relaxed),
        }
    }

    /// Completes a header that has its revision, as the replicated state makes them.
    pub fn complete(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.map_or(0, |header| header.revision);
        *header = Some(self.at(revision));
    }
}
