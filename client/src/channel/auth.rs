//! The token that stands for a user and a password: had once, shared by all calls, had anew when a server refuses it. Holds no
//! connection: `mod.rs` asks the server.

use http::HeaderValue;

use crate::locks::Mutex;
use crate::options::Credentials;

/// What a client with a user knows about its token.
pub(super) struct Auth {
    pub(super) credentials: Credentials,
    token: Mutex<Option<Token>>,
    /// Held by the one call that asks for a token; the others wait for what it gets.
    pub(super) asking: tokio::sync::Mutex<()>,
}

/// A token, or the knowledge that the server wants none.
#[derive(Clone)]
pub(super) struct Token {
    /// Sent with every call; none where the server has no authentication.
    pub(super) header: Option<HeaderValue>,
    /// Tells it from those before, which may be the same to the letter.
    number: u64,
}

impl Auth {
    pub(super) fn new(credentials: Credentials) -> Auth {
        Auth {
            credentials,
            token: Mutex::new(None),
            asking: tokio::sync::Mutex::new(()),
        }
    }

    /// The token, unless it is to be had anew.
    pub(super) fn token(&self) -> Option<Token> {
        self.token.lock().clone()
    }

    /// The server gave this one.
    pub(super) fn learn(&self, header: Option<HeaderValue>) -> Token {
        // Numbers need only differ among the tokens that calls under way may hold.
        let number = fastrand::u64(..);
        let token = Token { header, number };
        *self.token.lock() = Some(token.clone());
        token
    }

    /// A server refused `token`: it is had anew, unless another call was faster.
    pub(super) fn refused(&self, token: &Token) {
        let mut known = self.token.lock();
        if known
            .as_ref()
            .is_some_and(|known| known.number == token.number)
        {
            *known = None;
        }
    }
}
