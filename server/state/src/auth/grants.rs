//! What a user may do, of all of its roles together.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keystead_proto::authpb::permission::Type;
use keystead_proto::authpb::{Permission, Role};

use super::ROOT;
use super::ranges::Ranges;

/// The rights of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Grants {
    root: bool,
    read: Ranges,
    write: Ranges,
}

impl Grants {
    /// The rights that roles of these names give together. A role that does not exist gives none, save root.
    pub(super) fn of(names: &[String], roles: &BTreeMap<Arc<str>, Arc<Role>>) -> Self {
        let ranges = |right: Type| {
            let permissions = names
                .iter()
                .filter_map(|name| roles.get(name.as_str()))
                .flat_map(|role| &role.key_permission);
            Ranges::of(permissions.filter_map(move |permission| range(permission, right)))
        };
        Self {
            root: names.iter().any(|name| name == ROOT),
            read: ranges(Type::Read),
            write: ranges(Type::Write),
        }
    }

    /// Whether the role root is among the roles.
    pub(super) fn root(&self) -> bool {
        self.root
    }

    pub(super) fn read(&self, key: &[u8], end: &[u8]) -> bool {
        self.root || self.read.cover(key, end)
    }

    pub(super) fn write(&self, key: &[u8], end: &[u8]) -> bool {
        self.root || self.write.cover(key, end)
    }
}

/// The range of a permission where it gives this right. A permission of no kind gives none.
fn range(permission: &Permission, right: Type) -> Option<(Bytes, Bytes)> {
    let given = Type::try_from(permission.perm_type).ok()?;
    let gives = given == right || given == Type::Readwrite;
    gives.then(|| (permission.key.clone(), permission.range_end.clone()))
}
