//! Consensus: openraft behind a facade without generics, the write-ahead log, and the applier.
//!
//! ```text
//!  any thread        core thread (one runtime)                  other threads
//!  propose ─► Queue ─► Proposer ─► RaftCore ─► LogStorage ─────► wal: write, sync
//!                                     ▲                            │ durable
//!                                     └────────────────────────────┘
//!  ReplySink ◄─ Replies ◄─ Machine ◄──┘ committed ──► State ──────► flusher: store, purge
//! ```
//!
//! [`Consensus`] is all that the server needs. This is the only crate that names openraft.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backing;
mod ballast;
mod blocking;
mod bootstrap;
mod config;
mod consensus;
mod core;
mod data_dir;
mod flusher;
mod force_new_cluster;
mod forwards;
mod handover;
mod hashing;
mod initial_check;
mod installing;
mod leadership;
mod log_storage;
mod machine;
mod membership;
mod node;
mod peers;
mod priority;
mod proposer;
mod purge;
mod queue;
mod reads;
mod replies;
mod runtime;
#[cfg(feature = "simulation")]
pub mod simulation;
mod sink;
mod snapshot;
mod space;
mod standing;
mod status;
mod stored;
#[cfg(test)]
mod tests;
mod type_config;
pub mod wal;

pub use bootstrap::StartError;
pub use config::Config;
pub use consensus::Consensus;
pub use core::abort_on_panic;
pub use data_dir::{DataDir, DataDirError, Identity};
pub use membership::MemberChange;
pub use peers::{HashAnswer, NoHash, PeerHash, PeerListener, Roster, ask_for_members};
pub use priority::give_way;
pub use sink::{Answering, Observer, ReplySink};
pub use status::{Counters, Status};
