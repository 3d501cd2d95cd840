//! How what openraft hands us is written as bytes: log entries, votes, and the note that goes with every flush of the
//! store.
//!
//! Used by `log_storage`, `machine` and `snapshot`. Every form starts with what it is or which version it has;
//! a form that this build does not know is an error, never a guess.
//!
//! ```text
//! log entry:  kind (1 byte)  body
//!             1  command     internal::Entry, protobuf
//!             2  blank       nothing
//!             3  membership  MembershipRecord, protobuf
//! vote:       VoteRecord, protobuf
//! note:       AppliedRecord, protobuf
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut as _, Bytes, BytesMut};
use keystead_proto::internal;
use prost::Message;

use crate::node::Node;
use crate::type_config::{LogId, Membership, Payload, Proposal, StoredMembership, Vote};

const COMMAND: u8 = 1;
const BLANK: u8 = 2;
const MEMBERSHIP: u8 = 3;

const VERSION: u32 = 1;
/// Of a membership; the first had ids alone.
const MEMBERSHIP_VERSION: u32 = 2;

/// Bytes that this build can not read: written by a later release, or damaged in a way that no checksum saw.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("a log entry of unknown kind {0:?}")]
    Kind(Option<u8>),
    #[error("a {what} of version {found}, and this release reads version {read}")]
    Version {
        what: &'static str,
        found: u32,
        read: u32,
    },
    #[error("a {0} without its log id")]
    LogId(&'static str),
    #[error("a membership in which a voter is not a member")]
    Membership,
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
}

/// A batch of records as one log entry, with the runs of them that other members forwarded.
pub(crate) fn command(records: Vec<internal::Record>, origins: Vec<internal::Origin>) -> Bytes {
    let entry = internal::Entry {
        version: VERSION,
        records,
        origins,
    };
    let mut bytes = BytesMut::with_capacity(1 + entry.encoded_len());
    bytes.put_u8(COMMAND);
    entry
        .encode(&mut bytes)
        .expect("a growing buffer takes any length");
    bytes.freeze()
}

/// The log entry that `command` wrote. The payloads of its records are slices of `stored`.
pub(crate) fn entry(mut stored: Bytes) -> Result<internal::Entry, Unreadable> {
    let kind = stored.first().copied();
    if kind != Some(COMMAND) {
        return Err(Unreadable::Kind(kind));
    }
    let entry = internal::Entry::decode(stored.split_off(1))?;
    readable("log entry", entry.version, VERSION)?;
    Ok(entry)
}

/// The bytes of any payload, as the log keeps them.
pub(crate) fn payload(payload: &Payload) -> Bytes {
    match payload {
        Payload::Blank => Bytes::from_static(&[BLANK]),
        Payload::Normal(proposal) => proposal.stored.clone(),
        Payload::Membership(membership) => {
            let mut bytes = vec![MEMBERSHIP];
            let record = MembershipRecord::from(membership);
            record
                .encode(&mut bytes)
                .expect("a growing buffer takes any length");
            bytes.into()
        }
    }
}

/// About how many bytes that is, told at once.
pub(crate) fn payload_bytes(payload: &Payload) -> usize {
    match payload {
        Payload::Normal(proposal) => proposal.stored.len(),
        Payload::Blank | Payload::Membership(_) => 1,
    }
}

/// The payload that `payload` wrote. The records of a command are not looked at here: apply does, once.
pub(crate) fn parse_payload(stored: Bytes) -> Result<Payload, Unreadable> {
    match stored.first() {
        Some(&COMMAND) => Ok(Payload::Normal(Proposal {
            stored,
            ticket: None,
        })),
        Some(&BLANK) => Ok(Payload::Blank),
        Some(&MEMBERSHIP) => {
            let record = MembershipRecord::decode(stored.slice(1..))?;
            Ok(Payload::Membership(record.try_into()?))
        }
        other => Err(Unreadable::Kind(other.copied())),
    }
}

/// A vote, as the log keeps it.
pub(crate) fn vote(vote: &Vote) -> Bytes {
    let Vote {
        leader_id,
        committed,
    } = *vote;
    let record = VoteRecord {
        version: VERSION,
        term: leader_id.term,
        candidate: leader_id.voted_for,
        committed,
    };
    record.encode_to_vec().into()
}

/// The vote that `vote` wrote.
pub(crate) fn parse_vote(stored: Bytes) -> Result<Vote, Unreadable> {
    let record = VoteRecord::decode(stored)?;
    readable("vote", record.version, VERSION)?;
    let vote = Vote::new(record.term, record.candidate);
    Ok(Vote {
        committed: record.committed,
        ..vote
    })
}

/// What the store has seen when an entry was applied: its id, and the membership in force then. The store keeps the
/// note of the last flush, so that after a restart openraft learns from it where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) last: Option<LogId>,
    membership: StoredMembership,
    /// The membership as it is stored: it rarely changes, and each entry has a note.
    encoded: Bytes,
}

impl Default for Note {
    fn default() -> Self {
        Self::new(None, StoredMembership::default())
    }
}

impl Note {
    pub(crate) fn new(last: Option<LogId>, membership: StoredMembership) -> Self {
        let record = MembershipRecord::from(membership.membership());
        Self {
            last,
            membership,
            encoded: record.encode_to_vec().into(),
        }
    }

    pub(crate) fn membership(&self) -> &StoredMembership {
        &self.membership
    }

    pub(crate) fn encode(&self) -> Bytes {
        AppliedRecord {
            version: VERSION,
            last: self.last.as_ref().map(LogIdRecord::from),
            membership_at: self.membership.log_id().as_ref().map(LogIdRecord::from),
            membership: self.encoded.clone(),
        }
        .encode_to_vec()
        .into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, Unreadable> {
        let record = AppliedRecord::decode(bytes)?;
        readable("note of the applied state", record.version, VERSION)?;
        let last = record
            .last
            .ok_or(Unreadable::LogId("note of the applied state"))?;
        let membership = MembershipRecord::decode(record.membership)?.try_into()?;
        let membership_at = record.membership_at.map(LogId::from);
        Ok(Self::new(
            Some(last.into()),
            StoredMembership::new(membership_at, membership),
        ))
    }
}

fn readable(what: &'static str, found: u32, read: u32) -> Result<(), Unreadable> {
    if found == read {
        Ok(())
    } else {
        Err(Unreadable::Version { what, found, read })
    }
}

#[derive(Clone, PartialEq, Message)]
struct VoteRecord {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(uint64, tag = "3")]
    candidate: u64,
    /// Whether a quorum granted it, so that the candidate leads.
    #[prost(bool, tag = "4")]
    committed: bool,
}

#[derive(Clone, PartialEq, Message)]
struct LogIdRecord {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

impl From<&LogId> for LogIdRecord {
    fn from(id: &LogId) -> Self {
        Self {
            term: id.leader_id.term,
            index: id.index,
        }
    }
}

impl From<LogIdRecord> for LogId {
    fn from(record: LogIdRecord) -> Self {
        LogId::new_term_index(record.term, record.index)
    }
}

/// One set of voters; two of them while a change of membership is under way.
#[derive(Clone, PartialEq, Message)]
struct VotersRecord {
    #[prost(uint64, repeated, tag = "1")]
    ids: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct MembershipRecord {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, repeated, tag = "2")]
    voters: Vec<VotersRecord>,
    /// Voters and learners. (Under 3 stood their ids alone.)
    #[prost(message, repeated, tag = "4")]
    members: Vec<NodeRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeRecord {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    peer_urls: Vec<String>,
}

impl NodeRecord {
    fn of(id: u64, node: &Node) -> Self {
        let Node { name, peer_urls } = node.clone();
        Self {
            id,
            name,
            peer_urls,
        }
    }

    fn node(self) -> (u64, Node) {
        let Self {
            id,
            name,
            peer_urls,
        } = self;
        (id, Node { name, peer_urls })
    }
}

impl From<&Membership> for MembershipRecord {
    fn from(membership: &Membership) -> Self {
        let set = |ids: &BTreeSet<u64>| VotersRecord {
            ids: ids.iter().copied().collect(),
        };
        Self {
            version: MEMBERSHIP_VERSION,
            voters: membership.get_joint_config().iter().map(set).collect(),
            members: membership
                .nodes()
                .map(|(id, node)| NodeRecord::of(*id, node))
                .collect(),
        }
    }
}

impl TryFrom<MembershipRecord> for Membership {
    type Error = Unreadable;

    fn try_from(record: MembershipRecord) -> Result<Self, Unreadable> {
        readable("membership", record.version, MEMBERSHIP_VERSION)?;
        let members: BTreeMap<u64, Node> =
            record.members.into_iter().map(NodeRecord::node).collect();
        let voters = record
            .voters
            .into_iter()
            .map(|set| set.ids.into_iter().collect())
            .collect();
        Membership::new(voters, members).map_err(|_| Unreadable::Membership)
    }
}

#[derive(Clone, PartialEq, Message)]
struct AppliedRecord {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, optional, tag = "2")]
    last: Option<LogIdRecord>,
    #[prost(message, optional, tag = "3")]
    membership_at: Option<LogIdRecord>,
    /// MembershipRecord
    #[prost(bytes = "bytes", tag = "4")]
    membership: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, peer_url: &str) -> Node {
        Node {
            name: name.to_owned(),
            peer_urls: vec![peer_url.to_owned()],
        }
    }

    fn joint() -> Membership {
        let nodes = BTreeMap::from([
            (1, node("one", "http://one:2380")),
            (2, node("", "https://two:2380")),
            (3, Node::default()),
            (9, node("learner", "http://nine:2380")),
        ]);
        Membership::new(vec![[1, 2].into(), [2, 3].into()], nodes).unwrap()
    }

    #[test]
    fn a_command_comes_back_as_the_records_that_went_in() {
        let record = |payload: &'static [u8]| internal::Record {
            kind: internal::RecordKind::Put as i32,
            payload: Bytes::from_static(payload),
            user: "root".to_owned(),
            auth_revision: 7,
            own: true,
        };
        let went_in = vec![record(b"one"), record(b""), record(b"three")];
        assert_eq!(
            entry(command(went_in.clone(), Vec::new())).unwrap().records,
            went_in
        );
    }

    #[test]
    fn the_stored_bytes_are_the_ones_drawn() {
        let one = internal::Record {
            kind: 1,
            payload: Bytes::from_static(b"p"),
            ..Default::default()
        };
        assert_eq!(
            command(vec![one], Vec::new())[..],
            [1, 8, 1, 18, 5, 8, 1, 18, 1, b'p']
        );
        assert_eq!(payload(&Payload::Blank)[..], [2]);
        let nodes = BTreeMap::from([(5, node("m", "u"))]);
        let one_voter = Membership::new(vec![[5].into()], nodes).unwrap();
        assert_eq!(
            payload(&Payload::Membership(one_voter))[..],
            *b"\x03\x08\x02\x12\x03\x0a\x01\x05\x22\x08\x08\x05\x12\x01m\x1a\x01u"
        );
        let last = Some(LogId::new_term_index(3, 4));
        let note = Note::new(last, StoredMembership::default());
        assert_eq!(note.encode()[..], [8, 1, 18, 4, 8, 3, 16, 4, 34, 2, 8, 2]);
    }

    #[test]
    fn memberships_survive_with_both_sets_of_voters_and_learners() {
        let Payload::Membership(back) =
            parse_payload(payload(&Payload::Membership(joint()))).unwrap()
        else {
            panic!("another kind came back");
        };
        assert_eq!(back, joint());
    }

    #[test]
    fn votes_survive() {
        let asked = Vote::new(7, 0x8e9e);
        for went_in in [
            asked,
            Vote {
                committed: true,
                ..asked
            },
        ] {
            assert_eq!(parse_vote(vote(&went_in)).unwrap(), went_in);
        }
    }

    #[test]
    fn notes_survive_with_and_without_a_membership() {
        for membership in [
            StoredMembership::default(),
            StoredMembership::new(Some(LogId::new_term_index(0, 0)), joint()),
        ] {
            let note = Note::new(Some(LogId::new_term_index(4, 9)), membership);
            assert_eq!(Note::decode(note.encode()).unwrap(), note);
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(matches!(
            parse_payload(Bytes::new()),
            Err(Unreadable::Kind(None))
        ));
        assert!(matches!(
            parse_payload(Bytes::from_static(&[9, 1])),
            Err(Unreadable::Kind(Some(9)))
        ));
        assert!(matches!(
            entry(Bytes::from_static(&[1, 8, 2])),
            Err(Unreadable::Version { found: 2, .. })
        ));
        assert!(matches!(
            entry(Bytes::from_static(&[1, 0xff])),
            Err(Unreadable::Protobuf(_))
        ));
        let with_ids_alone = [3, 8, 1, 18, 3, 10, 1, 5, 26, 1, 5];
        assert!(matches!(
            parse_payload(Bytes::copy_from_slice(&with_ids_alone)),
            Err(Unreadable::Version { found: 1, .. })
        ));
        let stranger = [3, 8, 2, 18, 3, 10, 1, 5];
        assert!(matches!(
            parse_payload(Bytes::copy_from_slice(&stranger)),
            Err(Unreadable::Membership)
        ));
    }
}
