//! The small tables that the replicated state keeps beside the keys, and the numbers they have in the store.
//!
//! Numbers are stored: they are never given to another table. What a key and a value look like is written in the file
//! that owns the table, and drawn in FORMAT.md.

use bytes::Bytes;
use keystead_mvcc::Table;

/// Leases: [`crate::lease`].
pub(crate) const LEASE: Table = Table(1);
/// Raised alarms: [`crate::alarm`].
pub(crate) const ALARM: Table = Table(2);
/// Members: [`crate::member`].
pub(crate) const MEMBER: Table = Table(3);
/// Members that were removed: [`crate::member`].
pub(crate) const REMOVED_MEMBER: Table = Table(4);
/// Users: [`crate::auth`].
pub(crate) const USER: Table = Table(5);
/// Roles: [`crate::auth`].
pub(crate) const ROLE: Table = Table(6);
/// Whether authentication is enabled, and the revision of users and roles: [`crate::auth`].
pub(crate) const AUTH: Table = Table(7);
/// Facts of the cluster as a whole: [`crate::member`].
pub(crate) const CLUSTER: Table = Table(10);

/// An entry of a small table is not what this version writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table {table} holds an unreadable entry under {key:?}")]
pub struct MalformedEntry {
    /// The table's number.
    pub table: u8,
    /// The entry's key.
    pub key: Bytes,
}

impl MalformedEntry {
    pub(crate) fn new(table: Table, key: &[u8]) -> Self {
        Self {
            table: table.0,
            key: Bytes::copy_from_slice(key),
        }
    }
}
