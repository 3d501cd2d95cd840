//! What openraft calls a snapshot: the store as of its last flush, named by that flush's note.
//!
//! Nothing is built for it: the store is the snapshot, and a purge of the log rests on it.

use crate::stored::Note;
use crate::type_config::{SnapshotMeta, SnapshotOf};

/// The content of a snapshot on its way to another member.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotData;

pub(crate) type Snapshot = SnapshotOf<SnapshotData>;

impl From<Note> for Snapshot {
    fn from(note: Note) -> Self {
        let meta = SnapshotMeta {
            last_log_id: note.last,
            last_membership: note.membership,
        };
        Self {
            meta,
            snapshot: SnapshotData,
        }
    }
}
