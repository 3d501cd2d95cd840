//! The services of one shard, and the way from a path to a method. One file a service.
//! Handlers only translate: what a request means is the replicated state's business.

mod auth;
mod cluster;
mod contenders;
mod election;
mod health;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod on_behalf;
mod patience;
mod range_answer;
mod range_stream;
mod streams;
mod watch;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use keystead_mvcc::Store;
use keystead_proto::etcdserverpb::auth_server::AuthServer;
use keystead_proto::etcdserverpb::cluster_server::ClusterServer;
use keystead_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use keystead_proto::health::health_server::HealthServer;
use keystead_state::Refusal;
use prost::Message;

use crate::auth::Caller;
use crate::error::{Code, GrpcStatus};
use crate::lease::Lessor;
use crate::member::Member;
use crate::net::grpc::Metadata;
use crate::net::{Call, Handler, Reply};
use crate::proposals::Proposals;
use crate::watch::{Hub, Inbox, Limits};

use auth::Auth;
use cluster::Cluster;
use election::Election;
use health::Health;
use kv::Kv;
use lease::Lease;
use lock::Lock;
use maintenance::Maintenance;
use streams::Streams;
use watch::Watch;

/// Every method of every service that clients know. Those that no arm of [`Services::route`] takes are refused by name.
const METHODS: [(&str, &[&str]); 9] = [
    (
        "etcdserverpb.KV",
        &[
            "Range",
            "Put",
            "DeleteRange",
            "Txn",
            "Compact",
            "RangeStream",
        ],
    ),
    ("etcdserverpb.Watch", &["Watch"]),
    (
        "etcdserverpb.Lease",
        &[
            "LeaseGrant",
            "LeaseRevoke",
            "LeaseKeepAlive",
            "LeaseTimeToLive",
            "LeaseLeases",
        ],
    ),
    (
        "etcdserverpb.Cluster",
        &[
            "MemberAdd",
            "MemberRemove",
            "MemberUpdate",
            "MemberList",
            "MemberPromote",
        ],
    ),
    (
        "etcdserverpb.Maintenance",
        &[
            "Alarm",
            "Status",
            "Defragment",
            "Hash",
            "HashKV",
            "Snapshot",
            "MoveLeader",
            "Downgrade",
        ],
    ),
    (
        "etcdserverpb.Auth",
        &[
            "AuthEnable",
            "AuthDisable",
            "AuthStatus",
            "Authenticate",
            "UserAdd",
            "UserGet",
            "UserList",
            "UserDelete",
            "UserChangePassword",
            "UserGrantRole",
            "UserRevokeRole",
            "RoleAdd",
            "RoleGet",
            "RoleList",
            "RoleDelete",
            "RoleGrantPermission",
            "RoleRevokePermission",
        ],
    ),
    ("v3lockpb.Lock", &["Lock", "Unlock"]),
    (
        "v3electionpb.Election",
        &["Campaign", "Proclaim", "Leader", "Observe", "Resign"],
    ),
    ("grpc.health.v1.Health", &["Check", "Watch"]),
];

/// What a learner serves, as in etcd; a range only where it is serializable.
const LEARNERS: [&str; 3] = [
    RANGE,
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Snapshot",
];
const RANGE: &str = "/etcdserverpb.KV/Range";

/// The services of one shard.
pub struct Services {
    member: Arc<Member>,
    kv: Kv,
    watch: Watch,
    lease: Lease,
    lock: Lock,
    election: Election,
    auth: AuthServer<Auth>,
    cluster: ClusterServer<Cluster>,
    maintenance: MaintenanceServer<Maintenance>,
    health: HealthServer<Health>,
}

impl Services {
    /// Starts the services on the calling shard's thread. `inbox` is the shard's own.
    pub fn start(member: &Arc<Member>, lessor: &Arc<Lessor>, inbox: Arc<Inbox>) -> Self {
        let proposals = Proposals::start(member.clone());
        let streams = Streams::start(member.clone());
        let hub = start_hub(member, inbox);
        let changes = hub.changes();
        Self {
            kv: Kv::new(member.clone(), proposals.clone()),
            watch: Watch::new(member.clone(), hub, streams.clone()),
            lease: Lease::new(member.clone(), lessor.clone(), proposals, streams.clone()),
            lock: Lock::new(member.clone(), changes.clone()),
            election: Election::new(member.clone(), changes, streams),
            auth: AuthServer::new(Auth::new(member.clone())),
            cluster: ClusterServer::new(Cluster::new(member.clone())),
            maintenance: MaintenanceServer::new(Maintenance::new(member.clone())),
            health: HealthServer::new(Health),
            member: member.clone(),
        }
    }

    fn route(&self, call: Call) {
        match call.path() {
            RANGE => self.kv.range(call),
            "/etcdserverpb.KV/Put" => self.kv.put(call),
            "/etcdserverpb.KV/Txn" => self.kv.txn(call),
            "/etcdserverpb.KV/DeleteRange" => self.kv.delete_range(call),
            "/etcdserverpb.KV/Compact" => self.kv.compact(call),
            "/etcdserverpb.Watch/Watch" => self.watch.watch(call),
            "/etcdserverpb.Lease/LeaseKeepAlive" => self.lease.keep_alive(call),
            "/etcdserverpb.Lease/LeaseGrant" => self.lease.grant(call),
            "/etcdserverpb.Lease/LeaseRevoke" => self.lease.revoke(call),
            "/etcdserverpb.Lease/LeaseTimeToLive" => self.lease.time_to_live(call),
            "/etcdserverpb.Lease/LeaseLeases" => self.lease.leases(call),
            "/v3lockpb.Lock/Lock" => self.lock.lock(call),
            "/v3lockpb.Lock/Unlock" => self.lock.unlock(call),
            "/v3electionpb.Election/Campaign" => self.election.campaign(call),
            "/v3electionpb.Election/Proclaim" => self.election.proclaim(call),
            "/v3electionpb.Election/Leader" => self.election.leader(call),
            "/v3electionpb.Election/Observe" => self.election.observe(call),
            "/v3electionpb.Election/Resign" => self.election.resign(call),
            "/etcdserverpb.KV/RangeStream" => range_stream::serve(&self.member, call),
            _ => self.route_by_service(call),
        }
    }

    /// The calls that tonic's generated services take.
    fn route_by_service(&self, call: Call) {
        match find(call.path()) {
            Ok("etcdserverpb.Auth") => call.serve_with(self.auth.clone()),
            Ok("etcdserverpb.Cluster") => call.serve_with(self.cluster.clone()),
            Ok("etcdserverpb.Maintenance") => call.serve_with(self.maintenance.clone()),
            Ok("grpc.health.v1.Health") => call.serve_with(self.health.clone()),
            Ok(service) => {
                let text = format!("etcdserver: {service} is not served by this release");
                call.refuse(&GrpcStatus::new(Code::Unimplemented, text));
            }
            Err(status) => call.refuse(&status),
        }
    }
}

impl Handler for Services {
    fn handle(&self, call: Call) {
        match self.admit(&call) {
            Ok(()) => self.route(call),
            Err(refusal) => call.refuse(&refusal.into()),
        }
    }
}

impl Services {
    /// The rules for every call, in etcd's order.
    fn admit(&self, call: &Call) -> Result<(), Refusal> {
        if self.member.consensus.is_learner() && !LEARNERS.contains(&call.path()) {
            return Err(Refusal::LearnerUnsupported);
        }
        self.member.require_leader(&call.metadata)
    }
}

/// Starts the shard's watch hub.
fn start_hub(member: &Arc<Member>, inbox: Arc<Inbox>) -> Rc<Hub<Store>> {
    let history = member.reader.store().clone();
    let limits = Limits::new(member.config.max_request_bytes);
    let hub = Hub::new(history, Box::new(member.headers.clone()), inbox, limits);
    let running = hub.clone();
    tokio::task::spawn_local(async move { running.run().await });
    hub
}

/// Passes a call of a service on with who makes it: at once, where that is known. A call with a token that is none is refused here.
fn identify<S: Clone + 'static>(
    service: &S,
    member: &Arc<Member>,
    metadata: Metadata,
    reply: Reply,
    then: impl FnOnce(&S, Caller, Reply) + 'static,
) {
    match member.caller_now(&metadata) {
        Some(Ok(caller)) => then(service, caller, reply),
        Some(Err(refusal)) => reply.refuse(&refusal.into()),
        None => {
            let (service, member) = (service.clone(), member.clone());
            tokio::task::spawn_local(async move {
                match member.caller(&metadata).await {
                    Ok(caller) => then(&service, caller, reply),
                    Err(refusal) => reply.refuse(&refusal.into()),
                }
            });
        }
    }
}

/// What a call says beside its message, for the services that tonic generated.
fn metadata_of<T>(request: &tonic::Request<T>) -> Metadata {
    let metadata = request.extensions().get::<Metadata>();
    metadata.cloned().unwrap_or_default()
}

/// The next message of a stream of them.
fn decode_in_stream<M: Message + Default>(message: &Bytes) -> Result<M, GrpcStatus> {
    M::decode(message.clone()).map_err(|error| GrpcStatus::undecodable_in_stream(&error))
}

/// The message of a request.
fn decode<M: Message + Default>(message: &Bytes) -> Result<M, GrpcStatus> {
    M::decode(message.clone()).map_err(|error| GrpcStatus::undecodable(&error))
}

/// The service of a known path, or grpc-go's refusal of an unknown one.
fn find(path: &str) -> Result<&'static str, GrpcStatus> {
    let unknown = |text: String| Err(GrpcStatus::new(Code::Unimplemented, text));
    let Some((service, method)) = path
        .strip_prefix('/')
        .and_then(|path| path.rsplit_once('/'))
    else {
        return unknown(format!("malformed method name: {path:?}"));
    };
    match METHODS.iter().find(|(name, _)| *name == service) {
        Some((name, methods)) if methods.contains(&method) => Ok(name),
        Some(_) => unknown(format!("unknown method {method} for service {service}")),
        None => unknown(format!("unknown service {service}")),
    }
}

#[cfg(test)]
mod path_tests {
    use super::*;

    #[test]
    fn unknown_paths_are_refused_in_grpc_gos_words() {
        for (path, text) in [
            (
                "/etcdserverpb.KV/Frob",
                "unknown method Frob for service etcdserverpb.KV",
            ),
            (
                "/etcdserverpb.KV/",
                "unknown method  for service etcdserverpb.KV",
            ),
            (
                "/grpc.reflection.v1.ServerReflection/X",
                "unknown service grpc.reflection.v1.ServerReflection",
            ),
            ("/a/b/c", "unknown service a/b"),
            ("/nothing", "malformed method name: \"/nothing\""),
        ] {
            let status = find(path).expect_err(path);
            assert_eq!((status.code, &*status.message), (Code::Unimplemented, text));
        }
        assert_eq!(
            find("/etcdserverpb.Maintenance/Status"),
            Ok("etcdserverpb.Maintenance")
        );
    }
}
