//! The multi-version store: a key index in RAM, a ring of recent rows, and the history in LMDB.
//!
//! [`Store`] is for readers, [`Writer`] for the applier, [`Flusher`] for the thread that makes rows durable; there is
//! one of each of the latter two. No proto, no async, no clock and no Raft is known here.

mod checkpoint;
mod compact;
mod compaction_hash;
mod counters;
mod current;
mod defrag;
mod durable;
mod env;
mod export;
mod flush;
mod frame;
mod hash;
mod hold;
mod import;
mod index;
mod key_value;
mod open;
mod options;
mod read;
mod rest;
mod revision;
mod ring;
mod row;
mod shared;
mod store;
mod table;
mod writer;

pub use checkpoint::Checkpointed;
pub use compact::CompactStep;
pub use counters::Counters;
pub use defrag::{Copied, Defragment, Defragmented};
pub use env::StorageError;
pub use export::{Cut, Export, TableEntry};
pub use flush::{FlushError, Flushed, Flusher};
pub use import::{Import, Imported};
pub use key_value::{KeyValueRef, Malformed, strip_value};
pub use open::{OpenError, Opened};
pub use options::Options;
pub use read::{HashKv, Page, Query, Read, ReadError, Sizes};
pub use revision::{Meta, Revision, Version};
pub use row::{DamagedRow, Row};
pub use store::{Store, View};
pub use table::Table;
pub use writer::{Sealed, Txn, Writer};
