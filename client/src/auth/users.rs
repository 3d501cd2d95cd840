//! Users: add, delete, their password, their roles.

use keystead_proto::authpb::UserAddOptions;
use keystead_proto::etcdserverpb::{
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest,
};

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;

/// What is known of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Who answered.
    pub header: Header,
    /// The roles that the user has.
    pub roles: Vec<String>,
}

/// All users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// Who answered.
    pub header: Header,
    /// Their names.
    pub users: Vec<String>,
}

impl Client {
    /// Adds a user, who has no role yet.
    ///
    /// # Errors
    /// `FailedPrecondition`: there is a user of that name. `InvalidArgument`: the name is empty. Where the outcome is `Unknown`
    /// the user may have been added, or may yet be.
    pub async fn add_user(
        &self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Header> {
        self.add(name.into(), password.into(), false).await
    }

    /// Adds a user who has no password: only a certificate with that common name speaks for it, where the server asks for one.
    ///
    /// # Errors
    /// See [`Client::add_user`].
    pub async fn add_user_without_password(&self, name: impl Into<String>) -> Result<Header> {
        self.add(name.into(), String::new(), true).await
    }

    async fn add(&self, name: String, password: String, no_password: bool) -> Result<Header> {
        let request = AuthUserAddRequest {
            name,
            password,
            options: Some(UserAddOptions { no_password }),
            hashed_password: String::new(),
        };
        let answer = self.call(&rpc::USER_ADD, &request).await?;
        Ok(answer.header.into())
    }

    /// Deletes a user. Tokens that it has are refused from then on.
    ///
    /// # Errors
    /// `NotFound`. `InvalidArgument`: it is `root`, while authentication is on. See [`Client::add_user`] for the rest.
    pub async fn delete_user(&self, name: impl Into<String>) -> Result<Header> {
        let request = AuthUserDeleteRequest { name: name.into() };
        let answer = self.call(&rpc::USER_DELETE, &request).await?;
        Ok(answer.header.into())
    }

    /// Asks for one user. A user may ask for itself.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`.
    pub async fn user(&self, name: impl Into<String>) -> Result<User> {
        let request = AuthUserGetRequest { name: name.into() };
        let answer = self.call(&rpc::USER_GET, &request).await?;
        Ok(User {
            header: answer.header.into(),
            roles: answer.roles,
        })
    }

    /// Lists the users.
    ///
    /// # Errors
    /// `PermissionDenied`: the user lacks the role `root`.
    pub async fn users(&self) -> Result<Users> {
        let request = AuthUserListRequest {};
        let answer = self.call(&rpc::USER_LIST, &request).await?;
        Ok(Users {
            header: answer.header.into(),
            users: answer.users,
        })
    }

    /// Gives a user another password.
    ///
    /// # Errors
    /// `NotFound`. See [`Client::add_user`] for the rest.
    pub async fn change_password(
        &self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Header> {
        let request = AuthUserChangePasswordRequest {
            name: name.into(),
            password: password.into(),
            hashed_password: String::new(),
        };
        let answer = self.call(&rpc::USER_CHANGE_PASSWORD, &request).await?;
        Ok(answer.header.into())
    }

    /// Gives a user a role. Harmless where it has it.
    ///
    /// # Errors
    /// `NotFound`: there is no such user, or no such role. See [`Client::add_user`] for the rest.
    pub async fn grant_role(
        &self,
        user: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<Header> {
        let request = AuthUserGrantRoleRequest {
            user: user.into(),
            role: role.into(),
        };
        let answer = self.call(&rpc::USER_GRANT_ROLE, &request).await?;
        Ok(answer.header.into())
    }

    /// Takes a role from a user.
    ///
    /// # Errors
    /// `NotFound`: there is no such user. `FailedPrecondition`: it does not have the role. `InvalidArgument`: it is `root` that
    /// would lose the role `root`, while authentication is on. See [`Client::add_user`] for the rest.
    pub async fn revoke_role(
        &self,
        user: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<Header> {
        let request = AuthUserRevokeRoleRequest {
            name: user.into(),
            role: role.into(),
        };
        let answer = self.call(&rpc::USER_REVOKE_ROLE, &request).await?;
        Ok(answer.header.into())
    }
}
