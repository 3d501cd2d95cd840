//! Watch: every change of some keys, in order, each once, for as long as somebody wants to know.
//!
//! ```text
//!   Watcher ──take── Feed ◄──accept── Line ──► one stream for all watches of the client
//!      │              bounded           joins fragments, resumes, doubts silence
//!      └── Resync: pages of the state, read by the watcher itself when the history is gone
//! ```
//!
//! `line/` is the only one that knows the stream, `feed.rs` is one watch between its two sides, `joiner.rs` makes whole revisions,
//! `resync.rs` closes gaps, `watcher.rs` is what users hold.

mod feed;
mod joiner;
pub(crate) mod line;
pub mod notice;
mod refusal;
mod resync;
mod tracked;
pub mod watcher;

use keystead_proto::etcdserverpb::WatchCreateRequest;
use keystead_proto::etcdserverpb::watch_create_request::FilterType;
use tonic::Code;

use crate::error::{Error, Kind, Result};
use crate::key_range::KeyRange;
use crate::namespace::Namespace;

/// What a watcher keeps at most where the user named nothing: a burst of tens of thousands of small events.
const BUFFER_BYTES: usize = 4 << 20;
/// What the first key and the end may take together. A server answers a message that is too large for it, from 2 MiB on by default, by ending
/// the stream, and with it all watches that share it.
const MOST_KEY_BYTES: usize = 1 << 20;

/// What to watch, and how.
///
/// ```
/// # use keystead_client::{KeyRange, OnGap, Watch};
/// let state_and_changes = Watch {
///     state_first: true,
///     on_gap: OnGap::Diff { most_keys: 100_000 },
///     ..Watch::new(KeyRange::prefix("config/"))
/// };
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// The keys.
    pub keys: KeyRange,
    /// The first revision to tell of; 0 for whatever comes after the watch was made.
    pub start_revision: i64,
    /// Begin with the keys as they are when the first notice is asked for, as a `Reset`. `start_revision` must be 0.
    pub state_first: bool,
    /// Tell the key as it was before, too.
    pub prev_kv: bool,
    /// Leave out writes.
    pub no_put: bool,
    /// Leave out deletions.
    pub no_delete: bool,
    /// Tell of revisions up to which nothing else has happened.
    pub progress: bool,
    /// About how much may wait to be taken, in bytes; 0 for 4 MiB. While it is full the watch is off its stream, and it comes
    /// back to where it was when everything has been taken. While a large revision comes in fragments, half as much again.
    pub buffer_bytes: usize,
    /// What to do when history is missing.
    pub on_gap: OnGap,
}

/// What a watch does when what comes next was compacted, or never happened because the cluster was restored from a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnGap {
    /// It tells the state of all keys and goes on from there: see `Notice::Reset`.
    #[default]
    Reset,
    /// It remembers the keys that it told of, which takes `state_first`, and tells what differs: see `Notice::Diff`.
    Diff {
        /// With more keys than this it forgets them and does as `Reset`.
        most_keys: u32,
    },
    /// It ends with an error of kind `Compacted`, or `FutureRevision` after a restore.
    Fail,
}

impl Watch {
    /// Every change of `keys` from now on.
    pub fn new(keys: KeyRange) -> Watch {
        Watch {
            keys,
            ..Watch::default()
        }
    }

    /// # Errors
    /// The wishes contradict each other; `TooLarge`: the keys' names are.
    fn check(&self) -> Result<()> {
        if self.start_revision < 0 {
            return Err(Error::invalid("a watch begins at a revision above 0"));
        }
        if self.keys.key.len() + self.keys.end.len() > MOST_KEY_BYTES {
            let message =
                format!("the names of what is watched take more than {MOST_KEY_BYTES} bytes");
            return Err(Error::local(
                Kind::TooLarge,
                Code::ResourceExhausted,
                message,
            ));
        }
        if self.state_first && self.start_revision != 0 {
            return Err(Error::invalid(
                "a watch that begins with the state can't begin at a revision",
            ));
        }
        let blind = !self.state_first || self.no_put || self.no_delete;
        if blind && matches!(self.on_gap, OnGap::Diff { .. }) {
            return Err(Error::invalid(
                "a watch that tells differences begins with the state and leaves nothing out",
            ));
        }
        Ok(())
    }

    fn request(&self, namespace: &Namespace) -> WatchCreateRequest {
        let keys = namespace.range(self.keys.clone());
        let filters = [
            (self.no_put, FilterType::Noput),
            (self.no_delete, FilterType::Nodelete),
        ];
        let filters = filters
            .into_iter()
            .filter_map(|(wanted, filter)| wanted.then_some(filter.into()));
        WatchCreateRequest {
            key: keys.key,
            range_end: keys.end,
            start_revision: self.start_revision,
            // Always, so that a watch of keys that never change is not left behind by compaction.
            progress_notify: true,
            filters: filters.collect(),
            prev_kv: self.prev_kv,
            fragment: true,
            ..Default::default()
        }
    }

    fn buffer_bytes(&self) -> usize {
        match self.buffer_bytes {
            0 => BUFFER_BYTES,
            bytes => bytes,
        }
    }
}
