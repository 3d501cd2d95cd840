//! Changes of users and roles, and logins, as the log brings them.

use std::sync::Arc;

use keystead_mvcc::Writer;
use keystead_proto::etcdserverpb::AuthenticateResponse;
use keystead_proto::internal::Authenticate;

use super::ROOT;
use super::live::Live;
use super::request::AuthRequest;
use super::view::Auth;
use super::{roles, users};
use crate::Refusal;
use crate::apply::{Reply, header};

/// A change that whoever keeps tokens must follow. The same on every member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthChange {
    /// Authentication was enabled.
    Enabled,
    /// Authentication was disabled: no token holds any more.
    Disabled,
    /// A user logged in and got a simple token.
    TokenGiven {
        /// The user's name.
        user: String,
        /// The whole token: its random part, a dot, and the position in the log, in decimal, at which it began to hold.
        token: String,
    },
    /// The user's simple tokens hold no more: it was deleted, or has another password.
    TokensDropped {
        /// The user's name.
        user: String,
    },
}

/// Applies one request. The caller has made sure that who asks may.
pub(crate) fn manage(
    writer: &mut Writer,
    live: &Live,
    request: AuthRequest,
    changes: &mut Vec<AuthChange>,
) -> Result<Reply, Refusal> {
    let mut auth = Auth::clone(&live.now());
    let told = change(&mut auth, writer, request)?;
    live.publish(Arc::new(auth));
    changes.extend(told);
    Ok(Reply::Done {
        revision: writer.begin().commit(),
    })
}

/// The checks of each are in etcd's order, and come before anything is written.
fn change(
    auth: &mut Auth,
    writer: &mut Writer,
    request: AuthRequest,
) -> Result<Option<AuthChange>, Refusal> {
    let mut told = None;
    match request {
        AuthRequest::Enable => told = enable(auth, writer)?,
        AuthRequest::Disable => told = disable(auth, writer),
        AuthRequest::UserAdd(request) => users::add(auth, writer, request)?,
        AuthRequest::UserDelete(request) => {
            users::delete(auth, writer, &request)?;
            told = Some(AuthChange::TokensDropped { user: request.name });
        }
        AuthRequest::UserChangePassword(request) => {
            users::change_password(auth, writer, &request)?;
            told = Some(AuthChange::TokensDropped { user: request.name });
        }
        AuthRequest::UserGrantRole(request) => users::grant_role(auth, writer, request)?,
        AuthRequest::UserRevokeRole(request) => users::revoke_role(auth, writer, &request)?,
        AuthRequest::RoleAdd(request) => roles::add(auth, writer, &request)?,
        AuthRequest::RoleDelete(request) => roles::delete(auth, writer, &request)?,
        AuthRequest::RoleGrantPermission(request) => {
            roles::grant_permission(auth, writer, request)?;
        }
        AuthRequest::RoleRevokePermission(request) => {
            roles::revoke_permission(auth, writer, &request)?;
        }
    }
    Ok(told)
}

/// As in etcd, that it is enabled makes no revision: tokens there are none yet.
fn enable(auth: &mut Auth, writer: &mut Writer) -> Result<Option<AuthChange>, Refusal> {
    if auth.enabled {
        return Ok(None);
    }
    let root = auth.users.get(ROOT).ok_or(Refusal::RootUserMissing)?;
    if !root.grants.root() {
        return Err(Refusal::RootRoleMissing);
    }
    auth.set_enabled(writer, true);
    Ok(Some(AuthChange::Enabled))
}

fn disable(auth: &mut Auth, writer: &mut Writer) -> Option<AuthChange> {
    if !auth.enabled {
        return None;
    }
    auth.set_enabled(writer, false);
    auth.count_change(writer);
    Some(AuthChange::Disabled)
}

/// Logs a user in, in the entry at `position`. The password was compared before this was proposed; here it is only known
/// whether there is still such a user.
pub(crate) fn log_in(
    writer: &mut Writer,
    live: &Live,
    login: Authenticate,
    position: u64,
    changes: &mut Vec<AuthChange>,
) -> Result<Reply, Refusal> {
    let auth = live.now();
    if !auth.enabled {
        return Err(Refusal::AuthNotEnabled);
    }
    let user = auth.users.get(login.name.as_str());
    if user.is_none_or(|user| user.no_password()) {
        return Err(Refusal::AuthFailed);
    }
    let mut token = login.simple_token;
    if !token.is_empty() {
        token = format!("{token}.{position}");
        changes.push(AuthChange::TokenGiven {
            user: login.name,
            token: token.clone(),
        });
    }
    Ok(Reply::Authenticate(AuthenticateResponse {
        header: Some(header(writer.begin().commit())),
        token,
    }))
}
