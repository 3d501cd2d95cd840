//! Roles: add, delete, what they permit.

use keystead_proto::authpb;
use keystead_proto::authpb::permission::Type;
use keystead_proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGrantPermissionRequest,
    AuthRoleListRequest, AuthRoleRevokePermissionRequest,
};

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;
use crate::key_range::KeyRange;

/// What may be done to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// Read and watch.
    Read,
    /// Put and delete.
    Write,
    /// Both.
    ReadWrite,
}

/// One thing that a role permits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permission {
    /// What may be done.
    pub access: Access,
    /// To which keys: whole ones, whatever the client's namespace.
    pub keys: KeyRange,
}

/// What is known of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Who answered.
    pub header: Header,
    /// What it permits.
    pub permissions: Vec<Permission>,
}

/// All roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Who answered.
    pub header: Header,
    /// Their names.
    pub roles: Vec<String>,
}

impl From<Access> for Type {
    fn from(access: Access) -> Type {
        match access {
            Access::Read => Type::Read,
            Access::Write => Type::Write,
            Access::ReadWrite => Type::Readwrite,
        }
    }
}

impl From<Permission> for authpb::Permission {
    fn from(permission: Permission) -> authpb::Permission {
        authpb::Permission {
            perm_type: Type::from(permission.access).into(),
            key: permission.keys.key,
            range_end: permission.keys.end,
        }
    }
}

impl From<authpb::Permission> for Permission {
    fn from(permission: authpb::Permission) -> Permission {
        let access = match permission.perm_type() {
            Type::Read => Access::Read,
            Type::Write => Access::Write,
            Type::Readwrite => Access::ReadWrite,
        };
        Permission {
            access,
            keys: KeyRange {
                key: permission.key,
                end: permission.range_end,
            },
        }
    }
}

impl Client {
    /// Adds a role, which permits nothing yet.
    ///
    /// # Errors
    /// `FailedPrecondition`: there is a role of that name. Where the outcome is `Unknown` it may have been added, or may yet be.
    pub async fn add_role(&self, name: impl Into<String>) -> Result<Header> {
        let request = AuthRoleAddRequest { name: name.into() };
        let answer = self.call(&rpc::ROLE_ADD, &request).await?;
        Ok(answer.header.into())
    }

    /// Deletes a role, and takes it from the users that have it.
    ///
    /// # Errors
    /// `NotFound`. `InvalidArgument`: it is `root`, while authentication is on. See [`Client::add_role`] for the rest.
    pub async fn delete_role(&self, name: impl Into<String>) -> Result<Header> {
        let request = AuthRoleDeleteRequest { role: name.into() };
        let answer = self.call(&rpc::ROLE_DELETE, &request).await?;
        Ok(answer.header.into())
    }

    /// Asks for one role. A user may ask for those that it has.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn role(&self, name: impl Into<String>) -> Result<Role> {
        let request = AuthRoleGetRequest { role: name.into() };
        let answer = self.call(&rpc::ROLE_GET, &request).await?;
        Ok(Role {
            header: answer.header.into(),
            permissions: answer.perm.into_iter().map(Permission::from).collect(),
        })
    }

    /// Lists the roles.
    ///
    /// # Errors
    /// `PermissionDenied`: the user lacks the role `root`.
    pub async fn roles(&self) -> Result<Roles> {
        let request = AuthRoleListRequest {};
        let answer = self.call(&rpc::ROLE_LIST, &request).await?;
        Ok(Roles {
            header: answer.header.into(),
            roles: answer.roles,
        })
    }

    /// Lets a role do something. What it could do to the very same range of keys before is replaced.
    ///
    /// # Errors
    /// `NotFound`: there is no such role. `InvalidArgument`: the range is empty. See [`Client::add_role`] for the rest.
    pub async fn grant_permission(
        &self,
        role: impl Into<String>,
        permission: Permission,
    ) -> Result<Header> {
        let request = AuthRoleGrantPermissionRequest {
            name: role.into(),
            perm: Some(permission.into()),
        };
        let answer = self.call(&rpc::ROLE_GRANT_PERMISSION, &request).await?;
        Ok(answer.header.into())
    }

    /// Takes back what a role may do to a range of keys, which must be the very range that was granted.
    ///
    /// # Errors
    /// `NotFound`: there is no such role. `FailedPrecondition`: nothing was granted for this range. See [`Client::add_role`] for the rest.
    pub async fn revoke_permission(
        &self,
        role: impl Into<String>,
        keys: KeyRange,
    ) -> Result<Header> {
        let request = AuthRoleRevokePermissionRequest {
            role: role.into(),
            key: keys.key,
            range_end: keys.end,
        };
        let answer = self.call(&rpc::ROLE_REVOKE_PERMISSION, &request).await?;
        Ok(answer.header.into())
    }
}
