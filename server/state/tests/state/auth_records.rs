//! Records that manage users and roles, made short.

use keystead_proto::authpb::permission::Type;
use keystead_proto::authpb::{Permission, UserAddOptions};
use keystead_proto::etcdserverpb::*;
use keystead_proto::internal::{Authenticate, Record, RecordKind};

use crate::machine::Machine;
use crate::records::{bytes, record};

/// base64 of "hash".
pub const HASH: &str = "aGFzaA==";

pub fn enable() -> Record {
    record(RecordKind::AuthEnable, &AuthEnableRequest {})
}

pub fn disable() -> Record {
    record(RecordKind::AuthDisable, &AuthDisableRequest {})
}

pub fn log_in(user: &str, simple_token: &str) -> Record {
    let login = Authenticate {
        name: user.into(),
        simple_token: simple_token.into(),
    };
    record(RecordKind::Authenticate, &login)
}

pub fn user_add(name: &str) -> Record {
    let request = AuthUserAddRequest {
        name: name.into(),
        hashed_password: HASH.into(),
        ..Default::default()
    };
    record(RecordKind::UserAdd, &request)
}

pub fn user_without_password(name: &str) -> Record {
    let request = AuthUserAddRequest {
        name: name.into(),
        options: Some(UserAddOptions { no_password: true }),
        ..Default::default()
    };
    record(RecordKind::UserAdd, &request)
}

pub fn user_delete(name: &str) -> Record {
    let request = AuthUserDeleteRequest { name: name.into() };
    record(RecordKind::UserDelete, &request)
}

pub fn change_password(name: &str, hashed_password: &str) -> Record {
    let request = AuthUserChangePasswordRequest {
        name: name.into(),
        hashed_password: hashed_password.into(),
        ..Default::default()
    };
    record(RecordKind::UserChangePassword, &request)
}

pub fn grant_role(user: &str, role: &str) -> Record {
    let request = AuthUserGrantRoleRequest {
        user: user.into(),
        role: role.into(),
    };
    record(RecordKind::UserGrantRole, &request)
}

pub fn revoke_role(user: &str, role: &str) -> Record {
    let request = AuthUserRevokeRoleRequest {
        name: user.into(),
        role: role.into(),
    };
    record(RecordKind::UserRevokeRole, &request)
}

pub fn role_add(name: &str) -> Record {
    record(
        RecordKind::RoleAdd,
        &AuthRoleAddRequest { name: name.into() },
    )
}

pub fn role_delete(name: &str) -> Record {
    let request = AuthRoleDeleteRequest { role: name.into() };
    record(RecordKind::RoleDelete, &request)
}

pub fn permission(right: Type, key: &str, end: &str) -> Permission {
    Permission {
        perm_type: right.into(),
        key: bytes(key),
        range_end: bytes(end),
    }
}

pub fn grant_permission(role: &str, right: Type, key: &str, end: &str) -> Record {
    let request = AuthRoleGrantPermissionRequest {
        name: role.into(),
        perm: Some(permission(right, key, end)),
    };
    record(RecordKind::RoleGrantPermission, &request)
}

pub fn grant_nothing(role: &str) -> Record {
    let request = AuthRoleGrantPermissionRequest {
        name: role.into(),
        perm: None,
    };
    record(RecordKind::RoleGrantPermission, &request)
}

pub fn revoke_permission(role: &str, key: &str, end: &str) -> Record {
    let request = AuthRoleRevokePermissionRequest {
        role: role.into(),
        key: bytes(key),
        range_end: bytes(end),
    };
    record(RecordKind::RoleRevokePermission, &request)
}

/// A record that a user asks for, permitted at a revision of users and roles.
pub fn by(user: &str, auth_revision: u64, record: Record) -> Record {
    Record {
        user: user.into(),
        auth_revision,
        ..record
    }
}

/// A record that a member asks for on its own account.
pub fn own(record: Record) -> Record {
    Record {
        own: true,
        ..record
    }
}

/// A state with the user root and with "ann" and "bob", who share the role "team", which may read and write keys from a to c,
/// only read from c to e and only write from x on. Authentication is enabled.
pub fn guarded() -> Machine {
    let mut machine = Machine::new();
    let records = [
        user_add("root"),
        grant_role("root", "root"),
        role_add("team"),
        grant_permission("team", Type::Readwrite, "a", "c"),
        grant_permission("team", Type::Read, "c", "e"),
        grant_permission("team", Type::Write, "x", "\0"),
        user_add("ann"),
        grant_role("ann", "team"),
        user_without_password("bob"),
        grant_role("bob", "team"),
        enable(),
    ];
    let outcomes = machine.entry(&records).outcomes;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    machine
}
