//! What may be chosen when a log is opened. Read by the log's parts, changed by nobody afterwards.

use std::hash::{BuildHasher, RandomState};

/// Knobs of a log.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of a segment file. Larger ones are switched less often; smaller ones come back sooner after a purge.
    pub segment_bytes: u64,
    /// How many segments lie ready or wait to be used again; more are unlinked. It bounds the disk space
    /// that a burst of purges leaves behind.
    pub ready_segments_max: usize,
    /// Payloads of the newest entries kept in memory. Followers that keep up and the applier read here: twice what one
    /// message to a follower carries. Who is further behind is served from the segments.
    pub recent_bytes_max: usize,
    /// Bytes that may wait for the disk before [`WalError::QueueFull`]. The proposer and the streams from
    /// leaders are bounded far below; this is the last bound on memory should the disk stall.
    pub queue_bytes_max: usize,
    /// What goes into one batch, unless a single operation is larger. It bounds how long one sync takes,
    /// and so how long an operation waits for the batch before its own.
    pub batch_bytes_max: usize,
    /// Name of a log that is made anew, in every batch of it; an existing log keeps its own. It must not be
    /// guessable by who chooses payloads: bytes in a payload must not pass for a batch.
    pub log_id: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            ready_segments_max: 4,
            recent_bytes_max: 8 << 20,
            queue_bytes_max: 256 << 20,
            batch_bytes_max: 4 << 20,
            log_id: RandomState::new().hash_one(0),
        }
    }
}
