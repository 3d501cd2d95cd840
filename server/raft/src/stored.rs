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

use std::collections::BTreeSet;

use bytes::{BufMut as _, Bytes, BytesMut};
use keystead_proto::internal;
use prost::Message;

use crate::type_config::{LogId, Membership, Payload, Proposal, StoredMembership, Vote};

const COMMAND: u8 = 1;
const BLANK: u8 = 2;
const MEMBERSHIP: u8 = 3;

const VERSION: u32 = 1;

/// Bytes that this build can not read: written by a later release, or damaged in a way that no checksum saw.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("a log entry of unknown kind {0:?}")]
    Kind(Option<u8>),
    #[error("a {what} of version {found}, and this release reads version {VERSION}")]
    Version { what: &'static str, found: u32 },
    #[error("a {0} without its log id")]
    LogId(&'static str),
    #[error("a membership in which a voter is not a member")]
    Membership,
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
}

/// A batch of records as one log entry.
pub(crate) fn command(records: Vec<internal::Record>) -> Bytes {
    let entry = internal::Entry {
        version: VERSION,
        records,
    };
    let mut bytes = BytesMut::with_capacity(1 + entry.encoded_len());
    bytes.put_u8(COMMAND);
    entry
        .encode(&mut bytes)
        .expect("a growing buffer takes any length");
    bytes.freeze()
}

/// The records of a log entry that `command` wrote. Their payloads are slices of `stored`.
pub(crate) fn records(mut stored: Bytes) -> Result<Vec<internal::Record>, Unreadable> {
    let kind = stored.first().copied();
    if kind != Some(COMMAND) {
        return Err(Unreadable::Kind(kind));
    }
    let entry = internal::Entry::decode(stored.split_off(1))?;
    readable("log entry", entry.version)?;
    Ok(entry.records)
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
    readable("vote", record.version)?;
    let vote = Vote::new(record.term, record.candidate);
    Ok(Vote {
        committed: record.committed,
        ..vote
    })
}

/// What the store has seen when an entry was applied: its id, and the membership in force then. The store keeps the
/// note of the last flush, so that after a restart openraft learns from it where to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl Note {
    pub(crate) fn encode(&self) -> Bytes {
        AppliedRecord {
            version: VERSION,
            last: self.last.as_ref().map(LogIdRecord::from),
            membership_at: self.membership.log_id().as_ref().map(LogIdRecord::from),
            membership: Some(MembershipRecord::from(self.membership.membership())),
        }
        .encode_to_vec()
        .into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, Unreadable> {
        let record = AppliedRecord::decode(bytes)?;
        readable("note of the applied state", record.version)?;
        let membership = record.membership.unwrap_or_default().try_into()?;
        Ok(Self {
            last: Some(
                record
                    .last
                    .ok_or(Unreadable::LogId("note of the applied state"))?
                    .into(),
            ),
            membership: StoredMembership::new(record.membership_at.map(LogId::from), membership),
        })
    }
}

fn readable(what: &'static str, found: u32) -> Result<(), Unreadable> {
    if found == VERSION {
        Ok(())
    } else {
        Err(Unreadable::Version { what, found })
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
    /// Voters and learners.
    #[prost(uint64, repeated, tag = "3")]
    members: Vec<u64>,
}

impl From<&Membership> for MembershipRecord {
    fn from(membership: &Membership) -> Self {
        let set = |ids: &BTreeSet<u64>| VotersRecord {
            ids: ids.iter().copied().collect(),
        };
        Self {
            version: VERSION,
            voters: membership.get_joint_config().iter().map(set).collect(),
            members: membership.nodes().map(|(id, ())| *id).collect(),
        }
    }
}

impl TryFrom<MembershipRecord> for Membership {
    type Error = Unreadable;

    fn try_from(record: MembershipRecord) -> Result<Self, Unreadable> {
        readable("membership", record.version)?;
        let members: BTreeSet<u64> = record.members.into_iter().collect();
        let voters: Vec<BTreeSet<u64>> = record
            .voters
            .into_iter()
            .map(|set| set.ids.into_iter().collect())
            .collect();
        if voters
            .iter()
            .any(|set: &BTreeSet<u64>| !set.is_subset(&members))
        {
            return Err(Unreadable::Membership);
        }
        Ok(Membership::new_with_defaults(voters, members))
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
    #[prost(message, optional, tag = "4")]
    membership: Option<MembershipRecord>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joint() -> Membership {
        Membership::new_with_defaults(vec![[1, 2].into(), [2, 3].into()], [1, 2, 3, 9])
    }

    #[test]
    fn a_command_comes_back_as_the_records_that_went_in() {
        let record = |payload: &'static [u8]| internal::Record {
            kind: internal::RecordKind::Put as i32,
            payload: Bytes::from_static(payload),
            user: "root".to_owned(),
            auth_revision: 7,
        };
        let went_in = vec![record(b"one"), record(b""), record(b"three")];
        assert_eq!(records(command(went_in.clone())).unwrap(), went_in);
    }

    #[test]
    fn the_stored_bytes_are_the_ones_drawn() {
        let one = internal::Record {
            kind: 1,
            payload: Bytes::from_static(b"p"),
            ..Default::default()
        };
        assert_eq!(command(vec![one])[..], [1, 8, 1, 18, 5, 8, 1, 18, 1, b'p']);
        assert_eq!(payload(&Payload::Blank)[..], [2]);
        let one_voter = Membership::new_with_defaults(vec![[5].into()], [5]);
        assert_eq!(
            payload(&Payload::Membership(one_voter))[..],
            [3, 8, 1, 18, 3, 10, 1, 5, 26, 1, 5]
        );
        let note = Note {
            last: Some(LogId::new_term_index(3, 4)),
            membership: StoredMembership::default(),
        };
        assert_eq!(note.encode()[..], [8, 1, 18, 4, 8, 3, 16, 4, 34, 2, 8, 1]);
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
            let note = Note {
                last: Some(LogId::new_term_index(4, 9)),
                membership,
            };
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
            records(Bytes::from_static(&[1, 8, 2])),
            Err(Unreadable::Version { found: 2, .. })
        ));
        assert!(matches!(
            records(Bytes::from_static(&[1, 0xff])),
            Err(Unreadable::Protobuf(_))
        ));
        let stranger = [3, 8, 1, 18, 3, 10, 1, 5];
        assert!(matches!(
            parse_payload(Bytes::copy_from_slice(&stranger)),
            Err(Unreadable::Membership)
        ));
    }
}
