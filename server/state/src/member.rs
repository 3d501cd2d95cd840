//! The members' records, the ids of those that were removed, and the version that the cluster speaks.
//!
//! Who is a member, with which peer URLs and which role, is consensus' business and comes with the entry that changes it;
//! its name and its client URLs a member publishes itself.
//!
//! ```text
//! table MEMBER           key:   member id, 8 bytes, big endian
//!                        value: etcdserverpb.Member
//! table REMOVED_MEMBER   key:   member id, 8 bytes, big endian
//!                        value: 1, the version
//! table CLUSTER          key:   "version"
//!                        value: the version as text
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use keystead_mvcc::{Store, Writer};
use keystead_proto::etcdserverpb::Member;
use prost::Message;

use crate::OpenError;
use crate::table::{CLUSTER, MEMBER, MalformedEntry, REMOVED_MEMBER};

const VERSION_KEY: &[u8] = b"version";
/// The version of a removed member's entry, which is all that it holds.
const REMOVED: &[u8] = &[1];

/// The members by id, and the cluster's version.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Members {
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    cluster_version: Option<Arc<str>>,
}

impl Members {
    pub(crate) fn load(store: &Store) -> Result<Self, OpenError> {
        let mut loaded = Self::default();
        for (key, value) in store.table(MEMBER)? {
            let member = Member::decode(value).map_err(|_| MalformedEntry::new(MEMBER, &key))?;
            loaded.members.insert(member.id, member);
        }
        for (key, value) in store.table(REMOVED_MEMBER)? {
            match <[u8; 8]>::try_from(&key[..]) {
                Ok(id) if value == REMOVED => loaded.removed.insert(u64::from_be_bytes(id)),
                _ => return Err(MalformedEntry::new(REMOVED_MEMBER, &key).into()),
            };
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

    pub(crate) fn was_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    pub(crate) fn cluster_version(&self) -> Option<Arc<str>> {
        self.cluster_version.clone()
    }

    /// These are all members from here on. What those that stay have published stays with them.
    pub(crate) fn replace(&mut self, writer: &mut Writer, members: Vec<Member>) {
        let mut before = std::mem::take(&mut self.members);
        for mut member in members {
            if let Some(known) = before.remove(&member.id) {
                member.name = known.name;
                member.client_urls = known.client_urls;
            }
            self.put(writer, member);
        }
        for gone in before.into_keys() {
            writer.set(MEMBER, &gone.to_be_bytes(), None);
            writer.set(REMOVED_MEMBER, &gone.to_be_bytes(), Some(REMOVED));
            self.removed.insert(gone);
        }
    }

    /// A member says its name and where clients find it; the peer URLs and the role stay. One that was removed before its
    /// word arrived is not heard.
    pub(crate) fn publish(&mut self, writer: &mut Writer, published: Member) {
        let Some(known) = self.members.get(&published.id) else {
            return;
        };
        let member = Member {
            peer_urls: known.peer_urls.clone(),
            is_learner: known.is_learner,
            ..published
        };
        self.put(writer, member);
    }

    fn put(&mut self, writer: &mut Writer, member: Member) {
        let id = member.id;
        writer.set(MEMBER, &id.to_be_bytes(), Some(&member.encode_to_vec()));
        self.members.insert(id, member);
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
