//! Users, roles and permissions as they are between two changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keystead_proto::authpb::permission::Type;
use keystead_proto::authpb::{self, Permission, Role};

use super::ROOT;
use super::grants::Grants;
use crate::Refusal;

/// Users, roles and permissions after one change and before the next: what [`crate::Reader::auth`] gives.
///
/// Names are compared by their bytes. Everything is permitted while authentication is not enabled.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    pub(super) enabled: bool,
    pub(super) revision: u64,
    pub(super) users: BTreeMap<Arc<str>, Arc<User>>,
    pub(super) roles: BTreeMap<Arc<str>, Arc<Role>>,
}

/// A user as it is stored, and what that gives it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct User {
    pub(super) stored: authpb::User,
    pub(super) grants: Grants,
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The user's name.
    pub user: &'a str,
    /// The revision of users and roles at which the caller was found to be that user; 0 when it is nobody known.
    pub auth_revision: u64,
}

impl Caller<'_> {
    /// Somebody who has not said who it is.
    pub const NOBODY: Self = Caller {
        user: "",
        auth_revision: 0,
    };
}

impl Auth {
    /// Whether authentication is enabled. [`crate::Reader::auth_enabled`] asks the same without taking a view.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// The revision of users and roles: 1 before the first change, one more with each, when authentication is disabled too,
    /// not when it is enabled.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Refuses a caller who has not said who it is.
    ///
    /// # Errors
    /// [`Refusal::UserNameEmpty`].
    pub fn permit_user(&self, caller: Caller<'_>) -> Result<(), Refusal> {
        if self.enabled && caller.auth_revision == 0 {
            return Err(Refusal::UserNameEmpty);
        }
        Ok(())
    }

    /// Whether a user may read all keys of a range, given as a request has it: an empty end for the key alone, one zero byte
    /// for every key from it on.
    ///
    /// # Errors
    /// In this order: [`Refusal::UserNameEmpty`] for nobody, [`Refusal::OldAuthRevision`] when users or roles have changed
    /// since the caller was looked up, [`Refusal::PermissionDenied`].
    pub fn permit_read(&self, caller: Caller<'_>, key: &[u8], end: &[u8]) -> Result<(), Refusal> {
        self.permit(caller, |grants| grants.read(key, end))
    }

    /// Whether a user may write, or delete, all keys of a range.
    ///
    /// # Errors
    /// Those of [`Auth::permit_read`].
    pub fn permit_write(&self, caller: Caller<'_>, key: &[u8], end: &[u8]) -> Result<(), Refusal> {
        self.permit(caller, |grants| grants.write(key, end))
    }

    /// Whether a user has the role root. As in etcd the revision at which it was looked up does not matter here.
    ///
    /// # Errors
    /// [`Refusal::UserNameEmpty`], [`Refusal::UserNotFound`], [`Refusal::PermissionDenied`].
    pub fn permit_admin(&self, user: &str) -> Result<(), Refusal> {
        if !self.enabled {
            return Ok(());
        }
        if user.is_empty() {
            return Err(Refusal::UserNameEmpty);
        }
        let user = self.users.get(user).ok_or(Refusal::UserNotFound)?;
        if user.grants.root() {
            Ok(())
        } else {
            Err(Refusal::PermissionDenied)
        }
    }

    /// The hash that a user's password must fit, for who logs it in. Take [`Auth::revision`] of the same view: a token is worth
    /// nothing when it has moved by the time that the login is applied.
    ///
    /// # Errors
    /// In this order: [`Refusal::AuthNotEnabled`]; [`Refusal::AuthFailed`] for no such user, as for a wrong password;
    /// [`Refusal::NoPasswordUser`].
    pub fn password_hash(&self, user: &str) -> Result<Bytes, Refusal> {
        if !self.enabled {
            return Err(Refusal::AuthNotEnabled);
        }
        let user = self.users.get(user).ok_or(Refusal::AuthFailed)?;
        if user.no_password() {
            return Err(Refusal::NoPasswordUser);
        }
        Ok(user.stored.password.clone())
    }

    /// Every user's name, in order.
    ///
    /// # Errors
    /// Those of [`Auth::permit_admin`] for `caller`.
    pub fn list_users(&self, caller: &str) -> Result<Vec<String>, Refusal> {
        self.permit_admin(caller)?;
        Ok(self.users.keys().map(ToString::to_string).collect())
    }

    /// Every role's name, in order.
    ///
    /// # Errors
    /// Those of [`Auth::permit_admin`] for `caller`.
    pub fn list_roles(&self, caller: &str) -> Result<Vec<String>, Refusal> {
        self.permit_admin(caller)?;
        Ok(self.roles.keys().map(ToString::to_string).collect())
    }

    /// The names of a user's roles, in order. Everybody may ask for its own.
    ///
    /// # Errors
    /// Those of [`Auth::permit_admin`] for `caller`, [`Refusal::UserNotFound`].
    pub fn roles_of(&self, caller: &str, user: &str) -> Result<Vec<String>, Refusal> {
        if user != caller {
            self.permit_admin(caller)?;
        }
        let user = self.users.get(user).ok_or(Refusal::UserNotFound)?;
        Ok(user.stored.roles.clone())
    }

    /// What a role permits, in the order of the keys. Everybody may ask for a role of its own.
    ///
    /// # Errors
    /// Those of [`Auth::permit_admin`] for `caller`, [`Refusal::RoleNotFound`].
    pub fn permissions_of(&self, caller: &str, role: &str) -> Result<Vec<Permission>, Refusal> {
        let own = |user: &Arc<User>| user.stored.roles.iter().any(|name| name == role);
        if !self.users.get(caller).is_some_and(own) {
            self.permit_admin(caller)?;
        }
        let permitted = self.roles.get(role).ok_or(Refusal::RoleNotFound)?;
        Ok(if role == ROOT {
            vec![everything()]
        } else {
            permitted.key_permission.clone()
        })
    }

    fn permit(
        &self,
        caller: Caller<'_>,
        permits: impl FnOnce(&Grants) -> bool,
    ) -> Result<(), Refusal> {
        self.permit_user(caller)?;
        if !self.enabled {
            return Ok(());
        }
        if caller.auth_revision < self.revision {
            return Err(Refusal::OldAuthRevision);
        }
        let user = self.users.get(caller.user);
        if user.is_some_and(|user| permits(&user.grants)) {
            Ok(())
        } else {
            Err(Refusal::PermissionDenied)
        }
    }
}

impl User {
    /// Whether the user can't log in by a password.
    pub(super) fn no_password(&self) -> bool {
        self.stored
            .options
            .is_some_and(|options| options.no_password)
    }
}

/// What etcd says that the role root permits, whatever was granted to it.
fn everything() -> Permission {
    Permission {
        perm_type: Type::Readwrite.into(),
        key: Bytes::new(),
        range_end: Bytes::from_static(b"\0"),
    }
}
