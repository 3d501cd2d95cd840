//! What a write means: operations, what each changes in a state, and states as clients see them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use keystead_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keystead_proto::etcdserverpb::request_op::Request;
use keystead_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RequestOp,
    ResponseHeader, TxnRequest,
};
use keystead_tests::Unary;
use tonic::Status;
use tonic::transport::Channel;

/// Longer than any run: no lease expires by itself.
pub const TTL_SECS: i64 = 100_000;

/// A live key.
#[derive(Clone, PartialEq, Eq)]
pub struct Version {
    pub value: Arc<str>,
    pub lease: i64,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
}

/// The keys that are alive after some revision.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct State {
    pub keys: BTreeMap<String, Version>,
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = first_word(&self.value);
        let Version {
            lease,
            create_revision,
            mod_revision,
            version,
            ..
        } = self;
        write!(
            f,
            "{word:?} ({} bytes) lease {lease} created {create_revision} modified {mod_revision} version {version}",
            self.value.len()
        )
    }
}

impl State {
    /// Where another state differs, for people.
    pub fn differences(&self, found: &State) -> String {
        let mut text = String::new();
        let keys: BTreeSet<_> = self.keys.keys().chain(found.keys.keys()).collect();
        for key in keys {
            let (expected, found) = (self.keys.get(key), found.keys.get(key));
            if expected != found {
                // Writing to a String can't fail.
                let _ = writeln!(text, "{key}: expected {expected:?}, found {found:?}");
            }
        }
        text
    }
}

/// One write of a client.
#[derive(Clone)]
pub enum Operation {
    Put {
        key: String,
        value: Arc<str>,
        lease: i64,
    },
    Delete {
        key: String,
    },
    /// If the guard exists, all of the first, else all of the second.
    Txn {
        guard: String,
        then: Vec<Operation>,
        or_else: Vec<Operation>,
    },
    Grant {
        lease: i64,
    },
    Revoke {
        lease: i64,
    },
}

/// What becomes of a key: a value and its lease, or nothing.
type Change = (String, Option<(Arc<str>, i64)>);

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Put { key, value, lease } => {
                write!(f, "put {key} {:?} lease {lease}", first_word(value))
            }
            Operation::Delete { key } => write!(f, "delete {key}"),
            Operation::Txn {
                guard,
                then,
                or_else,
            } => write!(f, "if {guard} {then:?} else {or_else:?}"),
            Operation::Grant { lease } => write!(f, "grant {lease}"),
            Operation::Revoke { lease } => write!(f, "revoke {lease}"),
        }
    }
}

/// Values are told apart by it.
fn first_word(value: &str) -> &str {
    value.split(' ').next().unwrap_or_default()
}

impl Operation {
    /// Sends it, and gives the revision of the answer.
    pub async fn send(&self, channel: Channel) -> Result<i64, Status> {
        let header = match self {
            Operation::Put { .. } => self.put().send(channel).await?.header,
            Operation::Delete { key } => {
                let answer = delete(key).send(channel).await?;
                answer.header
            }
            Operation::Txn {
                guard,
                then,
                or_else,
            } => {
                let txn = TxnRequest {
                    compare: vec![exists(guard)],
                    success: then.iter().map(Operation::nested).collect(),
                    failure: or_else.iter().map(Operation::nested).collect(),
                };
                txn.send(channel).await?.header
            }
            Operation::Grant { lease } => {
                let grant = LeaseGrantRequest {
                    ttl: TTL_SECS,
                    id: *lease,
                };
                grant.send(channel).await?.header
            }
            Operation::Revoke { lease } => {
                LeaseRevokeRequest { id: *lease }
                    .send(channel)
                    .await?
                    .header
            }
        };
        Ok(header
            .map(|ResponseHeader { revision, .. }| revision)
            .expect("every answer has a header"))
    }

    fn put(&self) -> PutRequest {
        match self {
            Operation::Put { key, value, lease } => PutRequest {
                key: key.clone().into(),
                value: value.as_bytes().to_vec().into(),
                lease: *lease,
                ..Default::default()
            },
            other => unreachable!("not a put: {other:?}"),
        }
    }

    fn nested(&self) -> RequestOp {
        let request = match self {
            Operation::Delete { key } => Request::RequestDeleteRange(delete(key)),
            put => Request::RequestPut(put.put()),
        };
        RequestOp {
            request: Some(request),
        }
    }

    /// What it changes in a state; nothing when it takes no revision there.
    fn changes(&self, state: &State) -> Vec<Change> {
        match self {
            Operation::Put { key, value, lease } => {
                vec![(key.clone(), Some((value.clone(), *lease)))]
            }
            Operation::Delete { key } if state.keys.contains_key(key) => vec![(key.clone(), None)],
            Operation::Txn {
                guard,
                then,
                or_else,
            } => {
                let branch = if state.keys.contains_key(guard) {
                    then
                } else {
                    or_else
                };
                branch.iter().flat_map(|it| it.changes(state)).collect()
            }
            Operation::Revoke { lease } => {
                let attached = state.keys.iter().filter(|(_, key)| key.lease == *lease);
                attached.map(|(key, _)| (key.clone(), None)).collect()
            }
            Operation::Delete { .. } | Operation::Grant { .. } => Vec::new(),
        }
    }

    /// The state after it, when it is given `revision`; `None` when it changes nothing.
    pub fn after(&self, state: &State, revision: i64) -> Option<State> {
        let changes = self.changes(state);
        if changes.is_empty() {
            return None;
        }
        let mut after = state.clone();
        for (key, change) in changes {
            let before = after.keys.remove(&key);
            let Some((value, lease)) = change else {
                continue;
            };
            let version = Version {
                value,
                lease,
                create_revision: before.as_ref().map_or(revision, |it| it.create_revision),
                mod_revision: revision,
                version: before.map_or(1, |it| it.version + 1),
            };
            after.keys.insert(key, version);
        }
        Some(after)
    }

    /// What it does to the leases that are alive.
    pub fn lease(&self, leases: &mut BTreeSet<i64>) {
        match self {
            Operation::Grant { lease } => drop(leases.insert(*lease)),
            Operation::Revoke { lease } => drop(leases.remove(lease)),
            _ => {}
        }
    }
}

fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

fn exists(key: &str) -> Compare {
    Compare {
        key: key.to_owned().into(),
        target: CompareTarget::Version.into(),
        result: CompareResult::Greater.into(),
        target_union: Some(TargetUnion::Version(0)),
        ..Default::default()
    }
}
