//! Every RPC that the client calls: its path, its messages, whether it changes anything. The one list; what resends is
//! decided from it.

use std::marker::PhantomData;

use keystead_proto::etcdserverpb::*;

/// Whether a call changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It does not: it may be asked again whatever happened.
    Read,
    /// It does: it is sent again only when it surely did not run.
    Write,
}

/// One RPC with request `Q` and answer `A`.
pub(crate) struct Rpc<Q, A> {
    pub(super) path: &'static str,
    pub(super) effect: Effect,
    messages: PhantomData<fn(Q) -> A>,
}

impl<Q, A> Rpc<Q, A> {
    const fn read(path: &'static str) -> Self {
        Rpc {
            path,
            effect: Effect::Read,
            messages: PhantomData,
        }
    }

    const fn write(path: &'static str) -> Self {
        Rpc {
            path,
            effect: Effect::Write,
            messages: PhantomData,
        }
    }
}

pub(crate) const RANGE: Rpc<RangeRequest, RangeResponse> = Rpc::read("/etcdserverpb.KV/Range");
pub(crate) const RANGE_STREAM: Rpc<RangeRequest, RangeStreamResponse> =
    Rpc::read("/etcdserverpb.KV/RangeStream");
pub(crate) const PUT: Rpc<PutRequest, PutResponse> = Rpc::write("/etcdserverpb.KV/Put");
pub(crate) const DELETE_RANGE: Rpc<DeleteRangeRequest, DeleteRangeResponse> =
    Rpc::write("/etcdserverpb.KV/DeleteRange");
pub(crate) const TXN: Rpc<TxnRequest, TxnResponse> = Rpc::write("/etcdserverpb.KV/Txn");
/// A transaction whose operations, nested ones too, only read.
pub(crate) const READ_TXN: Rpc<TxnRequest, TxnResponse> = Rpc::read("/etcdserverpb.KV/Txn");
pub(crate) const COMPACT: Rpc<CompactionRequest, CompactionResponse> =
    Rpc::write("/etcdserverpb.KV/Compact");
pub(crate) const LEASE_GRANT: Rpc<LeaseGrantRequest, LeaseGrantResponse> =
    Rpc::write("/etcdserverpb.Lease/LeaseGrant");
pub(crate) const LEASE_REVOKE: Rpc<LeaseRevokeRequest, LeaseRevokeResponse> =
    Rpc::write("/etcdserverpb.Lease/LeaseRevoke");
/// A lease that is renewed twice has no more than its TTL: it may be asked again whatever happened.
pub(crate) const LEASE_KEEP_ALIVE: Rpc<LeaseKeepAliveRequest, LeaseKeepAliveResponse> =
    Rpc::read("/etcdserverpb.Lease/LeaseKeepAlive");
pub(crate) const LEASE_TIME_TO_LIVE: Rpc<LeaseTimeToLiveRequest, LeaseTimeToLiveResponse> =
    Rpc::read("/etcdserverpb.Lease/LeaseTimeToLive");
pub(crate) const LEASE_LEASES: Rpc<LeaseLeasesRequest, LeaseLeasesResponse> =
    Rpc::read("/etcdserverpb.Lease/LeaseLeases");
pub(crate) const WATCH: Rpc<WatchRequest, WatchResponse> = Rpc::read("/etcdserverpb.Watch/Watch");
pub(crate) const MEMBER_LIST: Rpc<MemberListRequest, MemberListResponse> =
    Rpc::read("/etcdserverpb.Cluster/MemberList");
pub(crate) const MEMBER_ADD: Rpc<MemberAddRequest, MemberAddResponse> =
    Rpc::write("/etcdserverpb.Cluster/MemberAdd");
pub(crate) const MEMBER_REMOVE: Rpc<MemberRemoveRequest, MemberRemoveResponse> =
    Rpc::write("/etcdserverpb.Cluster/MemberRemove");
pub(crate) const MEMBER_UPDATE: Rpc<MemberUpdateRequest, MemberUpdateResponse> =
    Rpc::write("/etcdserverpb.Cluster/MemberUpdate");
pub(crate) const MEMBER_PROMOTE: Rpc<MemberPromoteRequest, MemberPromoteResponse> =
    Rpc::write("/etcdserverpb.Cluster/MemberPromote");
pub(crate) const STATUS: Rpc<StatusRequest, StatusResponse> =
    Rpc::read("/etcdserverpb.Maintenance/Status");
/// An alarm request that only asks.
pub(crate) const ALARMS: Rpc<AlarmRequest, AlarmResponse> =
    Rpc::read("/etcdserverpb.Maintenance/Alarm");
pub(crate) const DISARM: Rpc<AlarmRequest, AlarmResponse> =
    Rpc::write("/etcdserverpb.Maintenance/Alarm");
pub(crate) const DEFRAGMENT: Rpc<DefragmentRequest, DefragmentResponse> =
    Rpc::write("/etcdserverpb.Maintenance/Defragment");
pub(crate) const HASH_KV: Rpc<HashKvRequest, HashKvResponse> =
    Rpc::read("/etcdserverpb.Maintenance/HashKV");
pub(crate) const SNAPSHOT: Rpc<SnapshotRequest, SnapshotResponse> =
    Rpc::read("/etcdserverpb.Maintenance/Snapshot");
pub(crate) const MOVE_LEADER: Rpc<MoveLeaderRequest, MoveLeaderResponse> =
    Rpc::write("/etcdserverpb.Maintenance/MoveLeader");
/// Another token is another token, but nothing that was there is changed.
pub(super) const AUTHENTICATE: Rpc<AuthenticateRequest, AuthenticateResponse> =
    Rpc::read("/etcdserverpb.Auth/Authenticate");
pub(crate) const AUTH_ENABLE: Rpc<AuthEnableRequest, AuthEnableResponse> =
    Rpc::write("/etcdserverpb.Auth/AuthEnable");
pub(crate) const AUTH_DISABLE: Rpc<AuthDisableRequest, AuthDisableResponse> =
    Rpc::write("/etcdserverpb.Auth/AuthDisable");
pub(crate) const AUTH_STATUS: Rpc<AuthStatusRequest, AuthStatusResponse> =
    Rpc::read("/etcdserverpb.Auth/AuthStatus");
pub(crate) const USER_ADD: Rpc<AuthUserAddRequest, AuthUserAddResponse> =
    Rpc::write("/etcdserverpb.Auth/UserAdd");
pub(crate) const USER_DELETE: Rpc<AuthUserDeleteRequest, AuthUserDeleteResponse> =
    Rpc::write("/etcdserverpb.Auth/UserDelete");
pub(crate) const USER_GET: Rpc<AuthUserGetRequest, AuthUserGetResponse> =
    Rpc::read("/etcdserverpb.Auth/UserGet");
pub(crate) const USER_LIST: Rpc<AuthUserListRequest, AuthUserListResponse> =
    Rpc::read("/etcdserverpb.Auth/UserList");
pub(crate) const USER_CHANGE_PASSWORD: Rpc<
    AuthUserChangePasswordRequest,
    AuthUserChangePasswordResponse,
> = Rpc::write("/etcdserverpb.Auth/UserChangePassword");
pub(crate) const USER_GRANT_ROLE: Rpc<AuthUserGrantRoleRequest, AuthUserGrantRoleResponse> =
    Rpc::write("/etcdserverpb.Auth/UserGrantRole");
pub(crate) const USER_REVOKE_ROLE: Rpc<AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse> =
    Rpc::write("/etcdserverpb.Auth/UserRevokeRole");
pub(crate) const ROLE_ADD: Rpc<AuthRoleAddRequest, AuthRoleAddResponse> =
    Rpc::write("/etcdserverpb.Auth/RoleAdd");
pub(crate) const ROLE_DELETE: Rpc<AuthRoleDeleteRequest, AuthRoleDeleteResponse> =
    Rpc::write("/etcdserverpb.Auth/RoleDelete");
pub(crate) const ROLE_GET: Rpc<AuthRoleGetRequest, AuthRoleGetResponse> =
    Rpc::read("/etcdserverpb.Auth/RoleGet");
pub(crate) const ROLE_LIST: Rpc<AuthRoleListRequest, AuthRoleListResponse> =
    Rpc::read("/etcdserverpb.Auth/RoleList");
pub(crate) const ROLE_GRANT_PERMISSION: Rpc<
    AuthRoleGrantPermissionRequest,
    AuthRoleGrantPermissionResponse,
> = Rpc::write("/etcdserverpb.Auth/RoleGrantPermission");
pub(crate) const ROLE_REVOKE_PERMISSION: Rpc<
    AuthRoleRevokePermissionRequest,
    AuthRoleRevokePermissionResponse,
> = Rpc::write("/etcdserverpb.Auth/RoleRevokePermission");
