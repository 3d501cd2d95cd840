//! When the state machine can't go on, or can't begin.

use keystead_mvcc::ReadError;

use crate::Refusal;
use crate::nesting::Undecodable;
use crate::table::MalformedEntry;

/// The member must stop: going on would make it differ from the others. The entry was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// A record is of a kind that this version does not know.
    #[error("a record is of the unknown kind {0}")]
    UnknownKind(i32),
    /// A record's payload is not the message that its kind says.
    #[error("a record of kind {kind} can't be decoded: {error}")]
    Undecodable {
        /// The kind's name.
        kind: &'static str,
        /// What is wrong with the payload.
        error: Undecodable,
    },
    /// A cluster version is not text.
    #[error("a cluster version is not text")]
    VersionNotText,
    /// This member can't read what it stored.
    #[error("the store can't be read: {0}")]
    Read(#[from] ReadError),
}

/// The state could not be read from the store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store can't be read.
    #[error("the store can't be read: {0}")]
    Read(#[from] ReadError),
    /// A table holds what this version can't read.
    #[error(transparent)]
    Malformed(#[from] MalformedEntry),
}

/// Why a record has no reply.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It was refused and touched nothing: an outcome like any other.
    Refused(Refusal),
    /// This member can't go on.
    Fatal(Fatal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Fatal> for Stop {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Fatal(Fatal::Read(error))
    }
}
