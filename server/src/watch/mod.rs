//! Watch: from an applied batch to the messages of every watcher that it concerns.
//!
//! ```text
//! applier --Publisher--> Inbox (one a shard) --> Hub --> outbox of each Stream --> connection
//!                                                 ^
//!                          Store --History-- catch-up of watchers that are behind
//! ```
//!
//! The hub knows revisions, not gRPC calls; the service in `service/watch.rs` moves requests in and
//! outboxes out. `hub.rs` states the invariant on which exactly-once delivery rests.

mod catch_up;
mod create;
mod event;
mod history;
mod hub;
mod inbox;
mod intervals;
mod message;
mod progress;
mod registry;
mod span;
mod stream;
mod varint;
mod wait;

#[cfg(test)]
mod tests;

pub use create::Create;
pub use history::History;
pub use hub::{Headers, Hub, Limits};
pub use inbox::{Batch, Inbox, Publisher};
pub use span::{EmptyRange, Span};
pub use stream::Stream;
pub use wait::{Change, Changes, WaitError};
