//! What the log stores: entries, named by an id. The log reads the id and never the payload.

use bytes::Bytes;

/// Names one entry: its place in the log, and the leadership under which it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The term of the leader that wrote the entry.
    pub term: u64,
    /// That leader, where a term alone does not name it; otherwise 0.
    pub leader: u64,
    /// The entry's place; entries are contiguous.
    pub index: u64,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The entry's name.
    pub id: EntryId,
    /// The bytes kept for the caller, never looked into.
    pub payload: Bytes,
}
