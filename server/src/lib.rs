//! The member.

mod aside;
pub mod auth;
mod compactor;
pub mod config;
mod corruption;
mod discovery;
pub mod error;
mod founding;
mod header;
mod identity;
mod leader_request;
pub mod lease;
mod member;
mod member_changes;
pub mod net;
mod node;
mod open_files;
mod peer_urls;
mod proposals;
mod service;
mod snapshot;
#[cfg(test)]
mod testing;
pub mod watch;

pub use config::{Config, REPORTED_VERSION};
pub use discovery::DiscoveryError;
pub use founding::FoundingError;
/// Makes any panic in the process end it; see [`keystead_raft::abort_on_panic`].
pub use keystead_raft::abort_on_panic;
pub use node::{Node, Removal, StartError};
