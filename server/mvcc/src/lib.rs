//! The multi-version store: a key index in RAM, a ring of recent rows, and the history in LMDB.
//!
//! [`Store`] is for readers, [`Writer`] for the applier, [`Flusher`] for the thread that makes rows durable; there is
//! one of each of the latter two. No proto, no async, no clock and no Raft is known here.

mod durable;
mod env;
pub mod index;
mod key_value;
mod options;
mod read;
mod revision;
mod ring;
mod row;
mod table;

pub use env::StorageError;
pub use key_value::{KeyValueRef, Malformed, strip_value};
pub use options::Options;
pub use read::{HashKv, Page, Query, Read, ReadError, Sizes};
pub use revision::{Meta, Revision, Version};
pub use row::{DamagedRow, Row};
pub use table::Table;
