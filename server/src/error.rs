//! What a client is told when a call is refused: gRPC code and etcd's text. The one table.
//! Every service answers through it; no other file names a code for a refusal.

use std::borrow::Cow;

pub use tonic::Code;

/// The end of a gRPC call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcStatus {
    /// The code.
    pub code: Code,
    /// The text, as etcd's clients compare it.
    pub message: Cow<'static, str>,
}

impl GrpcStatus {
    /// The end of a call that succeeded.
    pub const OK: Self = Self {
        code: Code::Ok,
        message: Cow::Borrowed(""),
    };

    /// A refusal of `code` with a text.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// What a call ends with that its client gave up.
    pub fn cancelled() -> Self {
        Self::new(Code::Cancelled, "context canceled")
    }

    /// What a call ends with whose client set a deadline that passed.
    pub fn deadline_exceeded() -> Self {
        Self::new(Code::DeadlineExceeded, "context deadline exceeded")
    }
}

impl From<GrpcStatus> for tonic::Status {
    fn from(status: GrpcStatus) -> Self {
        Self::new(status.code, status.message)
    }
}
