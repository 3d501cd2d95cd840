//! What it means when a server cancels a watch or a stream: etcd's reason in words as a code, and whether trying again may help.
//! Pure; `line.rs` acts on it.

use tonic::Code;

use crate::error::{Error, Kind};

/// etcd's reason is a status in words, or an error of its store; without either the watch is simply cut off.
pub(super) fn reason(text: &str, at_creation: bool) -> (Code, String) {
    const CODES: [(&str, Code); 6] = [
        ("PermissionDenied", Code::PermissionDenied),
        ("Unauthenticated", Code::Unauthenticated),
        ("InvalidArgument", Code::InvalidArgument),
        ("FailedPrecondition", Code::FailedPrecondition),
        ("OutOfRange", Code::OutOfRange),
        ("Unavailable", Code::Unavailable),
    ];
    let status = text.strip_prefix("rpc error: code = ");
    if let Some((name, message)) = status.and_then(|status| status.split_once(" desc = ")) {
        let code = CODES.iter().find(|(code, _)| *code == name);
        return (
            code.map_or(Code::Unknown, |&(_, code)| code),
            message.to_owned(),
        );
    }
    let code = if at_creation && !text.is_empty() {
        Code::InvalidArgument
    } else {
        Code::Unavailable
    };
    (code, text.to_owned())
}

/// Trying again may help.
pub(super) fn passes(error: &Error) -> bool {
    // A refused token is had anew by what opens the next stream.
    let stale_token = error.kind == Kind::Unauthenticated && error.retryable;
    stale_token
        || !matches!(
            error.kind,
            Kind::Closed
                | Kind::Unauthenticated
                | Kind::PermissionDenied
                | Kind::InvalidArgument
                | Kind::Unimplemented
        )
}
