//! Closes a gap: reads the state in pages at one revision, when the watcher asks for them and not before, and hands it out as it is or
//! as what differs from what was handed out.

use std::ops::Bound;

use bytes::Bytes;

use super::notice::{Notice, ResetCause};
use super::tracked::Tracked;
use crate::client::Client;
use crate::error::Result;
use crate::key_range::KeyRange;
use crate::kv::scan::{Scan, Scanner};
use crate::locks::Mutex;

/// The reading of one state.
pub(super) struct Resync {
    pub cause: ResetCause,
    scan: Scanner,
    page: u32,
    /// Where the difference has got to; none when the state is handed out as it is.
    position: Option<Bound<Bytes>>,
}

/// A part of the state.
pub(super) struct Part {
    pub notice: Notice,
    /// It was the last one: the watch goes on after this revision.
    pub closed_at: Option<i64>,
}

impl Resync {
    /// Nothing is read yet. `known` says that what was handed out is known in full.
    pub(super) fn new(client: &Client, keys: KeyRange, cause: ResetCause, known: bool) -> Resync {
        Resync {
            cause,
            scan: client.scan(Scan::new(keys)),
            page: 0,
            position: known.then_some(Bound::Unbounded),
        }
    }

    /// The next part. Loses nothing when it is dropped.
    ///
    /// # Errors
    /// `Compacted`: the revision is gone, another state has to be read. Any other: the same part can be asked for again.
    pub(super) async fn next(&mut self, tracked: Option<&Mutex<Tracked>>) -> Result<Part> {
        let kvs = self.scan.next_batch().await?.unwrap_or_default();
        let (cause, revision) = (self.cause, self.scan.revision());
        let last = self.scan.is_done();
        let mut tracked = tracked.map(Mutex::lock);
        let notice = match (&mut self.position, &mut tracked) {
            (Some(position), Some(tracked)) => {
                let trusted = cause != ResetCause::Restored;
                let events = tracked.diff(position, kvs, revision, last, trusted);
                Notice::Diff {
                    cause,
                    revision,
                    events,
                    last,
                }
            }
            (_, tracked) => {
                let notice = Notice::Reset {
                    cause,
                    revision,
                    page: self.page,
                    kvs,
                    last,
                };
                if let Some(tracked) = tracked {
                    tracked.note(&notice);
                }
                notice
            }
        };
        self.page += 1;
        Ok(Part {
            notice,
            closed_at: last.then_some(revision),
        })
    }
}
