//! Changes of roles, with the refusals of etcd's, in its order.

use keystead_mvcc::{Table, Writer};
use keystead_proto::authpb::{Permission, Role};
use keystead_proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest,
};

use super::ROOT;
use super::view::Auth;
use crate::Refusal;

/// Adds a role that permits nothing. Its name has the limit of a user's.
pub(super) fn add(
    auth: &mut Auth,
    writer: &mut Writer,
    request: &AuthRoleAddRequest,
) -> Result<(), Refusal> {
    if request.name.is_empty() {
        return Err(Refusal::RoleNameEmpty);
    }
    if auth.roles.contains_key(request.name.as_str()) {
        return Err(Refusal::RoleExists);
    }
    if request.name.len() > Table::MAX_KEY_BYTES {
        return Err(Refusal::RequestTooLarge);
    }
    let role = Role {
        name: request.name.clone().into(),
        key_permission: Vec::new(),
    };
    auth.put_role(writer, role);
    auth.count_change(writer);
    Ok(())
}

/// Deletes a role, and takes it from all users that have it: one change.
pub(super) fn delete(
    auth: &mut Auth,
    writer: &mut Writer,
    request: &AuthRoleDeleteRequest,
) -> Result<(), Refusal> {
    if auth.enabled && request.role == ROOT {
        return Err(Refusal::InvalidAuthManagement);
    }
    known(auth, &request.role)?;
    auth.remove_role(writer, &request.role);
    auth.count_change(writer);
    Ok(())
}

/// Adds a permission behind those on keys up to its own, or changes the kind of the one on the same range.
///
/// etcd looks for that one only at the first permission on the key; where it is another, etcd's role has both then, and
/// a right that was to be narrowed stays.
pub(super) fn grant_permission(
    auth: &mut Auth,
    writer: &mut Writer,
    request: AuthRoleGrantPermissionRequest,
) -> Result<(), Refusal> {
    let permission = request.perm.ok_or(Refusal::PermissionNotGiven)?;
    if !is_valid(&permission) {
        return Err(Refusal::InvalidAuthManagement);
    }
    let mut role = known(auth, &request.name)?.clone();
    let same = |other: &Permission| is_on(other, &permission.key, &permission.range_end);
    match role.key_permission.iter().position(same) {
        Some(at) => role.key_permission[at].perm_type = permission.perm_type,
        None => {
            let at = role
                .key_permission
                .partition_point(|other| other.key <= permission.key);
            role.key_permission.insert(at, permission);
        }
    }
    auth.put_role(writer, role);
    auth.count_change(writer);
    Ok(())
}

pub(super) fn revoke_permission(
    auth: &mut Auth,
    writer: &mut Writer,
    request: &AuthRoleRevokePermissionRequest,
) -> Result<(), Refusal> {
    let mut role = known(auth, &request.role)?.clone();
    let before = role.key_permission.len();
    role.key_permission
        .retain(|permission| !is_on(permission, &request.key, &request.range_end));
    if role.key_permission.len() == before {
        return Err(Refusal::PermissionNotGranted);
    }
    auth.put_role(writer, role);
    auth.count_change(writer);
    Ok(())
}

fn known<'a>(auth: &'a Auth, name: &str) -> Result<&'a Role, Refusal> {
    auth.roles
        .get(name)
        .map(|role| &**role)
        .ok_or(Refusal::RoleNotFound)
}

/// Whether a permission is on exactly this range.
fn is_on(permission: &Permission, key: &[u8], end: &[u8]) -> bool {
    permission.key == key && permission.range_end == end
}

/// A permission is on a key, on all keys from one on, or on a range that is not empty.
fn is_valid(permission: &Permission) -> bool {
    let (key, end) = (&permission.key, &permission.range_end);
    !key.is_empty() && (end.is_empty() || key < end || end[..] == *b"\0")
}
