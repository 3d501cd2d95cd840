//! Why a request was refused: the one enum for the state machine, consensus and the services.
//!
//! It knows no gRPC: the server has the table of codes and of etcd's texts. Unless a variant says otherwise the request
//! changed nothing and never will.

use keystead_mvcc::{ReadError, Revision};

/// One refusal of one request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    // What is wrong with the request itself; found before it is proposed.
    /// A key is empty.
    #[error("the key is empty")]
    EmptyKey,
    /// `ignore_value` came with a value.
    #[error("a value came with ignore_value")]
    ValueProvided,
    /// `ignore_lease` came with a lease.
    #[error("a lease came with ignore_lease")]
    LeaseProvided,
    /// A transaction, with those nested in it, has more operations than is allowed.
    #[error("the transaction has too many operations")]
    TooManyOps,
    /// A transaction writes a key twice, or writes and deletes it.
    #[error("the transaction writes a key twice")]
    DuplicateKey,
    /// A sort order or target that does not exist.
    #[error("the sort option does not exist")]
    InvalidSortOption,
    /// A lease would live longer than [`crate::check::MAX_LEASE_TTL_SECS`].
    #[error("the lease's time to live is too large")]
    LeaseTtlTooLarge,
    /// The encoded request is larger than the member takes.
    #[error("the request is too large")]
    RequestTooLarge,

    // What the request asks of the state, and the state does not have.
    /// The revision was compacted; ask at a newer one.
    #[error("the revision has been compacted")]
    Compacted,
    /// The revision is above the store's.
    #[error("the revision is in the future")]
    FutureRevision,
    /// `ignore_value` or `ignore_lease` on a key that does not exist; also an operation of no kind.
    #[error("the key does not exist")]
    KeyNotFound,
    /// What was given as a member's peer URLs is not.
    #[error("the peer URLs can't be used")]
    BadMemberUrls,
    /// No such lease.
    #[error("the lease does not exist")]
    LeaseNotFound,
    /// The id is taken.
    #[error("the lease exists already")]
    LeaseExists,
    /// No member has this id.
    #[error("the member does not exist")]
    MemberNotFound,

    /// The id of a new member is that of another.
    #[error("a member has this id already")]
    MemberExists,
    /// Another member is reached at one of the peer URLs.
    #[error("a member has one of the peer URLs already")]
    PeerUrlsExist,
    /// There are as many learners as there may be.
    #[error("there are too many learners")]
    TooManyLearners,
    /// Only a learner can be given a vote.
    #[error("the member is no learner")]
    NotLearner,
    /// The learner lacks too much of the log; try again later.
    #[error("the learner lacks too much of the log")]
    LearnerNotReady,
    /// Too few of the members that would vote have ever started.
    #[error("too few members have started")]
    NotEnoughStarted,
    /// Too few of the members that would vote answer.
    #[error("too few members answer")]
    Unhealthy,
    /// It can't lead: it is no member, or has no vote.
    #[error("the member can't lead")]
    BadTransferee,

    // What users and roles refuse.
    /// The caller has not said who it is; also the name of a user to add is empty.
    #[error("the user's name is empty")]
    UserNameEmpty,
    /// Another user has this name.
    #[error("the user exists already")]
    UserExists,
    /// No user has this name.
    #[error("the user does not exist")]
    UserNotFound,
    /// The name of a role to add is empty.
    #[error("the role's name is empty")]
    RoleNameEmpty,
    /// Another role has this name.
    #[error("the role exists already")]
    RoleExists,
    /// No role has this name.
    #[error("the role does not exist")]
    RoleNotFound,
    /// The user does not have the role that it was to lose.
    #[error("the user does not have the role")]
    RoleNotGranted,
    /// No permission was named to grant.
    #[error("no permission was given")]
    PermissionNotGiven,
    /// The role has no permission on exactly this range.
    #[error("the role does not have the permission")]
    PermissionNotGranted,
    /// Nobody could manage users after authentication was enabled: there is no user root.
    #[error("the user root does not exist")]
    RootUserMissing,
    /// The same: the user root does not have the role root.
    #[error("the user root does not have the role root")]
    RootRoleMissing,
    /// A permission on no key; or what takes the user or the role root away while authentication is enabled.
    #[error("users and roles can't be managed like that")]
    InvalidAuthManagement,
    /// Nobody can log in: authentication is not enabled.
    #[error("authentication is not enabled")]
    AuthNotEnabled,
    /// No such user, or not its password.
    #[error("the user or the password is wrong")]
    AuthFailed,
    /// The user has no password to log in by; also what was given as the hash of one is not.
    #[error("the user has no password")]
    NoPasswordUser,
    /// The token is unknown or has expired; log in again.
    #[error("the token is not valid")]
    InvalidAuthToken,
    /// Users or roles changed after the caller was looked up; log in again.
    #[error("users or roles have changed")]
    OldAuthRevision,
    /// The user has no right to this.
    #[error("permission denied")]
    PermissionDenied,

    // What the cluster or the member refuses for the time being.
    /// The alarm NOSPACE is raised: compact, defragment, then disarm it.
    #[error("the store's quota is used up")]
    NoSpace,
    /// The alarm CORRUPT is raised: a member's data must be replaced.
    #[error("the cluster's data is corrupt")]
    Corrupt,
    /// A row that this member stored is not what was written. Its data must be replaced.
    #[error("the row of revision {0} is damaged")]
    DamagedRow(Revision),
    /// This member's storage failed to read, and says why.
    #[error("reading the store failed: {0}")]
    Storage(std::sync::Arc<str>),
    /// More is waiting than the member has room for; try again later.
    #[error("too many requests are waiting")]
    TooManyRequests,
    /// The member knows no leader; try again, or another member.
    #[error("there is no leader")]
    NoLeader,
    /// Only the leader can do this.
    #[error("this member is not the leader")]
    NotLeader,
    /// The request is not one that a learner serves.
    #[error("a learner does not serve this")]
    LearnerUnsupported,
    /// The leader changed on the way. A write may or may not be applied.
    #[error("the leader changed")]
    LeaderChanged,
    /// The member that was to lead did not in time. It may yet.
    #[error("the next leader did not take over in time")]
    TransferTimeout,
    /// Nothing was heard in time. A write may or may not be applied.
    #[error("the request timed out")]
    Timeout,
    /// The same, and another leader was elected meanwhile.
    #[error("the request timed out, and the leader was lost meanwhile")]
    LeaderLost,
    /// The same, and this member lost its connection to the leader meanwhile, or had none.
    #[error("the request timed out, and the connection to the leader was lost meanwhile")]
    ConnectionLost,
    /// The member is stopping. A write may or may not be applied.
    #[error("the member is stopping")]
    Stopped,
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Compacted => Self::Compacted,
            ReadError::Future => Self::FutureRevision,
            ReadError::Corrupt(damage) => Self::DamagedRow(damage.revision),
            ReadError::Storage(error) => Self::Storage(error.to_string().into()),
        }
    }
}
