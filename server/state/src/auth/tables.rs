//! Users and roles as the store keeps them. Everything that changes an [`Auth`] comes through here, and is written.
//!
//! ```text
//! table USER   key:   the user's name
//!              value: authpb.User
//! table ROLE   key:   the role's name
//!              value: authpb.Role
//! table AUTH   key:   "enabled"
//!              value: 1; there while authentication is enabled
//!              key:   "revision"
//!              value: 8 bytes, big endian; there once something has changed, 1 before
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keystead_mvcc::{Store, Table, Writer};
use keystead_proto::authpb;
use keystead_proto::authpb::Role;
use prost::Message;

use super::grants::Grants;
use super::view::{Auth, User};
use crate::OpenError;
use crate::table::{AUTH, MalformedEntry, ROLE, USER};

const ENABLED_KEY: &[u8] = b"enabled";
const ENABLED: &[u8] = &[1];
const REVISION_KEY: &[u8] = b"revision";
/// The revision of no users and no roles.
pub(crate) const FIRST_REVISION: u64 = 1;

/// What an entry of table AUTH says.
pub(crate) enum Fact {
    /// Authentication is enabled.
    Enabled,
    /// The revision of users and roles.
    Revision(u64),
}

impl Auth {
    /// Reads users and roles of a store; there are none in one that an earlier version has written.
    pub(super) fn load(store: &Store) -> Result<Self, OpenError> {
        let mut loaded = Self {
            enabled: false,
            revision: FIRST_REVISION,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        };
        for (key, value) in store.table(AUTH)? {
            match decode_fact(&key, &value)? {
                Fact::Enabled => loaded.enabled = true,
                Fact::Revision(revision) => loaded.revision = revision,
            }
        }
        for (key, value) in store.table(ROLE)? {
            let role = Role::decode(value).map_err(|_| MalformedEntry::new(ROLE, &key))?;
            let name = name(ROLE, &key, &role.name)?;
            loaded.roles.insert(name, Arc::new(role));
        }
        for (key, value) in store.table(USER)? {
            let stored =
                authpb::User::decode(value).map_err(|_| MalformedEntry::new(USER, &key))?;
            let name = name(USER, &key, &stored.name)?;
            let user = loaded.user(stored);
            loaded.users.insert(name, user);
        }
        Ok(loaded)
    }

    pub(super) fn set_enabled(&mut self, writer: &mut Writer, enabled: bool) {
        writer.set(AUTH, ENABLED_KEY, enabled.then_some(ENABLED));
        self.enabled = enabled;
    }

    /// Who was permitted something before must be looked up again.
    pub(super) fn count_change(&mut self, writer: &mut Writer) {
        self.revision += 1;
        writer.set(AUTH, REVISION_KEY, Some(&self.revision.to_be_bytes()));
    }

    /// Adds a user, or puts it in the place of the one of its name.
    pub(super) fn put_user(&mut self, writer: &mut Writer, stored: authpb::User) {
        writer.set(USER, &stored.name, Some(&stored.encode_to_vec()));
        let name = text(&stored.name);
        let user = self.user(stored);
        self.users.insert(name, user);
    }

    pub(super) fn remove_user(&mut self, writer: &mut Writer, name: &str) {
        writer.set(USER, name.as_bytes(), None);
        self.users.remove(name);
    }

    /// Adds a role, or puts it in the place of the one of its name; users that have it have its rights from here on.
    pub(super) fn put_role(&mut self, writer: &mut Writer, role: Role) {
        writer.set(ROLE, &role.name, Some(&role.encode_to_vec()));
        let name = text(&role.name);
        self.roles.insert(name.clone(), Arc::new(role));
        for stored in self.users_with(&name) {
            let name = text(&stored.name);
            let user = self.user(stored);
            self.users.insert(name, user);
        }
    }

    pub(super) fn remove_role(&mut self, writer: &mut Writer, name: &str) {
        writer.set(ROLE, name.as_bytes(), None);
        self.roles.remove(name);
        for mut stored in self.users_with(name) {
            stored.roles.retain(|role| role != name);
            self.put_user(writer, stored);
        }
    }

    fn users_with(&self, role: &str) -> Vec<authpb::User> {
        let has = |user: &&Arc<User>| user.stored.roles.iter().any(|name| name == role);
        self.users
            .values()
            .filter(has)
            .map(|user| user.stored.clone())
            .collect()
    }

    fn user(&self, stored: authpb::User) -> Arc<User> {
        let grants = Grants::of(&stored.roles, &self.roles);
        Arc::new(User { stored, grants })
    }
}

/// An entry of table AUTH.
pub(crate) fn decode_fact(key: &[u8], value: &[u8]) -> Result<Fact, MalformedEntry> {
    match (key, <[u8; 8]>::try_from(value)) {
        (ENABLED_KEY, _) if value == ENABLED => Ok(Fact::Enabled),
        (REVISION_KEY, Ok(revision)) => Ok(Fact::Revision(u64::from_be_bytes(revision))),
        _ => Err(MalformedEntry::new(AUTH, key)),
    }
}

/// A name that came in a request, where names are text.
fn text(name: &Bytes) -> Arc<str> {
    String::from_utf8_lossy(name).into()
}

/// The name of an entry, which is its key as well.
fn name(table: Table, key: &Bytes, within: &Bytes) -> Result<Arc<str>, MalformedEntry> {
    let name = std::str::from_utf8(key).ok().filter(|_| key == within);
    name.map(Arc::from)
        .ok_or_else(|| MalformedEntry::new(table, key))
}
