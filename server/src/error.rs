//! What a client is told when a call is refused: gRPC code and etcd's text. The one table.
//! Every service answers through it; no other file names a code for a refusal.

use std::borrow::Cow;

use keystead_state::Refusal;
use keystead_state::nesting::Undecodable;
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
    pub const OK: Self = Self::of(Code::Ok, "");
    /// RangeStream goes through the keys in their order alone.
    pub const STREAM_SORT: Self = Self::of(
        Code::Unimplemented,
        "RangeStream does not support custom sort orders",
    );
    /// RangeStream skips no key.
    pub const STREAM_FILTER: Self = Self::of(
        Code::Unimplemented,
        "RangeStream does not support revision filters",
    );
    /// bcrypt takes no longer password.
    pub const PASSWORD_TOO_LONG: Self =
        Self::of(Code::Unknown, "bcrypt: password length exceeds 72 bytes");
    /// Tokens are signed elsewhere.
    pub const VERIFY_ONLY: Self = Self::of(
        Code::Unknown,
        "auth: token signing attempted with verify-only key",
    );
    /// A name that the health service does not know.
    pub const UNKNOWN_HEALTH_SERVICE: Self = Self::of(Code::NotFound, "unknown service");

    const fn of(code: Code, text: &'static str) -> Self {
        Self {
            code,
            message: Cow::Borrowed(text),
        }
    }

    /// A refusal of `code` with a text.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// What a call ends with that its client gave up.
    pub fn cancelled() -> Self {
        Self::of(Code::Cancelled, "context canceled")
    }

    /// What a call ends with whose client set a deadline that passed.
    pub fn deadline_exceeded() -> Self {
        Self::of(Code::DeadlineExceeded, "context deadline exceeded")
    }

    /// A request that is not the message its method takes.
    pub fn undecodable(error: &prost::DecodeError) -> Self {
        Self::new(
            Code::Internal,
            format!("grpc: error unmarshalling request: {error}"),
        )
    }

    /// The same of a message on a stream, which grpc-go says in other words.
    pub fn undecodable_in_stream(error: &prost::DecodeError) -> Self {
        Self::new(
            Code::Internal,
            format!("grpc: failed to unmarshal the received message: {error}"),
        )
    }

    /// The state answered a request of another kind than was asked: a bug of ours.
    pub fn mismatched(answer: &keystead_state::Reply) -> Self {
        tracing::error!(
            ?answer,
            "the state's answer is not to the request that was made"
        );
        Self::of(
            Code::Internal,
            "etcdserver: the answer is not to the request that was made",
        )
    }

    /// A method of etcd's that this release does not serve.
    pub fn not_served(method: &'static str) -> Self {
        Self::new(
            Code::Unimplemented,
            format!("etcdserver: {method} is not served by this release"),
        )
    }
}

impl From<Undecodable> for GrpcStatus {
    /// Transactions so deep have more operations in them than any limit allows.
    fn from(error: Undecodable) -> Self {
        match error {
            Undecodable::TooDeep => Refusal::TooManyOps.into(),
            Undecodable::Malformed(error) => Self::undecodable(&error),
        }
    }
}

impl From<Refusal> for GrpcStatus {
    fn from(refusal: Refusal) -> Self {
        use Code::{
            DataLoss, FailedPrecondition, InvalidArgument, NotFound, OutOfRange, PermissionDenied,
            ResourceExhausted, Unauthenticated, Unavailable,
        };
        match refusal {
            Refusal::EmptyKey => Self::of(InvalidArgument, "etcdserver: key is not provided"),
            Refusal::ValueProvided => Self::of(InvalidArgument, "etcdserver: value is provided"),
            Refusal::LeaseProvided => Self::of(InvalidArgument, "etcdserver: lease is provided"),
            Refusal::TooManyOps => Self::of(
                InvalidArgument,
                "etcdserver: too many operations in txn request",
            ),
            Refusal::DuplicateKey => Self::of(
                InvalidArgument,
                "etcdserver: duplicate key given in txn request",
            ),
            Refusal::InvalidSortOption => {
                Self::of(InvalidArgument, "etcdserver: invalid sort option")
            }
            Refusal::RequestTooLarge => {
                Self::of(InvalidArgument, "etcdserver: request is too large")
            }
            Refusal::BadMemberUrls => {
                Self::of(InvalidArgument, "etcdserver: given member URLs are invalid")
            }
            Refusal::KeyNotFound => Self::of(InvalidArgument, "etcdserver: key not found"),
            Refusal::LeaseTtlTooLarge => Self::of(OutOfRange, "etcdserver: too large lease TTL"),
            Refusal::Compacted => Self::of(
                OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            Refusal::FutureRevision => Self::of(
                OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            Refusal::LeaseNotFound => Self::of(NotFound, "etcdserver: requested lease not found"),
            Refusal::MemberNotFound => Self::of(NotFound, "etcdserver: member not found"),
            Refusal::MemberExists => {
                Self::of(FailedPrecondition, "etcdserver: member ID already exist")
            }
            Refusal::PeerUrlsExist => {
                Self::of(FailedPrecondition, "etcdserver: Peer URLs already exists")
            }
            Refusal::TooManyLearners => Self::of(
                FailedPrecondition,
                "etcdserver: too many learner members in cluster",
            ),
            Refusal::NotLearner => Self::of(
                FailedPrecondition,
                "etcdserver: can only promote a learner member",
            ),
            Refusal::LearnerNotReady => Self::of(
                FailedPrecondition,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            Refusal::BadTransferee => {
                Self::of(FailedPrecondition, "etcdserver: bad leader transferee")
            }
            // etcd's own constant says FAILED_PRECONDITION; what its server sends is UNKNOWN.
            Refusal::NotEnoughStarted => Self::of(
                Code::Unknown,
                "etcdserver: re-configuration failed due to not enough started members",
            ),
            Refusal::Unhealthy => Self::of(Unavailable, "etcdserver: unhealthy cluster"),
            Refusal::TransferTimeout => Self::of(
                Code::Unknown,
                "etcdserver: request timed out, leader transfer took too long",
            ),
            Refusal::LeaseExists => {
                Self::of(FailedPrecondition, "etcdserver: lease already exists")
            }
            Refusal::NotLeader => Self::of(FailedPrecondition, "etcdserver: not leader"),
            Refusal::LearnerUnsupported => Self::of(
                FailedPrecondition,
                "etcdserver: rpc not supported for learner",
            ),
            Refusal::UserNameEmpty => Self::of(InvalidArgument, "etcdserver: user name is empty"),
            Refusal::UserExists => {
                Self::of(FailedPrecondition, "etcdserver: user name already exists")
            }
            Refusal::UserNotFound => {
                Self::of(FailedPrecondition, "etcdserver: user name not found")
            }
            Refusal::RoleNameEmpty => Self::of(InvalidArgument, "etcdserver: role name is empty"),
            Refusal::RoleExists => {
                Self::of(FailedPrecondition, "etcdserver: role name already exists")
            }
            Refusal::RoleNotFound => {
                Self::of(FailedPrecondition, "etcdserver: role name not found")
            }
            Refusal::RoleNotGranted => Self::of(
                FailedPrecondition,
                "etcdserver: role is not granted to the user",
            ),
            Refusal::PermissionNotGiven => {
                Self::of(InvalidArgument, "etcdserver: permission not given")
            }
            Refusal::PermissionNotGranted => Self::of(
                FailedPrecondition,
                "etcdserver: permission is not granted to the role",
            ),
            Refusal::RootUserMissing => {
                Self::of(FailedPrecondition, "etcdserver: root user does not exist")
            }
            Refusal::RootRoleMissing => Self::of(
                FailedPrecondition,
                "etcdserver: root user does not have root role",
            ),
            Refusal::InvalidAuthManagement => {
                Self::of(InvalidArgument, "etcdserver: invalid auth management")
            }
            Refusal::AuthNotEnabled => Self::of(
                FailedPrecondition,
                "etcdserver: authentication is not enabled",
            ),
            Refusal::AuthFailed => Self::of(
                InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
            ),
            // etcd has no constant for this one: the text of its innards goes out as it is.
            Refusal::NoPasswordUser => Self::of(
                Code::Unknown,
                "auth: authentication failed, password was given for no password user",
            ),
            Refusal::InvalidAuthToken => {
                Self::of(Unauthenticated, "etcdserver: invalid auth token")
            }
            Refusal::OldAuthRevision => {
                Self::of(InvalidArgument, "etcdserver: revision of auth store is old")
            }
            Refusal::PermissionDenied => {
                Self::of(PermissionDenied, "etcdserver: permission denied")
            }
            Refusal::NoSpace => Self::of(
                ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
            Refusal::Corrupt | Refusal::DamagedRow(_) => {
                Self::of(DataLoss, "etcdserver: corrupt cluster")
            }
            // etcd's own constant says RESOURCE_EXHAUSTED; what its server sends is UNKNOWN.
            Refusal::TooManyRequests => Self::of(Code::Unknown, "etcdserver: too many requests"),
            Refusal::NoLeader => Self::of(Unavailable, "etcdserver: no leader"),
            Refusal::LeaderChanged => Self::of(Unavailable, "etcdserver: leader changed"),
            Refusal::Timeout => Self::of(Unavailable, "etcdserver: request timed out"),
            Refusal::LeaderLost => Self::of(
                Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            Refusal::ConnectionLost => Self::of(
                Unavailable,
                "etcdserver: request timed out, possibly due to connection lost",
            ),
            Refusal::Stopped => Self::of(Unavailable, "etcdserver: server stopped"),
            // Not etcd's: the operator reads it in the client's output as well as in the log.
            Refusal::Storage(_) => Self::new(Code::Unknown, format!("etcdserver: {refusal}")),
        }
    }
}

impl From<GrpcStatus> for tonic::Status {
    fn from(status: GrpcStatus) -> Self {
        Self::new(status.code, status.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients compare these to the letter; a change here is a change of the protocol.
    #[test]
    fn every_refusal_has_etcds_code_and_text() {
        for (refusal, code, text) in [
            (Refusal::EmptyKey, 3, "key is not provided"),
            (Refusal::ValueProvided, 3, "value is provided"),
            (Refusal::LeaseProvided, 3, "lease is provided"),
            (Refusal::TooManyOps, 3, "too many operations in txn request"),
            (
                Refusal::DuplicateKey,
                3,
                "duplicate key given in txn request",
            ),
            (Refusal::InvalidSortOption, 3, "invalid sort option"),
            (Refusal::RequestTooLarge, 3, "request is too large"),
            (Refusal::KeyNotFound, 3, "key not found"),
            (Refusal::LeaseTtlTooLarge, 11, "too large lease TTL"),
            (
                Refusal::Compacted,
                11,
                "mvcc: required revision has been compacted",
            ),
            (
                Refusal::FutureRevision,
                11,
                "mvcc: required revision is a future revision",
            ),
            (Refusal::LeaseNotFound, 5, "requested lease not found"),
            (Refusal::MemberNotFound, 5, "member not found"),
            (Refusal::LeaseExists, 9, "lease already exists"),
            (Refusal::NotLeader, 9, "not leader"),
            (Refusal::BadMemberUrls, 3, "given member URLs are invalid"),
            (Refusal::MemberExists, 9, "member ID already exist"),
            (Refusal::PeerUrlsExist, 9, "Peer URLs already exists"),
            (
                Refusal::TooManyLearners,
                9,
                "too many learner members in cluster",
            ),
            (Refusal::NotLearner, 9, "can only promote a learner member"),
            (
                Refusal::LearnerNotReady,
                9,
                "can only promote a learner member which is in sync with leader",
            ),
            (
                Refusal::NotEnoughStarted,
                2,
                "re-configuration failed due to not enough started members",
            ),
            (Refusal::Unhealthy, 14, "unhealthy cluster"),
            (Refusal::BadTransferee, 9, "bad leader transferee"),
            (
                Refusal::TransferTimeout,
                2,
                "request timed out, leader transfer took too long",
            ),
            (
                Refusal::LearnerUnsupported,
                9,
                "rpc not supported for learner",
            ),
            (Refusal::UserNameEmpty, 3, "user name is empty"),
            (Refusal::UserExists, 9, "user name already exists"),
            (Refusal::UserNotFound, 9, "user name not found"),
            (Refusal::RoleNameEmpty, 3, "role name is empty"),
            (Refusal::RoleExists, 9, "role name already exists"),
            (Refusal::RoleNotFound, 9, "role name not found"),
            (
                Refusal::RoleNotGranted,
                9,
                "role is not granted to the user",
            ),
            (Refusal::PermissionNotGiven, 3, "permission not given"),
            (
                Refusal::PermissionNotGranted,
                9,
                "permission is not granted to the role",
            ),
            (Refusal::RootUserMissing, 9, "root user does not exist"),
            (
                Refusal::RootRoleMissing,
                9,
                "root user does not have root role",
            ),
            (Refusal::InvalidAuthManagement, 3, "invalid auth management"),
            (Refusal::AuthNotEnabled, 9, "authentication is not enabled"),
            (
                Refusal::AuthFailed,
                3,
                "authentication failed, invalid user ID or password",
            ),
            (Refusal::InvalidAuthToken, 16, "invalid auth token"),
            (Refusal::OldAuthRevision, 3, "revision of auth store is old"),
            (Refusal::PermissionDenied, 7, "permission denied"),
            (Refusal::NoSpace, 8, "mvcc: database space exceeded"),
            (Refusal::Corrupt, 15, "corrupt cluster"),
            (Refusal::TooManyRequests, 2, "too many requests"),
            (Refusal::NoLeader, 14, "no leader"),
            (Refusal::LeaderChanged, 14, "leader changed"),
            (Refusal::Timeout, 14, "request timed out"),
            (
                Refusal::LeaderLost,
                14,
                "request timed out, possibly due to previous leader failure",
            ),
            (
                Refusal::ConnectionLost,
                14,
                "request timed out, possibly due to connection lost",
            ),
            (Refusal::Stopped, 14, "server stopped"),
        ] {
            let status = GrpcStatus::from(refusal);
            assert_eq!(
                (status.code as i32, &*status.message),
                (code, &*format!("etcdserver: {text}"))
            );
        }
    }

    #[test]
    fn a_user_without_password_is_refused_in_the_words_of_etcds_innards() {
        let status = GrpcStatus::from(Refusal::NoPasswordUser);
        let text = "auth: authentication failed, password was given for no password user";
        assert_eq!((status.code as i32, &*status.message), (2, text));
    }
}
