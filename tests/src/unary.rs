//! Every unary RPC as a request that knows its service, its answer, and what of the answer differs between any two
//! servers and so is blurred before a comparison.

use keystead_proto::etcdserverpb::auth_client::AuthClient;
use keystead_proto::etcdserverpb::cluster_client::ClusterClient;
use keystead_proto::etcdserverpb::kv_client::KvClient;
use keystead_proto::etcdserverpb::lease_client::LeaseClient;
use keystead_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keystead_proto::etcdserverpb::*;
use keystead_proto::health::health_client::HealthClient;
use keystead_proto::health::{HealthCheckRequest, HealthCheckResponse};
use keystead_proto::v3electionpb::election_client::ElectionClient;
use keystead_proto::v3electionpb::*;
use keystead_proto::v3lockpb::lock_client::LockClient;
use keystead_proto::v3lockpb::*;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Answers may be larger than tonic's default of 4 MB; etcd sets no limit.
const ANSWER_BYTES: usize = usize::MAX;

/// A request of a unary RPC.
#[allow(async_fn_in_trait)]
pub trait Unary: std::fmt::Debug {
    /// What the server answers.
    type Answer: std::fmt::Debug;
    /// Calls the RPC with a token, where there is one.
    async fn send_as(self, channel: Channel, token: Option<&str>) -> Result<Self::Answer, Status>;
    /// Calls the RPC.
    async fn send(self, channel: Channel) -> Result<Self::Answer, Status>
    where
        Self: Sized,
    {
        self.send_as(channel, None).await
    }
    /// Replaces what no two servers share, keeping whether it was there.
    fn blur(answer: &mut Self::Answer);
}

macro_rules! unary {
    ($($request:ty => $client:ident.$method:ident -> $answer:ty { $blur:expr })*) => {$(
        impl Unary for $request {
            type Answer = $answer;
            async fn send_as(self, channel: Channel, token: Option<&str>) -> Result<$answer, Status> {
                let mut client = $client::new(channel).max_decoding_message_size(ANSWER_BYTES);
                client.$method(with_token(self, token)).await.map(tonic::Response::into_inner)
            }
            fn blur(answer: &mut $answer) {
                let blur: fn(&mut $answer) = $blur;
                blur(answer);
            }
        }
    )*};
}

unary! {
    RangeRequest => KvClient.range -> RangeResponse { |answer| header(&mut answer.header) }
    PutRequest => KvClient.put -> PutResponse { |answer| header(&mut answer.header) }
    DeleteRangeRequest => KvClient.delete_range -> DeleteRangeResponse { |answer| header(&mut answer.header) }
    TxnRequest => KvClient.txn -> TxnResponse { |answer| header(&mut answer.header) }
    CompactionRequest => KvClient.compact -> CompactionResponse { |answer| header(&mut answer.header) }
    LeaseGrantRequest => LeaseClient.lease_grant -> LeaseGrantResponse { |answer| header(&mut answer.header) }
    LeaseRevokeRequest => LeaseClient.lease_revoke -> LeaseRevokeResponse { |answer| header(&mut answer.header) }
    LeaseTimeToLiveRequest => LeaseClient.lease_time_to_live -> LeaseTimeToLiveResponse { |answer| {
        header(&mut answer.header);
        if (1..=answer.granted_ttl).contains(&answer.ttl) {
            answer.ttl = answer.granted_ttl;
        }
        // etcd lists the keys in the order of a hash map.
        answer.keys.sort();
    } }
    LeaseLeasesRequest => LeaseClient.lease_leases -> LeaseLeasesResponse { |answer| header(&mut answer.header) }
    MemberListRequest => ClusterClient.member_list -> MemberListResponse { |answer| {
        header(&mut answer.header);
        members(&mut answer.members);
    } }
    MemberAddRequest => ClusterClient.member_add -> MemberAddResponse { |answer| {
        header(&mut answer.header);
        answer.member.iter_mut().for_each(member);
        members(&mut answer.members);
    } }
    MemberRemoveRequest => ClusterClient.member_remove -> MemberRemoveResponse { |answer| {
        header(&mut answer.header);
        members(&mut answer.members);
    } }
    MemberUpdateRequest => ClusterClient.member_update -> MemberUpdateResponse { |answer| {
        header(&mut answer.header);
        members(&mut answer.members);
    } }
    MemberPromoteRequest => ClusterClient.member_promote -> MemberPromoteResponse { |answer| {
        header(&mut answer.header);
        members(&mut answer.members);
    } }
    MoveLeaderRequest => MaintenanceClient.move_leader -> MoveLeaderResponse { |answer| header(&mut answer.header) }
    StatusRequest => MaintenanceClient.status -> StatusResponse { |answer| {
        header(&mut answer.header);
        answer.version.truncate(3);
        // A fresh etcd says 3.5 until its monitor has looked once.
        answer.storage_version.truncate(2);
        answer.db_size = i64::from(answer.db_size > 0);
        // A fresh Keystead has nothing in use, a fresh etcd the pages of its empty buckets.
        answer.db_size_in_use = 1;
        answer.leader = answer.leader.min(1);
        answer.raft_index = answer.raft_index.min(1);
        answer.raft_term = answer.raft_term.min(1);
        answer.raft_applied_index = answer.raft_applied_index.min(1);
    } }
    AlarmRequest => MaintenanceClient.alarm -> AlarmResponse { |answer| {
        header(&mut answer.header);
        answer.alarms.iter_mut().for_each(|alarm| alarm.member_id = alarm.member_id.min(1));
    } }
    HashRequest => MaintenanceClient.hash -> HashResponse { |answer| {
        header(&mut answer.header);
        answer.hash = 1;
    } }
    HashKvRequest => MaintenanceClient.hash_kv -> HashKvResponse { |answer| header(&mut answer.header) }
    DefragmentRequest => MaintenanceClient.defragment -> DefragmentResponse { |answer| header(&mut answer.header) }
    LockRequest => LockClient.lock -> LockResponse { |answer| header(&mut answer.header) }
    UnlockRequest => LockClient.unlock -> UnlockResponse { |answer| header(&mut answer.header) }
    CampaignRequest => ElectionClient.campaign -> CampaignResponse { |answer| header(&mut answer.header) }
    ProclaimRequest => ElectionClient.proclaim -> ProclaimResponse { |answer| header(&mut answer.header) }
    LeaderRequest => ElectionClient.leader -> LeaderResponse { |answer| header(&mut answer.header) }
    ResignRequest => ElectionClient.resign -> ResignResponse { |answer| header(&mut answer.header) }
    AuthEnableRequest => AuthClient.auth_enable -> AuthEnableResponse { |answer| header(&mut answer.header) }
    AuthDisableRequest => AuthClient.auth_disable -> AuthDisableResponse { |answer| header(&mut answer.header) }
    AuthStatusRequest => AuthClient.auth_status -> AuthStatusResponse { |answer| header(&mut answer.header) }
    AuthenticateRequest => AuthClient.authenticate -> AuthenticateResponse { |answer| {
        header(&mut answer.header);
        answer.token.truncate(0);
    } }
    AuthUserAddRequest => AuthClient.user_add -> AuthUserAddResponse { |answer| header(&mut answer.header) }
    AuthUserGetRequest => AuthClient.user_get -> AuthUserGetResponse { |answer| header(&mut answer.header) }
    AuthUserListRequest => AuthClient.user_list -> AuthUserListResponse { |answer| header(&mut answer.header) }
    AuthUserDeleteRequest => AuthClient.user_delete -> AuthUserDeleteResponse { |answer| header(&mut answer.header) }
    AuthUserChangePasswordRequest => AuthClient.user_change_password -> AuthUserChangePasswordResponse { |answer| {
        header(&mut answer.header);
    } }
    AuthUserGrantRoleRequest => AuthClient.user_grant_role -> AuthUserGrantRoleResponse { |answer| {
        header(&mut answer.header);
    } }
    AuthUserRevokeRoleRequest => AuthClient.user_revoke_role -> AuthUserRevokeRoleResponse { |answer| {
        header(&mut answer.header);
    } }
    AuthRoleAddRequest => AuthClient.role_add -> AuthRoleAddResponse { |answer| header(&mut answer.header) }
    AuthRoleGetRequest => AuthClient.role_get -> AuthRoleGetResponse { |answer| header(&mut answer.header) }
    AuthRoleListRequest => AuthClient.role_list -> AuthRoleListResponse { |answer| header(&mut answer.header) }
    AuthRoleDeleteRequest => AuthClient.role_delete -> AuthRoleDeleteResponse { |answer| header(&mut answer.header) }
    AuthRoleGrantPermissionRequest => AuthClient.role_grant_permission -> AuthRoleGrantPermissionResponse { |answer| {
        header(&mut answer.header);
    } }
    AuthRoleRevokePermissionRequest => AuthClient.role_revoke_permission -> AuthRoleRevokePermissionResponse { |answer| {
        header(&mut answer.header);
    } }
    HealthCheckRequest => HealthClient.check -> HealthCheckResponse { |_| () }
}

/// A request of whoever a token stands for.
pub(crate) fn with_token<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let token = token.parse().expect("a token is visible ASCII");
        request.metadata_mut().insert("token", token);
    }
    request
}

/// Ids and terms become 1 where they are set.
pub(crate) fn header(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = header.cluster_id.min(1);
        header.member_id = header.member_id.min(1);
        header.raft_term = header.raft_term.min(1);
    }
}

/// They come by id.
fn members(members: &mut [Member]) {
    members.iter_mut().for_each(member);
    members.sort_by_key(|member| (member.is_learner, member.name.is_empty()));
}

fn member(member: &mut Member) {
    member.id = member.id.min(1);
    for url in member.peer_urls.iter_mut().chain(&mut member.client_urls) {
        if let Some(port) = url.rfind(':') {
            url.truncate(port);
        }
    }
}
