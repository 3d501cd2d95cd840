//! The client port: sockets, HTTP/2 and gRPC, one current-thread runtime a core.
//!
//! One acceptor hands sockets to the shards in turn; a shard is a thread that serves its connections alone, without
//! locks or work stealing. What a call means is the business of a [`Handler`]; nothing here knows a service.

mod acceptor;
mod backlog;
mod call;
mod connection;
mod corked;
mod deframer;
pub mod grpc;
mod listener;
mod shard;
mod tonic_call;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use call::{Call, Reply};

use crate::config::Keepalive;

pub use listener::{Bound, SocketFiles, bind};
pub use shard::{Shards, StartShards};

/// Takes the calls of one shard.
pub trait Handler: 'static {
    /// Takes one call. Runs on the shard's thread, within its runtime: it must not block, and may answer at once,
    /// spawn a local task, or keep the call's [`Reply`] for later.
    fn handle(&self, call: Call);
}

/// What connections may do.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// The largest message taken from a client.
    pub max_message_bytes: usize,
    /// The most concurrent streams.
    pub max_concurrent_streams: u32,
    /// How connections are probed.
    pub keepalive: Keepalive,
    /// How long open calls may go on once the member stops.
    pub drain: Duration,
}
