//! The records of one entry of the log, read: what they ask, and who does, is known before anything is applied.

use std::sync::Arc;

use keystead_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, LeaseCheckpointRequest, LeaseGrantRequest,
    LeaseRevokeRequest, Member, PutRequest, TxnRequest,
};
use keystead_proto::internal::{Authenticate, Record, RecordKind};
use prost::Message;

use crate::Caller;
use crate::auth::AuthRequest;
use crate::fatal::Fatal;
use crate::member;
use crate::nesting::{self, Undecodable};

/// The requests of an entry, in order.
#[derive(Default)]
pub struct Requests(pub(crate) Vec<Asked>);

/// One record: what is asked, and by whom.
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) by: Asker,
}

/// Who asks.
pub(crate) enum Asker {
    /// A member, on its own account: nothing is refused for want of permission.
    Member,
    /// A client.
    Client { user: String, auth_revision: u64 },
}

/// One record's request.
pub(crate) enum Request {
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compaction(CompactionRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
    LeaseCheckpoint(LeaseCheckpointRequest),
    Alarm(AlarmRequest),
    Membership(Vec<Member>),
    MemberAttributes(Member),
    ClusterVersion(Arc<str>),
    LogIn(Authenticate),
    Auth(AuthRequest),
}

impl Asker {
    /// The client that asks; none for a member.
    pub(crate) fn client(&self) -> Option<Caller<'_>> {
        match self {
            Self::Member => None,
            Self::Client {
                user,
                auth_revision,
            } => Some(Caller {
                user,
                auth_revision: *auth_revision,
            }),
        }
    }
}

impl Requests {
    /// Reads records.
    ///
    /// # Errors
    /// [`Fatal`]: the member must stop, for this version can't read what others may have applied.
    pub fn read(records: &[Record]) -> Result<Self, Fatal> {
        records
            .iter()
            .map(asked)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// What an entry asks that changes who the members are: these are all that there are from here on, each with its id, its
    /// peer URLs, its role, and the name that it has until it publishes one.
    pub fn membership(members: Vec<Member>) -> Self {
        Self(vec![Asked {
            request: Request::Membership(members),
            by: Asker::Member,
        }])
    }
}

fn asked(record: &Record) -> Result<Asked, Fatal> {
    let by = if record.own {
        Asker::Member
    } else {
        Asker::Client {
            user: record.user.clone(),
            auth_revision: record.auth_revision,
        }
    };
    let request = request(record)?;
    Ok(Asked { request, by })
}

fn request(record: &Record) -> Result<Request, Fatal> {
    Ok(match record.kind() {
        RecordKind::Put => Request::Put(decode(record)?),
        RecordKind::DeleteRange => Request::DeleteRange(decode(record)?),
        RecordKind::Txn => Request::Txn(
            nesting::decode_txn(&record.payload).map_err(|error| undecodable(record, error))?,
        ),
        RecordKind::Compaction => Request::Compaction(decode(record)?),
        RecordKind::LeaseGrant => Request::LeaseGrant(decode(record)?),
        RecordKind::LeaseRevoke => Request::LeaseRevoke(decode(record)?),
        RecordKind::LeaseCheckpoint => Request::LeaseCheckpoint(decode(record)?),
        RecordKind::Alarm => Request::Alarm(decode(record)?),
        RecordKind::MemberAttributes => Request::MemberAttributes(decode(record)?),
        RecordKind::ClusterVersion => {
            Request::ClusterVersion(member::text(&record.payload).ok_or(Fatal::VersionNotText)?)
        }
        RecordKind::Authenticate => Request::LogIn(decode(record)?),
        RecordKind::AuthEnable => Request::Auth(AuthRequest::Enable),
        RecordKind::AuthDisable => Request::Auth(AuthRequest::Disable),
        RecordKind::UserAdd => Request::Auth(AuthRequest::UserAdd(decode(record)?)),
        RecordKind::UserDelete => Request::Auth(AuthRequest::UserDelete(decode(record)?)),
        RecordKind::UserChangePassword => {
            Request::Auth(AuthRequest::UserChangePassword(decode(record)?))
        }
        RecordKind::UserGrantRole => Request::Auth(AuthRequest::UserGrantRole(decode(record)?)),
        RecordKind::UserRevokeRole => Request::Auth(AuthRequest::UserRevokeRole(decode(record)?)),
        RecordKind::RoleAdd => Request::Auth(AuthRequest::RoleAdd(decode(record)?)),
        RecordKind::RoleDelete => Request::Auth(AuthRequest::RoleDelete(decode(record)?)),
        RecordKind::RoleGrantPermission => {
            Request::Auth(AuthRequest::RoleGrantPermission(decode(record)?))
        }
        RecordKind::RoleRevokePermission => {
            Request::Auth(AuthRequest::RoleRevokePermission(decode(record)?))
        }
        RecordKind::Unspecified => return Err(Fatal::UnknownKind(record.kind)),
    })
}

fn decode<M: Message + Default>(record: &Record) -> Result<M, Fatal> {
    M::decode(record.payload.clone()).map_err(|error| undecodable(record, error.into()))
}

fn undecodable(record: &Record, error: Undecodable) -> Fatal {
    Fatal::Undecodable {
        kind: record.kind().as_str_name(),
        error,
    }
}
