//! follow. What leases exist is replicated state; here is only how much longer each may live.
//!
//! ```text
//! applier --LeaseChange--> Lessor <--renew-- LeaseKeepAlive
//!                            |
//!                   scan every 500 ms: expired --> revoke through the log --> LeaseChange
//!                                      what is left of long ones --> checkpoint through the log --> LeaseChange
//! ```

mod checkpointer;
mod checkpoints;
mod clock;
mod deadlines;
mod lessor;
mod reaper;
mod renewals;
mod revocations;

pub use crate::leader_request::answer_about_leases as answer;
pub use checkpointer::{Checkpoint, checkpoint};
pub use checkpoints::Checkpoints;
pub use clock::{BootClock, Clock};
pub use lessor::{Lessor, Remaining, Renewal};
pub use reaper::{Revoke, reap};
pub use renewals::Renewals;
pub use revocations::Revocations;
