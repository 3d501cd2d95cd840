//! Maintenance: what operators and their tools ask of one member.

use std::io;
use std::sync::Arc;

use keystead_mvcc::{Read, ReadError, Store};
use keystead_proto::etcdserverpb::alarm_request::AlarmAction;
use keystead_proto::etcdserverpb::maintenance_server::Maintenance as MaintenanceService;
use keystead_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeInfo, DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse,
    StatusRequest, StatusResponse,
};
use keystead_proto::internal::RecordKind;
use keystead_state::{Refusal, Reply as Answer};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::metadata_of;
use crate::aside::spawn_aside;
use crate::auth::Caller;
use crate::error::GrpcStatus;
use crate::member::Member;
use crate::snapshot;

/// The version of etcd's storage whose contents ours have; told by Status.
const STORAGE_VERSION: &str = "3.6.0";

/// Messages of a snapshot that wait for a slow client: a megabyte.
const SNAPSHOT_MESSAGES: usize = 32;

/// The service.
pub(super) struct Maintenance {
    member: Arc<Member>,
}

impl Maintenance {
    pub(super) fn new(member: Arc<Member>) -> Self {
        Self { member }
    }

    async fn require_root<T>(&self, request: &Request<T>) -> Result<Caller, GrpcStatus>
    where
        T: Sync,
    {
        Ok(self.member.require_root(&metadata_of(request)).await?)
    }

    fn revision(&self) -> i64 {
        self.member.reader.store().current()
    }

    /// Reads all of the store on a thread of its own.
    async fn read_store<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, GrpcStatus> {
        let store = self.member.reader.store().clone();
        let reading = spawn_aside(move || read(&store));
        // The runtime drops blocking work only when it stops.
        let read = reading.await.map_err(|_| Refusal::Stopped)?;
        Ok(read.map_err(Refusal::from)?)
    }

    /// The alarms of one kind, or all for NONE. Needs no place in the log.
    async fn alarms(&self, kind: i32) -> Result<AlarmResponse, GrpcStatus> {
        self.member.consensus.read_barrier().await?;
        let wanted = |alarm: &AlarmMember| kind == AlarmType::None as i32 || alarm.alarm == kind;
        let alarms = self
            .member
            .reader
            .alarms()
            .into_iter()
            .filter(wanted)
            .collect();
        Ok(AlarmResponse {
            header: Some(self.member.headers.at(self.revision())),
            alarms,
        })
    }

    async fn change_alarm(
        &self,
        caller: &Caller,
        request: &AlarmRequest,
    ) -> Result<AlarmResponse, GrpcStatus> {
        match self
            .member
            .propose_for(caller, RecordKind::Alarm, request.encode_to_vec().into())
            .await?
        {
            Answer::Alarm(mut response) => {
                self.member.headers.complete(&mut response.header);
                Ok(response)
            }
            other => Err(GrpcStatus::mismatched(&other)),
        }
    }

    /// What is wrong, in etcd's words.
    fn errors(&self, leader: u64) -> Vec<String> {
        let no_leader =
            (leader == 0).then(|| GrpcStatus::from(Refusal::NoLeader).message.into_owned());
        let alarms = self.member.reader.alarms().into_iter().map(|alarm| {
            let kind = alarm.alarm().as_str_name();
            // Protobuf's text form, which leaves zeros out.
            match alarm.member_id {
                0 => format!("alarm:{kind} "),
                member => format!("memberID:{member} alarm:{kind} "),
            }
        });
        no_leader.into_iter().chain(alarms).collect()
    }
}

#[tonic::async_trait]
impl MaintenanceService for Maintenance {
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let caller = self.member.require_user(&metadata_of(&request)).await;
        caller.map_err(GrpcStatus::from)?;
        let (sizes, raft) = (
            self.member.reader.store().sizes(),
            self.member.consensus.status(),
        );
        Ok(Response::new(StatusResponse {
            header: Some(self.member.headers.at(self.revision())),
            version: self.member.config.reported_version.clone(),
            db_size: bytes(sizes.total_bytes),
            leader: raft.leader,
            raft_index: raft.committed_index,
            raft_term: raft.term,
            raft_applied_index: raft.applied_index,
            errors: self.errors(raft.leader),
            db_size_in_use: bytes(sizes.logical_bytes),
            is_learner: raft.is_learner,
            storage_version: STORAGE_VERSION.into(),
            db_size_quota: self.member.reader.quota().map_or(-1, bytes),
            downgrade_info: Some(DowngradeInfo::default()),
        }))
    }

    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        let metadata = metadata_of(&request);
        let request = request.get_ref();
        let response = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => {
                let caller = self.member.require_user(&metadata).await;
                caller.map_err(GrpcStatus::from)?;
                self.alarms(request.alarm).await?
            }
            // What this version does not know may change something for one that does.
            Ok(AlarmAction::Activate | AlarmAction::Deactivate) | Err(_) => {
                let caller = self.member.require_root_for_all(&metadata).await;
                let caller = caller.map_err(GrpcStatus::from)?;
                self.change_alarm(&caller, request).await?
            }
        };
        Ok(Response::new(response))
    }

    /// As in etcd the answer has no header.
    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        self.require_root(&request).await?;
        let done = self.member.consensus.defragment().await;
        done.map_err(failed)?;
        Ok(Response::new(DefragmentResponse::default()))
    }

    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        self.require_root(&request).await?;
        let hash = self.read_store(Store::hash).await?;
        Ok(Response::new(HashResponse {
            header: Some(self.member.headers.at(self.revision())),
            hash,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        self.require_root(&request).await?;
        let revision = request.get_ref().revision;
        let hashed = self
            .read_store(move |store| store.hash_kv(revision))
            .await?;
        Ok(Response::new(HashKvResponse {
            header: Some(self.member.headers.at(self.revision())),
            hash: hashed.hash,
            compact_revision: hashed.compact_revision,
            hash_revision: hashed.hash_revision,
        }))
    }

    type SnapshotStream = BoxStream<SnapshotResponse>;

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.require_root(&request).await?;
        let consensus = &self.member.consensus;
        consensus.flush().await.map_err(failed)?;
        let (store, term) = (self.member.reader.store().clone(), consensus.status().term);
        let data_dir = self.member.config.data_dir.clone();
        let building =
            spawn_aside(move || snapshot::build(&store, term, STORAGE_VERSION, &data_dir));
        let built = building
            .await
            .map_err(|_| GrpcStatus::from(Refusal::Stopped))?;
        let snapshot = built.map_err(failed)?;
        let (sender, messages) = mpsc::channel(SNAPSHOT_MESSAGES);
        spawn_aside(move || {
            if let Err(error) = snapshot.send(STORAGE_VERSION, &sender) {
                tracing::error!(%error, "a snapshot could not be read back");
            }
        });
        Ok(Response::new(Box::pin(
            ReceiverStream::new(messages).map(Ok),
        )))
    }

    /// As in etcd the answer has no header.
    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        let metadata = metadata_of(&request);
        let caller = self.member.require_root_for_all(&metadata).await;
        caller.map_err(GrpcStatus::from)?;
        let consensus = &self.member.consensus;
        let moved = consensus.move_leader(request.get_ref().target_id).await;
        moved.map_err(GrpcStatus::from)?;
        Ok(Response::new(MoveLeaderResponse::default()))
    }

    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        self.require_root(&request).await?;
        Err(GrpcStatus::not_served("Downgrade").into())
    }
}

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What the file system refused, as clients see it.
fn failed(error: io::Error) -> GrpcStatus {
    Refusal::Storage(error.to_string().into()).into()
}
