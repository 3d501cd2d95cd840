//! Changes of users, with the refusals of etcd's, in its order.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use keystead_mvcc::{Table, Writer};
use keystead_proto::authpb;
use keystead_proto::etcdserverpb::{
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest,
    AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
};

use super::ROOT;
use super::view::{Auth, User};
use crate::Refusal;

/// Adds a user with no roles. etcd has no limit for a name but its database's, at which it ends; here a name that is no key of
/// a table is refused.
pub(super) fn add(
    auth: &mut Auth,
    writer: &mut Writer,
    request: AuthUserAddRequest,
) -> Result<(), Refusal> {
    if request.name.is_empty() {
        return Err(Refusal::UserNameEmpty);
    }
    if auth.users.contains_key(request.name.as_str()) {
        return Err(Refusal::UserExists);
    }
    let options = request.options.unwrap_or_default();
    let password = if options.no_password {
        Bytes::new()
    } else {
        decode(&request.hashed_password)?
    };
    if request.name.len() > Table::MAX_KEY_BYTES {
        return Err(Refusal::RequestTooLarge);
    }
    let user = authpb::User {
        name: request.name.into(),
        password,
        roles: Vec::new(),
        options: Some(options),
    };
    auth.put_user(writer, user);
    auth.count_change(writer);
    Ok(())
}

pub(super) fn delete(
    auth: &mut Auth,
    writer: &mut Writer,
    request: &AuthUserDeleteRequest,
) -> Result<(), Refusal> {
    if auth.enabled && request.name == ROOT {
        return Err(Refusal::InvalidAuthManagement);
    }
    known(auth, &request.name)?;
    auth.remove_user(writer, &request.name);
    auth.count_change(writer);
    Ok(())
}

/// A user that has no password keeps having none, and that counts as a change.
pub(super) fn change_password(
    auth: &mut Auth,
    writer: &mut Writer,
    request: &AuthUserChangePasswordRequest,
) -> Result<(), Refusal> {
    let user = known(auth, &request.name)?;
    let password = if user.no_password() {
        Bytes::new()
    } else {
        decode(&request.hashed_password)?
    };
    let changed = authpb::User {
        password,
        ..user.stored.clone()
    };
    auth.put_user(writer, changed);
    auth.count_change(writer);
    Ok(())
}

/// The role root may be granted before it is made. What a user has already is granted without a change.
pub(super) fn grant_role(
    auth: &mut Auth,
    writer: &mut Writer,
    request: AuthUserGrantRoleRequest,
) -> Result<(), Refusal> {
    let user = known(auth, &request.user)?;
    if request.role != ROOT && !auth.roles.contains_key(request.role.as_str()) {
        return Err(Refusal::RoleNotFound);
    }
    let Err(at) = user.stored.roles.binary_search(&request.role) else {
        return Ok(());
    };
    let mut changed = user.stored.clone();
    changed.roles.insert(at, request.role);
    auth.put_user(writer, changed);
    auth.count_change(writer);
    Ok(())
}

pub(super) fn revoke_role(
    auth: &mut Auth,
    writer: &mut Writer,
    request: &AuthUserRevokeRoleRequest,
) -> Result<(), Refusal> {
    if auth.enabled && request.name == ROOT && request.role == ROOT {
        return Err(Refusal::InvalidAuthManagement);
    }
    let user = known(auth, &request.name)?;
    let mut changed = user.stored.clone();
    changed.roles.retain(|role| *role != request.role);
    if changed.roles.len() == user.stored.roles.len() {
        return Err(Refusal::RoleNotGranted);
    }
    auth.put_user(writer, changed);
    auth.count_change(writer);
    Ok(())
}

fn known<'a>(auth: &'a Auth, name: &str) -> Result<&'a User, Refusal> {
    auth.users
        .get(name)
        .map(|user| &**user)
        .ok_or(Refusal::UserNotFound)
}

/// A hash travels as text and is stored as bytes, as in etcd, which has this refusal for one that is not base64.
fn decode(hashed_password: &str) -> Result<Bytes, Refusal> {
    BASE64_STANDARD
        .decode(hashed_password)
        .map(Bytes::from)
        .map_err(|_| Refusal::NoPasswordUser)
}
