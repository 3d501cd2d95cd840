//! What a transaction compares.

use bytes::Bytes;
use keystead_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

use crate::key_range::KeyRange;
use crate::namespace::Namespace;

/// One compare: the key's `operand`, as it is stored, stands in `relation` to the given one.
///
/// ```
/// # use keystead_client::{Compare, Relation};
/// let unchanged = Compare::mod_revision("config", Relation::Equal, 7);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key, or a range of which every key must do.
    pub keys: KeyRange,
    /// How what is stored must stand to `operand`.
    pub relation: Relation,
    /// What is compared, and with what.
    pub operand: Operand,
}

/// How two things stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// The stored one is the same.
    Equal,
    /// The stored one is another.
    NotEqual,
    /// The stored one is greater.
    Greater,
    /// The stored one is less.
    Less,
}

/// What is compared. A key that is not there has 0 for all of its numbers and no value: comparing its value fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// How often it was written since it was created.
    Version(i64),
    /// The revision at which it was created.
    CreateRevision(i64),
    /// The revision of the last write.
    ModRevision(i64),
    /// The value.
    Value(Bytes),
    /// The lease it is attached to.
    Lease(i64),
}

impl Compare {
    fn of(key: impl Into<Bytes>, relation: Relation, operand: Operand) -> Compare {
        Compare {
            keys: KeyRange::key(key),
            relation,
            operand,
        }
    }

    /// The key is there.
    pub fn present(key: impl Into<Bytes>) -> Compare {
        Compare::create_revision(key, Relation::Greater, 0)
    }

    /// The key is not there.
    pub fn missing(key: impl Into<Bytes>) -> Compare {
        Compare::create_revision(key, Relation::Equal, 0)
    }

    /// How often the key was written since it was created.
    pub fn version(key: impl Into<Bytes>, relation: Relation, version: i64) -> Compare {
        Compare::of(key, relation, Operand::Version(version))
    }

    /// The revision at which the key was created.
    pub fn create_revision(key: impl Into<Bytes>, relation: Relation, revision: i64) -> Compare {
        Compare::of(key, relation, Operand::CreateRevision(revision))
    }

    /// The revision of the key's last write.
    pub fn mod_revision(key: impl Into<Bytes>, relation: Relation, revision: i64) -> Compare {
        Compare::of(key, relation, Operand::ModRevision(revision))
    }

    /// The key's value, byte by byte.
    pub fn value(key: impl Into<Bytes>, relation: Relation, value: impl Into<Bytes>) -> Compare {
        Compare::of(key, relation, Operand::Value(value.into()))
    }

    /// The lease that the key is attached to.
    pub fn lease(key: impl Into<Bytes>, relation: Relation, lease: i64) -> Compare {
        Compare::of(key, relation, Operand::Lease(lease))
    }

    /// The same of every key of a range.
    pub fn over(self, keys: KeyRange) -> Compare {
        Compare { keys, ..self }
    }

    pub(crate) fn into_request(
        self,
        namespace: &Namespace,
    ) -> keystead_proto::etcdserverpb::Compare {
        let keys = namespace.range(self.keys);
        let (target, operand) = match self.operand {
            Operand::Version(it) => (CompareTarget::Version, TargetUnion::Version(it)),
            Operand::CreateRevision(it) => (CompareTarget::Create, TargetUnion::CreateRevision(it)),
            Operand::ModRevision(it) => (CompareTarget::Mod, TargetUnion::ModRevision(it)),
            Operand::Value(it) => (CompareTarget::Value, TargetUnion::Value(it)),
            Operand::Lease(it) => (CompareTarget::Lease, TargetUnion::Lease(it)),
        };
        keystead_proto::etcdserverpb::Compare {
            result: CompareResult::from(self.relation).into(),
            target: target.into(),
            key: keys.key,
            range_end: keys.end,
            target_union: Some(operand),
        }
    }
}

impl From<Relation> for CompareResult {
    fn from(relation: Relation) -> CompareResult {
        match relation {
            Relation::Equal => CompareResult::Equal,
            Relation::NotEqual => CompareResult::NotEqual,
            Relation::Greater => CompareResult::Greater,
            Relation::Less => CompareResult::Less,
        }
    }
}
