//! The table of honest writes: what a failure says about the call that it ended. Only a call that surely did not run
//! is sent again; everything else is told to the caller. `Error` and the channel's loop both ask here and nowhere else.

use keystead_seeded::{Bug, planted};
use tonic::Code;

use crate::channel::{Effect, Failure};
use crate::error::{Kind, Outcome};
use Outcome::{NotApplied, Unknown};

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub kind: Kind,
    pub outcome: Outcome,
    /// The same call could succeed, and cannot be done twice.
    pub retryable: bool,
    /// The endpoint is to blame: the next attempt goes to another one, if there is one.
    pub blamed: bool,
    /// The token is to blame: a client that has a password gets another one.
    pub stale_token: bool,
}

/// What the server's word means for a write: code, a part of the text, and the verdict. The first row that fits decides.
///
/// `NotApplied` stands where etcd refuses before it proposes, or where apply itself refuses. A text that came
/// after the proposal (leader changed, request timed out, server stopped) says nothing about it: the entry may yet be
/// committed.
#[rustfmt::skip]
const STATUSES: &[(Code, &str, Verdict)] = &[
    (Code::Unavailable,        "etcdserver: no leader",            row(Kind::Unavailable, NotApplied).retryable().blamed()),
    (Code::Unavailable,        "rpc not supported for learner",    row(Kind::Unavailable, NotApplied).retryable().blamed()),
    (Code::Unavailable,        "not capable",                      row(Kind::Unimplemented, NotApplied)),
    (Code::Unavailable,        "unhealthy cluster",                row(Kind::Unavailable, NotApplied)),
    (Code::Unavailable,        "leader changed",                   row(Kind::Unavailable, Unknown)),
    (Code::Unavailable,        "",                                 row(Kind::Unavailable, Unknown).blamed()),
    (Code::Unknown,            "too many requests",                row(Kind::TooManyRequests, NotApplied).retryable()),
    (Code::Unknown,            "raft proposal dropped",            row(Kind::Unavailable, NotApplied).retryable()),
    (Code::Unknown,            "",                                 row(Kind::Internal, Unknown)),
    (Code::ResourceExhausted,  "too many requests",                row(Kind::TooManyRequests, NotApplied).retryable()),
    (Code::ResourceExhausted,  "database space exceeded",          row(Kind::NoSpace, NotApplied)),
    (Code::ResourceExhausted,  "received message larger than max", row(Kind::TooLarge, NotApplied)),
    (Code::ResourceExhausted,  "",                                 row(Kind::TooManyRequests, Unknown)),
    (Code::InvalidArgument,    "request is too large",             row(Kind::TooLarge, NotApplied)),
    (Code::InvalidArgument,    "revision of auth store is old",    row(Kind::Unauthenticated, NotApplied).stale_token()),
    (Code::InvalidArgument,    "user name is empty",               row(Kind::Unauthenticated, NotApplied).stale_token()),
    (Code::InvalidArgument,    "authentication failed",            row(Kind::Unauthenticated, NotApplied)),
    (Code::InvalidArgument,    "",                                 row(Kind::InvalidArgument, NotApplied)),
    (Code::Unauthenticated,    "",                                 row(Kind::Unauthenticated, NotApplied).stale_token()),
    (Code::PermissionDenied,   "",                                 row(Kind::PermissionDenied, NotApplied)),
    (Code::OutOfRange,         "has been compacted",               row(Kind::Compacted, NotApplied)),
    (Code::OutOfRange,         "is a future revision",             row(Kind::FutureRevision, NotApplied)),
    (Code::OutOfRange,         "",                                 row(Kind::InvalidArgument, NotApplied)),
    (Code::NotFound,           "requested lease not found",        row(Kind::LeaseNotFound, NotApplied)),
    (Code::NotFound,           "",                                 row(Kind::NotFound, NotApplied)),
    (Code::FailedPrecondition, "rpc not supported for learner",    row(Kind::Unavailable, NotApplied).retryable().blamed()),
    (Code::FailedPrecondition, "not leader",                       row(Kind::NotLeader, NotApplied)),
    (Code::FailedPrecondition, "not capable",                      row(Kind::Unimplemented, NotApplied)),
    (Code::FailedPrecondition, "user name not found",              row(Kind::NotFound, NotApplied)),
    (Code::FailedPrecondition, "role name not found",              row(Kind::NotFound, NotApplied)),
    (Code::FailedPrecondition, "",                                 row(Kind::FailedPrecondition, NotApplied)),
    (Code::AlreadyExists,      "",                                 row(Kind::FailedPrecondition, NotApplied)),
    (Code::Unimplemented,      "",                                 row(Kind::Unimplemented, NotApplied)),
    (Code::DataLoss,           "corrupt cluster",                  row(Kind::Corrupt, NotApplied)),
    (Code::DataLoss,           "",                                 row(Kind::Corrupt, Unknown)),
    (Code::DeadlineExceeded,   "",                                 row(Kind::DeadlineExceeded, Unknown)),
    (Code::Cancelled,          "",                                 row(Kind::Cancelled, Unknown)),
];

/// A verdict that is final.
const fn row(kind: Kind, outcome: Outcome) -> Verdict {
    Verdict {
        kind,
        outcome,
        retryable: false,
        blamed: false,
        stale_token: false,
    }
}

impl Verdict {
    const fn retryable(self) -> Verdict {
        Verdict {
            retryable: true,
            ..self
        }
    }

    const fn blamed(self) -> Verdict {
        Verdict {
            blamed: true,
            ..self
        }
    }

    const fn stale_token(self) -> Verdict {
        Verdict {
            stale_token: true,
            ..self
        }
    }

    /// What `failure` says about a call with `effect`.
    pub(crate) fn of(failure: &Failure, effect: Effect) -> Verdict {
        let verdict = Verdict::of_write(failure);
        match effect {
            Effect::Write => verdict,
            // A read changes nothing, so what passes by itself may be asked again.
            Effect::Read => Verdict {
                outcome: NotApplied,
                retryable: verdict.retryable
                    || matches!(verdict.kind, Kind::Unavailable | Kind::DeadlineExceeded),
                ..verdict
            },
        }
    }

    fn of_write(failure: &Failure) -> Verdict {
        match failure {
            Failure::Unreachable(_) | Failure::GoneAway => {
                row(Kind::Unavailable, NotApplied).retryable().blamed()
            }
            Failure::Unsent(_) | Failure::Refused => row(Kind::Unavailable, NotApplied).retryable(),
            Failure::Broken(_) if planted(Bug::RetryUnknown) => {
                row(Kind::Unavailable, Unknown).retryable()
            }
            Failure::Broken(_) => row(Kind::Unavailable, Unknown).blamed(),
            Failure::Late { sent: false } => row(Kind::DeadlineExceeded, NotApplied).retryable(),
            Failure::Late { sent: true } => row(Kind::DeadlineExceeded, Unknown),
            Failure::Garbled(_) => row(Kind::Internal, Unknown),
            Failure::Closed => row(Kind::Closed, NotApplied),
            Failure::NoToken { .. } => row(Kind::Unauthenticated, NotApplied),
            Failure::Status { code, message } => STATUSES
                .iter()
                .find(|(of, text, _)| of == code && message.contains(text))
                .map_or(row(Kind::Internal, Unknown), |&(_, _, verdict)| verdict),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: Code, message: &str) -> Failure {
        Failure::Status {
            code,
            message: message.to_owned(),
        }
    }

    #[test]
    fn nothing_that_may_have_run_is_retryable_for_a_write() {
        for &(code, text, _) in STATUSES {
            let verdict = Verdict::of(&status(code, text), Effect::Write);
            assert!(
                !verdict.retryable || verdict.outcome == NotApplied,
                "{code:?} {text}: {verdict:?}"
            );
        }
    }

    #[test]
    fn no_row_hides_a_later_one() {
        for (at, &(code, text, verdict)) in STATUSES.iter().enumerate() {
            let first = STATUSES
                .iter()
                .position(|(of, part, _)| *of == code && text.contains(part));
            assert_eq!(
                first,
                Some(at),
                "{code:?} {text:?} is decided by row {first:?}"
            );
            assert_eq!(Verdict::of(&status(code, text), Effect::Write), verdict);
        }
    }

    #[test]
    fn a_read_is_never_applied_and_is_asked_again_when_a_member_is_at_fault() {
        for (failure, again) in [
            (Failure::Broken("reset".to_owned()), true),
            (
                status(Code::Unavailable, "etcdserver: leader changed"),
                true,
            ),
            (
                status(Code::Unavailable, "etcdserver: request timed out"),
                true,
            ),
            (
                status(
                    Code::OutOfRange,
                    "etcdserver: mvcc: required revision has been compacted",
                ),
                false,
            ),
            (
                status(Code::PermissionDenied, "etcdserver: permission denied"),
                false,
            ),
            (Failure::Garbled("no message".to_owned()), false),
        ] {
            let verdict = Verdict::of(&failure, Effect::Read);
            assert_eq!(
                (verdict.outcome, verdict.retryable),
                (NotApplied, again),
                "{failure:?}"
            );
        }
    }

    #[test]
    fn a_code_that_grpc_does_not_have_says_nothing() {
        let verdict = Verdict::of(&status(Code::Aborted, "whatever"), Effect::Write);
        assert_eq!((verdict.kind, verdict.outcome), (Kind::Internal, Unknown));
    }
}
