//! The members' records, and the version that the cluster speaks. Who votes is consensus' business.
//!
//! ```text
//! table MEMBER    key:   member id, 8 bytes, big endian
//!                 value: etcdserverpb.Member
//! table CLUSTER   key:   "version"
//!                 value: the version as text
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keystead_mvcc::{Store, Writer};
use keystead_proto::etcdserverpb::Member;
use prost::Message;

use crate::OpenError;
use crate::table::{CLUSTER, MEMBER, MalformedEntry};

const VERSION_KEY: &[u8] = b"version";

/// The members by id, and the cluster's version.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Members {
    members: BTreeMap<u64, Member>,
    cluster_version: Option<Arc<str>>,
}

impl Members {
    pub(crate) fn load(store: &Store) -> Result<Self, OpenError> {
        let mut loaded = Self::default();
        for (key, value) in store.table(MEMBER)? {
            let member = Member::decode(value).map_err(|_| MalformedEntry::new(MEMBER, &key))?;
            loaded.members.insert(member.id, member);
        }
        for (key, value) in store.table(CLUSTER)? {
            if key == VERSION_KEY {
                let version = text(&value).ok_or_else(|| MalformedEntry::new(CLUSTER, &key))?;
                loaded.cluster_version = Some(version);
            }
        }
        Ok(loaded)
    }

    pub(crate) fn list(&self) -> Vec<Member> {
        self.members.values().cloned().collect()
    }

    pub(crate) fn cluster_version(&self) -> Option<Arc<str>> {
        self.cluster_version.clone()
    }

    /// A member says its name and where clients find it. One that is not known yet is taken as it came; of one that is,
    /// the peer URLs and the role stay.
    pub(crate) fn publish(&mut self, writer: &mut Writer, published: Member) {
        let member = match self.members.get(&published.id) {
            Some(known) => Member {
                peer_urls: known.peer_urls.clone(),
                is_learner: known.is_learner,
                ..published
            },
            None => published,
        };
        writer.set(
            MEMBER,
            &member.id.to_be_bytes(),
            Some(&member.encode_to_vec()),
        );
        self.members.insert(member.id, member);
    }

    /// The cluster speaks another version from here on.
    pub(crate) fn set_cluster_version(&mut self, writer: &mut Writer, version: Arc<str>) {
        writer.set(CLUSTER, VERSION_KEY, Some(version.as_bytes()));
        self.cluster_version = Some(version);
    }
}

/// A version as it is stored and as it is in the log; none when it is not text.
pub(crate) fn text(bytes: &Bytes) -> Option<Arc<str>> {
    std::str::from_utf8(bytes).ok().map(Arc::from)
}
