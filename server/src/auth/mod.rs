//! Who calls: passwords, and the tokens that stand for them. What a user may do is the replicated state's business, and what
//! clients are told is the services'.

mod algorithm;
mod caller;
mod jwt;
mod keys;
mod password;
mod simple;
mod tokens;

pub use algorithm::Algorithm;
pub(crate) use caller::Caller;
pub use jwt::Jwt;
pub use keys::KeyError;
pub use password::{DEFAULT_BCRYPT_COST, MAX_BCRYPT_COST, MIN_BCRYPT_COST};
pub(crate) use password::{PasswordError, Passwords};
pub use tokens::TokenKind;
pub(crate) use tokens::{NoToken, Tokens};
