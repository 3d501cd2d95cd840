//! What a snapshot file of etcd 3.6 holds, bucket by bucket, so that `etcdutl` accepts it and etcd starts from a restore of it.
//! Called by [`super`]; it gets everything handed in and reads neither store nor clock.
//!
//! Buckets and their encodings: etcd's `server/storage/schema`.

use std::io::{self, Seek, Write};

use bytes::Bytes;
use keystead_mvcc::{Revision, Row};
use keystead_proto::authpb::{Role, User};
use keystead_proto::etcdserverpb::{AlarmMember, Member};
use keystead_state::LeaseFacts;
use prost::Message;
use serde_json::json;

use super::bolt::Writer;

/// The small facts of a snapshot, all as of one applied entry.
pub struct Facts {
    /// Applied log index and its term.
    pub applied: (u64, u64),
    /// Compaction revision, when there was a compaction.
    pub scheduled_compaction: Option<i64>,
    /// The compaction revision whose superseded rows are not among the rows.
    pub finished_compaction: Option<i64>,
    /// Leases with their ids, in any order.
    pub leases: Vec<(i64, LeaseFacts)>,
    /// Alarms in force.
    pub alarms: Vec<AlarmMember>,
    /// Members of the cluster.
    pub members: Vec<Member>,
    /// Users, in any order.
    pub users: Vec<User>,
    /// Roles, in any order.
    pub roles: Vec<Role>,
    /// Whether authentication is enabled.
    pub auth_enabled: bool,
    /// The revision of users and roles.
    pub auth_revision: u64,
    /// The etcd version that wrote the file, `3.6.0`: the storage and cluster version are of its minor.
    pub version: String,
}

/// leasepb.Lease of etcd's `lease/leasepb/lease.proto`.
#[derive(Clone, PartialEq, Message)]
struct LeaseRecord {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl_secs: i64,
    #[prost(int64, tag = "3")]
    left_secs: i64,
}

/// Writes the file and returns its length in bytes. `rows` come in ascending order of revision.
///
/// # Errors
/// What `rows` or writing failed with; the file is then of no use.
pub fn write(
    out: impl Write + Seek,
    facts: &Facts,
    rows: impl Iterator<Item = io::Result<Row>>,
) -> io::Result<u64> {
    let none = || std::iter::empty::<io::Result<(Vec<u8>, Vec<u8>)>>();
    let mut file = Writer::create(out)?;
    file.bucket(
        "alarm",
        sorted(
            facts
                .alarms
                .iter()
                .map(|alarm| (alarm.encode_to_vec(), Vec::new())),
        ),
    )?;
    file.bucket(
        "auth",
        sorted(auth(facts.auth_enabled, facts.auth_revision)),
    )?;
    file.bucket("authRoles", sorted(facts.roles.iter().map(role)))?;
    file.bucket("authUsers", sorted(facts.users.iter().map(user)))?;
    file.bucket("cluster", sorted(cluster(facts)))?;
    file.bucket(
        "key",
        rows.map(|row| row.map(|row| (revision_key(row.revision, row.tombstone), row.payload))),
    )?;
    file.bucket(
        "lease",
        sorted(facts.leases.iter().map(|&(id, facts)| lease(id, facts))),
    )?;
    file.bucket("members", sorted(facts.members.iter().map(member)))?;
    file.bucket("members_removed", none())?;
    file.bucket("meta", sorted(meta(facts)))?;
    file.finish()
}

type Entry = (Vec<u8>, Vec<u8>);

fn sorted(entries: impl Iterator<Item = Entry>) -> impl Iterator<Item = io::Result<Entry>> {
    let mut entries: Vec<_> = entries.collect();
    entries.sort();
    entries.into_iter().map(Ok)
}

fn cluster(facts: &Facts) -> impl Iterator<Item = Entry> {
    let downgrade = json!({"target-version": "", "enabled": false});
    [
        entry("clusterVersion", minor(&facts.version)),
        entry("downgrade", downgrade.to_string()),
    ]
    .into_iter()
}

fn meta(facts: &Facts) -> impl Iterator<Item = Entry> {
    let (index, term) = facts.applied;
    let voters: Vec<u64> = facts
        .members
        .iter()
        .filter(|member| !member.is_learner)
        .map(|member| member.id)
        .collect();
    let mut entries = vec![
        entry(
            "confState",
            json!({"voters": voters, "auto_leave": false}).to_string(),
        ),
        entry("consistent_index", index.to_be_bytes()),
        entry("storageVersion", minor(&facts.version)),
        entry("term", term.to_be_bytes()),
    ];
    let compactions = [
        ("scheduledCompactRev", facts.scheduled_compaction),
        ("finishedCompactRev", facts.finished_compaction),
    ];
    for (name, revision) in compactions {
        let key = revision.map(|main| revision_key(Revision { main, sub: 0 }, false));
        entries.extend(key.map(|key| entry(name, key)));
    }
    entries.into_iter()
}

fn entry(name: &str, value: impl AsRef<[u8]>) -> Entry {
    (name.as_bytes().to_vec(), value.as_ref().to_vec())
}

fn auth(enabled: bool, revision: u64) -> impl Iterator<Item = Entry> {
    [
        entry("authEnabled", [enabled.into()]),
        entry("authRevision", revision.to_be_bytes()),
    ]
    .into_iter()
}

fn role(role: &Role) -> Entry {
    (role.name.to_vec(), role.encode_to_vec())
}

fn user(user: &User) -> Entry {
    (user.name.to_vec(), user.encode_to_vec())
}

fn lease(id: i64, facts: LeaseFacts) -> Entry {
    let record = LeaseRecord {
        id,
        ttl_secs: facts.ttl_secs,
        left_secs: facts.left_secs.unwrap_or_default(),
    };
    (id.to_be_bytes().to_vec(), record.encode_to_vec())
}

fn member(member: &Member) -> Entry {
    let mut record = json!({"id": member.id, "peerURLs": member.peer_urls});
    if member.is_learner {
        record["isLearner"] = true.into();
    }
    if !member.name.is_empty() {
        record["name"] = member.name.as_str().into();
        record["clientURLs"] = json!(member.client_urls);
    }
    (
        format!("{:x}", member.id).into_bytes(),
        record.to_string().into_bytes(),
    )
}

/// `3.6.0` of `3.6.16`: what etcd stores as a version is its minor.
fn minor(version: &str) -> String {
    version
        .rsplit_once('.')
        .map_or_else(|| version.to_owned(), |(minor, _)| format!("{minor}.0"))
}

/// etcd's key of a revision: eight bytes, `_`, eight bytes, and `t` after a tombstone's.
fn revision_key(revision: Revision, tombstone: bool) -> Bytes {
    let mut key = Vec::with_capacity(18);
    key.extend_from_slice(&revision.main.to_be_bytes());
    key.push(b'_');
    key.extend_from_slice(&i64::from(revision.sub).to_be_bytes());
    if tombstone {
        key.push(b't');
    }
    key.into()
}

#[cfg(test)]
mod tests {
    use keystead_proto::authpb::permission::Type;
    use keystead_proto::authpb::{Permission, UserAddOptions};

    use super::*;

    #[test]
    fn a_version_is_stored_as_its_minor() {
        assert_eq!(minor("3.6.16"), "3.6.0");
    }

    #[test]
    fn users_and_roles_are_stored_under_their_names_and_a_password_as_its_hash() {
        let facts: Vec<_> = auth(true, 258).collect();
        assert_eq!(facts[0], entry("authEnabled", [1]));
        assert_eq!(facts[1], entry("authRevision", [0, 0, 0, 0, 0, 0, 1, 2]));
        let ann = User {
            name: "ann".into(),
            password: "$2a$".into(),
            roles: vec!["r".into()],
            options: Some(UserAddOptions::default()),
        };
        let stored = b"\x0a\x03ann\x12\x04$2a$\x1a\x01r\x22\x00";
        assert_eq!(user(&ann), entry("ann", stored));
        let reader = Role {
            name: "r".into(),
            key_permission: vec![Permission {
                perm_type: Type::Readwrite.into(),
                key: "a".into(),
                range_end: "b".into(),
            }],
        };
        let stored = b"\x0a\x01r\x12\x08\x08\x02\x12\x01a\x1a\x01b";
        assert_eq!(role(&reader), entry("r", stored));
    }

    #[test]
    fn tombstones_are_told_by_their_key() {
        let revision = Revision { main: 2, sub: 1 };
        assert_eq!(
            revision_key(revision, false).as_ref(),
            b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\x01"
        );
        assert!(revision_key(revision, true).ends_with(b"t"));
    }
}
