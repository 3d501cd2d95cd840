//! The one error of every verb. Its kind says what to do next, its outcome whether the call changed anything.
//! It is made in one place, from a [`Failure`] and the table in `verdict.rs`; nothing else decides an outcome.

use std::fmt;

pub use tonic::Code;

use crate::channel::{Effect, Failure};
use crate::verdict::Verdict;

/// The result of every verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
///
/// ```
/// # use keystead_client::{Error, Outcome};
/// fn next_step(error: &Error) -> &'static str {
///     match error.outcome {
///         Outcome::NotApplied if error.retryable => "send it again, it cannot be done twice",
///         Outcome::NotApplied => "mend the request first",
///         Outcome::Unknown => "read, and see whether it was done",
///         Outcome::Applied => "it was done; only the answer was lost",
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What to do next depends on this.
    pub kind: Kind,
    /// The gRPC code: the server's, or the one that gRPC gives to what happened on the way.
    pub code: Code,
    /// The server's own text to the letter, or what happened on the way.
    pub message: String,
    /// Whether the call changed anything. A call that only reads never does.
    pub outcome: Outcome,
    /// The same call may be sent again: it could succeed, and cannot be done twice.
    pub retryable: bool,
    /// Which endpoint it was, as the options name it; empty when none was reached.
    pub endpoint: String,
}

/// Whether a failed call changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It surely changed nothing and never will.
    NotApplied,
    /// It was done, though the call failed.
    Applied,
    /// It may have been done, or may yet be. This client never sends such a call again by itself.
    Unknown,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// No member could be reached, or the one reached could not serve.
    Unavailable,
    /// The call's deadline passed.
    DeadlineExceeded,
    /// The server gave the call up.
    Cancelled,
    /// The revision asked for has been compacted.
    Compacted,
    /// The revision asked for is above the store's.
    FutureRevision,
    /// There is no such lease.
    LeaseNotFound,
    /// The lock or the leadership that guarded the call is no longer held.
    LockLost,
    /// Only the leader does this.
    NotLeader,
    /// The token or the password was refused.
    Unauthenticated,
    /// The user may not do this.
    PermissionDenied,
    /// The store is full.
    NoSpace,
    /// The server has more than it can keep up with.
    TooManyRequests,
    /// The request is larger than the server takes.
    TooLarge,
    /// The request can never succeed as it is.
    InvalidArgument,
    /// What was asked for by name is not there.
    NotFound,
    /// The state of the server does not allow it.
    FailedPrecondition,
    /// A compare did not hold, however often it was tried.
    CompareFailed,
    /// This server does not have the call.
    Unimplemented,
    /// The server's data is damaged.
    Corrupt,
    /// A file here could not be read or written.
    File,
    /// The client was closed.
    Closed,
    /// A bug, here or there.
    Internal,
}

impl Error {
    /// What became of a call with `effect` that failed so.
    pub(crate) fn new(failure: Failure, effect: Effect, endpoint: &str) -> Error {
        let Verdict {
            kind,
            outcome,
            retryable,
            ..
        } = Verdict::of(&failure, effect);
        let (code, message) = failure.into_status();
        Error {
            kind,
            code,
            message,
            outcome,
            retryable,
            endpoint: endpoint.to_owned(),
        }
    }

    /// An error that this client found by itself, before anything was sent.
    pub(crate) fn local(kind: Kind, code: Code, message: impl Into<String>) -> Error {
        Error {
            kind,
            code,
            message: message.into(),
            outcome: Outcome::NotApplied,
            retryable: false,
            endpoint: String::new(),
        }
    }

    /// An answer that is none to the request: what was done is not known.
    pub(crate) fn garbled(message: impl Into<String>) -> Error {
        Error::new(Failure::Garbled(message.into()), Effect::Write, "")
    }

    /// A request that no server could take.
    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::local(Kind::InvalidArgument, Code::InvalidArgument, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outcome.tell(f, &self.message, &self.endpoint)
    }
}

impl Outcome {
    /// Writes what happened, where, and what came of it, as errors say it. For those who have an error type of their own.
    ///
    /// # Errors
    /// The writer's.
    pub fn tell(self, to: &mut impl fmt::Write, message: &str, endpoint: &str) -> fmt::Result {
        to.write_str(message)?;
        if !endpoint.is_empty() {
            write!(to, " (from {endpoint})")?;
        }
        match self {
            Outcome::NotApplied => Ok(()),
            Outcome::Applied => to.write_str("; it was applied"),
            Outcome::Unknown => to.write_str("; whether it was applied is unknown"),
        }
    }
}

impl std::error::Error for Error {}
