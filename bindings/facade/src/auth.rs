//! Users, roles and permissions.

use keystead_client::{KeyRange, Permission};

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;

impl Client {
    /// Answers `Header`.
    pub fn enable_auth(&self) -> Call {
        self.call(
            |client| async move { client.enable_auth().await },
            Answer::Header,
        )
    }

    /// Answers `Header`.
    pub fn disable_auth(&self) -> Call {
        self.call(
            |client| async move { client.disable_auth().await },
            Answer::Header,
        )
    }

    /// Answers `AuthStatus`.
    pub fn auth_status(&self) -> Call {
        self.call(
            |client| async move { client.auth_status().await },
            Answer::AuthStatus,
        )
    }

    /// Adds a user; without a password it can only be known by a certificate. Answers `Header`.
    pub fn add_user(&self, name: String, password: Option<String>) -> Call {
        self.call(
            |client| async move {
                match password {
                    Some(password) => client.add_user(name, password).await,
                    None => client.add_user_without_password(name).await,
                }
            },
            Answer::Header,
        )
    }

    /// Answers `Header`.
    pub fn delete_user(&self, name: String) -> Call {
        self.call(
            |client| async move { client.delete_user(name).await },
            Answer::Header,
        )
    }

    /// Answers `User`.
    pub fn user(&self, name: String) -> Call {
        self.call(
            |client| async move { client.user(name).await },
            Answer::User,
        )
    }

    /// Answers `Users`.
    pub fn users(&self) -> Call {
        self.call(|client| async move { client.users().await }, Answer::Users)
    }

    /// Answers `Header`.
    pub fn change_password(&self, name: String, password: String) -> Call {
        self.call(
            |client| async move { client.change_password(name, password).await },
            Answer::Header,
        )
    }

    /// Gives a role to a user. Answers `Header`.
    pub fn grant_role(&self, user: String, role: String) -> Call {
        self.call(
            |client| async move { client.grant_role(user, role).await },
            Answer::Header,
        )
    }

    /// Takes a role from a user. Answers `Header`.
    pub fn revoke_role(&self, user: String, role: String) -> Call {
        self.call(
            |client| async move { client.revoke_role(user, role).await },
            Answer::Header,
        )
    }

    /// Answers `Header`.
    pub fn add_role(&self, name: String) -> Call {
        self.call(
            |client| async move { client.add_role(name).await },
            Answer::Header,
        )
    }

    /// Answers `Header`.
    pub fn delete_role(&self, name: String) -> Call {
        self.call(
            |client| async move { client.delete_role(name).await },
            Answer::Header,
        )
    }

    /// Answers `Role`.
    pub fn role(&self, name: String) -> Call {
        self.call(
            |client| async move { client.role(name).await },
            Answer::Role,
        )
    }

    /// Answers `Roles`.
    pub fn roles(&self) -> Call {
        self.call(|client| async move { client.roles().await }, Answer::Roles)
    }

    /// Permits something to a role. Answers `Header`.
    pub fn grant_permission(&self, role: String, permission: Permission) -> Call {
        self.call(
            |client| async move { client.grant_permission(role, permission).await },
            Answer::Header,
        )
    }

    /// Takes a permission back. Answers `Header`.
    pub fn revoke_permission(&self, role: String, keys: KeyRange) -> Call {
        self.call(
            |client| async move { client.revoke_permission(role, keys).await },
            Answer::Header,
        )
    }
}
