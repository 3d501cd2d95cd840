//! etcd's v3 wire messages and services, and the internal messages of the log and between members.
//!
//! Everything here is generated from the `.proto` files beside this crate by `keystead-codegen` and checked in; nothing
//! is edited by hand. Each module is one protobuf package. Every bytes field is a [`bytes::Bytes`]: a message that is
//! decoded from `Bytes` shares its memory and copies no key and no value. Clients and servers are generic over their
//! transport.

/// One module for each package: generated code is held to no lint.
macro_rules! package {
    ($(#[doc = $doc:literal] $module:ident = $file:literal,)*) => {$(
        #[doc = $doc]
        #[allow(missing_docs, unused_qualifications, clippy::all, clippy::unwrap_used)]
        pub mod $module {
            include!(concat!("generated/", $file, ".rs"));
        }
    )*};
}

package! {
    /// Users, roles and permissions.
    authpb = "authpb",
    /// The services KV, Watch, Lease, Cluster, Maintenance and Auth.
    etcdserverpb = "etcdserverpb",
    /// Keys and events.
    mvccpb = "mvccpb",
    /// The Lock service.
    v3lockpb = "v3lockpb",
    /// The Election service.
    v3electionpb = "v3electionpb",
    /// gRPC's health service.
    health = "grpc.health.v1",
    /// The entries of the replicated log.
    internal = "keystead.internal",
    /// What members say to each other.
    peer = "keystead.peer",
}
