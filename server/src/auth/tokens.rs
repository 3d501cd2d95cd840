//! What stands for a password once it was given: the kinds of tokens that there are, behind one face.

use std::sync::Arc;
use std::time::Duration;

use keystead_state::AuthChange;

use super::caller::Caller;
use super::jwt::{Jwt, VerifyOnly};
use super::simple::SimpleTokens;

/// Which tokens a member gives and takes.
#[derive(Clone, Debug)]
pub enum TokenKind {
    /// Random ones that all members know, and that are forgotten when they were not used for `ttl`.
    Simple {
        /// By the clock of each member.
        ttl: Duration,
    },
    /// Signed ones.
    Jwt(Arc<Jwt>),
    /// None: nobody can log in.
    None,
}

/// The tokens of one member.
pub(crate) enum Tokens {
    Simple(SimpleTokens),
    Jwt(Arc<Jwt>),
    None,
}

/// Why there is no token for somebody who has the right password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoToken {
    /// This member only verifies them.
    VerifyOnly,
    /// It has none at all.
    NoTokens,
}

impl Tokens {
    pub(crate) fn new(kind: &TokenKind) -> Self {
        match kind {
            TokenKind::Simple { ttl } => Self::Simple(SimpleTokens::new(*ttl)),
            TokenKind::Jwt(jwt) => Self::Jwt(jwt.clone()),
            TokenKind::None => Self::None,
        }
    }

    /// What goes into the record of a login, for a token that members know by it; empty where tokens are signed.
    pub(crate) fn draw(&self) -> String {
        match self {
            Self::Simple(_) => SimpleTokens::draw(),
            Self::Jwt(_) | Self::None => String::new(),
        }
    }

    /// The token of a user whose login was applied as `applied`, under a revision of users and roles.
    pub(crate) fn issue(
        &self,
        user: &str,
        revision: u64,
        applied: String,
    ) -> Result<String, NoToken> {
        match self {
            Self::Simple(_) => Ok(applied),
            Self::Jwt(jwt) => jwt
                .sign(user, revision)
                .map_err(|VerifyOnly| NoToken::VerifyOnly),
            Self::None => Err(NoToken::NoTokens),
        }
    }

    /// Whose a token is. `revision` is that of users and roles now.
    pub(crate) fn read(&self, token: &str, revision: u64) -> Option<Caller> {
        match self {
            Self::Simple(tokens) => tokens.user_of(token).map(|name| Caller::User {
                name,
                auth_revision: revision,
            }),
            Self::Jwt(jwt) => jwt.read(token).map(|claims| Caller::User {
                name: claims.user.into(),
                auth_revision: claims.revision,
            }),
            Self::None => None,
        }
    }

    /// The position of the log before which nobody here can know the token.
    pub(crate) fn known_from(&self, token: &str) -> Option<u64> {
        match self {
            Self::Simple(_) => SimpleTokens::position(token),
            Self::Jwt(_) | Self::None => None,
        }
    }

    /// Follows what the log brings.
    pub(crate) fn follow(&self, change: &AuthChange) {
        let Self::Simple(tokens) = self else {
            return;
        };
        match change {
            AuthChange::TokenGiven { user, token } => tokens.assign(token, user),
            AuthChange::TokensDropped { user } => tokens.revoke(user),
            AuthChange::Disabled => tokens.clear(),
            AuthChange::Enabled => {}
        }
    }

    /// Forgets all that the log has brought: it went on elsewhere meanwhile.
    pub(crate) fn forget(&self) {
        if let Self::Simple(tokens) = self {
            tokens.clear();
        }
    }

    /// Gives back the room of tokens that have ended. To be called now and then.
    pub(crate) fn sweep(&self) {
        if let Self::Simple(tokens) = self {
            tokens.sweep();
        }
    }
}
