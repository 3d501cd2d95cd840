//! What can end an attempt at a call. Every way that the transport can fail is one of these before anybody judges it.

use h2::Reason;
use tonic::Code;

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection could be made.
    Unreachable(String),
    /// The connection was ending when the request was to be sent; nothing of it was.
    Unsent(String),
    /// The server reset the stream and says that it did not look at it.
    Refused,
    /// The server is going away and named a last stream before this one.
    GoneAway,
    /// The connection or the stream ended after the request was sent.
    Broken(String),
    /// The deadline passed.
    Late {
        /// The request was on its way by then.
        sent: bool,
    },
    /// The server's own word.
    Status { code: Code, message: String },
    /// The server gave no token for the user and the password; the call itself was not sent.
    NoToken { code: Code, message: String },
    /// An answer that is not gRPC's, or not the message that the call has.
    Garbled(String),
    /// The client was closed.
    Closed,
}

impl Failure {
    /// How a stream ended that was open.
    ///
    /// h2 gives the GOAWAY of the other side to the streams above its last id alone: the others live on, and end with an
    /// I/O error should the connection end first.
    pub(super) fn of_stream(error: &h2::Error) -> Failure {
        if error.is_remote() && error.is_go_away() {
            Failure::GoneAway
        } else if error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) {
            Failure::Refused
        } else {
            Failure::Broken(error.to_string())
        }
    }

    /// The code that gRPC gives to it, and the text.
    pub(crate) fn into_status(self) -> (Code, String) {
        match self {
            Failure::Unreachable(text) | Failure::Unsent(text) | Failure::Broken(text) => {
                (Code::Unavailable, text)
            }
            Failure::Refused => (
                Code::Unavailable,
                "the server refused the stream".to_owned(),
            ),
            Failure::GoneAway => (Code::Unavailable, "the server is going away".to_owned()),
            Failure::Late { .. } => (
                Code::DeadlineExceeded,
                "the deadline of the call has passed".to_owned(),
            ),
            Failure::Status { code, message } | Failure::NoToken { code, message } => {
                (code, message)
            }
            Failure::Garbled(text) => (Code::Internal, text),
            Failure::Closed => (Code::Cancelled, "the client is closed".to_owned()),
        }
    }
}
