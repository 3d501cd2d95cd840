//! Cluster: who the members are. Changing them is not served yet.

use std::sync::Arc;

use keystead_proto::etcdserverpb::cluster_server::Cluster as ClusterService;
use keystead_proto::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};
use tonic::{Request, Response, Status};

use crate::error::GrpcStatus;
use crate::member::Member;

/// The service.
pub(super) struct Cluster {
    member: Arc<Member>,
}

impl Cluster {
    pub(super) fn new(member: Arc<Member>) -> Self {
        Self { member }
    }
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        if request.get_ref().linearizable {
            self.member
                .consensus
                .read_barrier()
                .await
                .map_err(GrpcStatus::from)?;
        }
        // The cluster's answers carry no revision, as in etcd.
        let header = Some(self.member.headers.at(0));
        Ok(Response::new(MemberListResponse {
            header,
            members: self.member.reader.members(),
        }))
    }

    async fn member_add(
        &self,
        _: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        Err(GrpcStatus::not_served("MemberAdd").into())
    }

    async fn member_remove(
        &self,
        _: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        Err(GrpcStatus::not_served("MemberRemove").into())
    }

    async fn member_update(
        &self,
        _: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        Err(GrpcStatus::not_served("MemberUpdate").into())
    }

    async fn member_promote(
        &self,
        _: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        Err(GrpcStatus::not_served("MemberPromote").into())
    }
}
