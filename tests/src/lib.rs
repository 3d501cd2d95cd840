//! What the tests of the whole member share: servers that live as long as a test, and sessions that write down every
//! answer so that two servers' answers can be compared. Nothing here judges; the tests do.

mod cluster;
mod dialer;
mod keep_alive;
mod network;
mod random;
mod server;
mod session;
mod sights;
mod unary;
mod waiting;
mod watch;

pub use cluster::Cluster;
pub use keep_alive::{keep_alive, keep_alive_as};
pub use network::{Link, Network};
pub use random::Random;
pub use server::{Kind, Server, oracle, resolving_by};
pub use session::{Session, on_both, on_both_with};
pub use sights::{Sights, oldest_segment};
pub use unary::Unary;
pub use waiting::eventually;
pub use watch::WatchStream;

/// Limits so small that all that a member does now and then it does in every run of a fraction of a second, and that what
/// it sets aside on the disk is small too.
pub const TINY_LIMITS: [&str; 12] = [
    "--wal-segment-bytes",
    "65536",
    "--ring-bytes",
    "16384",
    "--flush-interval",
    "10ms",
    "--flush-bytes",
    "16384",
    "--unflushed-limit-bytes",
    "4194304",
    "--checkpoint-interval",
    "50ms",
];
