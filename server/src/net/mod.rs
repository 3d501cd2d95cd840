//! The client port: sockets, HTTP/2 and gRPC, one current-thread runtime a core.

mod deframer;
pub mod grpc;
