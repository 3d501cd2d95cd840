//! Cluster: who the members are, and how that changes.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use keystead_proto::etcdserverpb::cluster_server::Cluster as ClusterService;
use keystead_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse, ResponseHeader,
};
use keystead_raft::MemberChange;
use tonic::{Request, Response, Status};

use super::metadata_of;
use crate::error::GrpcStatus;
use crate::identity::added_member_id;
use crate::member::Member as Local;
use crate::net::grpc::Metadata;
use crate::{member_changes, peer_urls};

/// The service.
pub(super) struct Cluster {
    local: Arc<Local>,
}

impl Cluster {
    pub(super) fn new(local: Arc<Local>) -> Self {
        Self { local }
    }

    /// The cluster's answers carry no revision, as in etcd.
    fn header(&self) -> Option<ResponseHeader> {
        Some(self.local.headers.at(0))
    }

    async fn require_root(&self, metadata: &Metadata) -> Result<(), GrpcStatus> {
        self.local.require_root_for_all(metadata).await?;
        Ok(())
    }

    async fn change(&self, change: MemberChange) -> Result<Vec<Member>, GrpcStatus> {
        member_changes::change(&self.local, change).await
    }
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let consensus = &self.local.consensus;
        let members = if request.get_ref().linearizable {
            consensus.read_barrier().await.map_err(GrpcStatus::from)?;
            self.local.reader.members()
        } else {
            consensus.members()
        };
        self.local
            .require_user(&metadata_of(&request))
            .await
            .map_err(GrpcStatus::from)?;
        let header = self.header();
        Ok(Response::new(MemberListResponse { header, members }))
    }

    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let metadata = metadata_of(&request);
        let request = request.into_inner();
        let peer_urls = peer_urls::checked(&request.peer_urls).map_err(GrpcStatus::from)?;
        self.require_root(&metadata).await?;
        let added = Member {
            id: added_member_id(&peer_urls, unix_secs()),
            peer_urls,
            is_learner: request.is_learner,
            ..Member::default()
        };
        let members = self.change(MemberChange::Add(added.clone())).await?;
        Ok(Response::new(MemberAddResponse {
            header: self.header(),
            member: Some(added),
            members,
        }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        self.require_root(&metadata_of(&request)).await?;
        let removal = MemberChange::Remove(request.get_ref().id);
        let members = self.change(removal).await?;
        let header = self.header();
        Ok(Response::new(MemberRemoveResponse { header, members }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        self.require_root(&metadata_of(&request)).await?;
        let request = request.get_ref();
        let update = MemberChange::Update {
            id: request.id,
            peer_urls: peer_urls::checked(&request.peer_urls).map_err(GrpcStatus::from)?,
        };
        let members = self.change(update).await?;
        let header = self.header();
        Ok(Response::new(MemberUpdateResponse { header, members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        self.require_root(&metadata_of(&request)).await?;
        let promotion = MemberChange::Promote(request.get_ref().id);
        let members = self.change(promotion).await?;
        let header = self.header();
        Ok(Response::new(MemberPromoteResponse { header, members }))
    }
}

/// What tells the ids of members apart that are added at the same URLs one after the other.
fn unix_secs() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
