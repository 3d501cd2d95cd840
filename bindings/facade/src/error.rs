//! The one error of every call, flat and with fixed numbers, for they are part of the C interface.

use std::fmt;

use keystead_client as client;
use keystead_client::{KeyValue, Outcome};

/// The result of every call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// What to do next depends on this.
    pub kind: ErrorKind,
    /// The gRPC code: the server's, or the one that gRPC gives to what happened on the way.
    pub code: i32,
    /// The server's own text, or what happened here.
    pub message: String,
    /// Whether the call changed anything.
    pub outcome: Outcome,
    /// The same call may be sent again: it could succeed, and cannot be done twice.
    pub retryable: bool,
    /// Which endpoint it was; empty when none was reached.
    pub endpoint: String,
    /// Of `CompareFailed`: the key as it is, if it is there.
    pub current: Option<Box<KeyValue>>,
}

/// What kind of failure it was. The numbers never change, and new ones may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No member could be reached, or the one reached could not serve.
    Unavailable = 1,
    /// The call's deadline passed, or the time that the caller wanted to wait.
    DeadlineExceeded = 2,
    /// The server gave the call up.
    Cancelled = 3,
    /// The revision asked for has been compacted.
    Compacted = 4,
    /// The revision asked for is above the store's.
    FutureRevision = 5,
    /// There is no such lease, or the session is over.
    LeaseNotFound = 6,
    /// The lock or the leadership that guarded the call is no longer held.
    LockLost = 7,
    /// Only the leader does this.
    NotLeader = 8,
    /// The token or the password was refused.
    Unauthenticated = 9,
    /// The user may not do this.
    PermissionDenied = 10,
    /// The store is full.
    NoSpace = 11,
    /// The server has more than it can keep up with.
    TooManyRequests = 12,
    /// The request is larger than the server takes.
    TooLarge = 13,
    /// The request can never succeed as it is.
    InvalidArgument = 14,
    /// What was asked for by name is not there.
    NotFound = 15,
    /// The state of the server does not allow it.
    FailedPrecondition = 16,
    /// A key was not as expected.
    CompareFailed = 17,
    /// This server does not have the call.
    Unimplemented = 18,
    /// The server's data is damaged.
    Corrupt = 19,
    /// A file here could not be read or written.
    File = 20,
    /// The client was closed.
    Closed = 21,
    /// A bug, here or there.
    Internal = 22,
    /// The lock was not free in the time that the caller wanted to wait.
    LockTimeout = 23,
    /// It belongs to the process that this one was forked from.
    Forked = 24,
    /// The caller was interrupted while it waited.
    Interrupted = 25,
}

/// gRPC's numbers, where no server gave one.
const CANCELLED: i32 = 1;
const INVALID_ARGUMENT: i32 = 3;
const DEADLINE_EXCEEDED: i32 = 4;
const ABORTED: i32 = 10;
const FAILED_PRECONDITION: i32 = 9;
const INTERNAL: i32 = 13;
const UNAVAILABLE: i32 = 14;

impl Error {
    fn local(kind: ErrorKind, code: i32, message: impl Into<String>) -> Error {
        Error {
            kind,
            code,
            message: message.into(),
            outcome: Outcome::NotApplied,
            retryable: false,
            endpoint: String::new(),
            current: None,
        }
    }

    pub(crate) fn closed() -> Error {
        Error::local(ErrorKind::Closed, CANCELLED, "the client was closed")
    }

    pub(crate) fn no_runtime(error: &std::io::Error) -> Error {
        let text = format!("the I/O thread could not be started: {error}");
        Error::local(ErrorKind::Unavailable, UNAVAILABLE, text)
    }

    pub(crate) fn forked() -> Error {
        let text = "it belongs to the process that this one was forked from; make another here";
        Error::local(ErrorKind::Forked, FAILED_PRECONDITION, text)
    }

    /// The caller waits no longer; what it asked for may have been done.
    pub(crate) fn interrupted() -> Error {
        Error {
            outcome: Outcome::Unknown,
            ..Error::local(ErrorKind::Interrupted, CANCELLED, "interrupted")
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::local(ErrorKind::InvalidArgument, INVALID_ARGUMENT, message)
    }

    /// An answer that is none to the request: what was done is not known.
    pub(crate) fn garbled() -> Error {
        Error {
            outcome: Outcome::Unknown,
            ..Error::local(
                ErrorKind::Internal,
                INTERNAL,
                "the answer is none to the request",
            )
        }
    }

    pub(crate) fn not_in_time(message: impl Into<String>) -> Error {
        Error::local(ErrorKind::DeadlineExceeded, DEADLINE_EXCEEDED, message)
    }

    pub(crate) fn lock_timeout(message: impl Into<String>) -> Error {
        Error::local(ErrorKind::LockTimeout, DEADLINE_EXCEEDED, message)
    }

    pub(crate) fn lock_lost(message: impl Into<String>) -> Error {
        Error::local(ErrorKind::LockLost, FAILED_PRECONDITION, message)
    }

    pub(crate) fn compare_failed(current: Option<KeyValue>) -> Error {
        let text = match &current {
            None => "the key is not there".to_owned(),
            Some(kv) => format!("the key was last written at revision {}", kv.mod_revision),
        };
        Error {
            current: current.map(Box::new),
            ..Error::local(ErrorKind::CompareFailed, ABORTED, text)
        }
    }

    /// A bug of ours: a call panicked.
    pub(crate) fn panicked() -> Error {
        Error {
            outcome: Outcome::Unknown,
            ..Error::local(
                ErrorKind::Internal,
                INTERNAL,
                "a bug in Keystead's client: a call panicked",
            )
        }
    }
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Error {
        Error {
            kind: error.kind.into(),
            code: error.code as i32,
            message: error.message,
            outcome: error.outcome,
            retryable: error.retryable,
            endpoint: error.endpoint,
            current: None,
        }
    }
}

impl From<client::Kind> for ErrorKind {
    fn from(kind: client::Kind) -> ErrorKind {
        use client::Kind;
        match kind {
            Kind::Unavailable => ErrorKind::Unavailable,
            Kind::DeadlineExceeded => ErrorKind::DeadlineExceeded,
            Kind::Cancelled => ErrorKind::Cancelled,
            Kind::Compacted => ErrorKind::Compacted,
            Kind::FutureRevision => ErrorKind::FutureRevision,
            Kind::LeaseNotFound => ErrorKind::LeaseNotFound,
            Kind::LockLost => ErrorKind::LockLost,
            Kind::NotLeader => ErrorKind::NotLeader,
            Kind::Unauthenticated => ErrorKind::Unauthenticated,
            Kind::PermissionDenied => ErrorKind::PermissionDenied,
            Kind::NoSpace => ErrorKind::NoSpace,
            Kind::TooManyRequests => ErrorKind::TooManyRequests,
            Kind::TooLarge => ErrorKind::TooLarge,
            Kind::InvalidArgument => ErrorKind::InvalidArgument,
            Kind::NotFound => ErrorKind::NotFound,
            Kind::FailedPrecondition => ErrorKind::FailedPrecondition,
            Kind::CompareFailed => ErrorKind::CompareFailed,
            Kind::Unimplemented => ErrorKind::Unimplemented,
            Kind::Corrupt => ErrorKind::Corrupt,
            Kind::File => ErrorKind::File,
            Kind::Closed => ErrorKind::Closed,
            // What a later client tells apart is a bug to those who do not know it.
            _ => ErrorKind::Internal,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outcome.tell(f, &self.message, &self.endpoint)
    }
}

impl std::error::Error for Error {}
