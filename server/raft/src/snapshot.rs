//! What openraft calls a snapshot: the store as of its last flush, named by that flush's note.
//!
//! Nothing is built for it on the member that has it: the store is the snapshot, and a purge of the log rests on it. A
//! member that receives one has a store built aside (`peers`) before openraft hears of it, and only puts it in the place
//! of its own.

use std::io;

use keystead_mvcc::{Import, Imported, Store};

use crate::stored::Note;
use crate::type_config::{SnapshotMeta, SnapshotOf};

/// What is in memory at a time of a store that is copied.
const STEP_BYTES: usize = 1 << 20;

/// What a snapshot holds, on either side.
pub(crate) enum SnapshotData {
    /// The store whose last flush is the content.
    Here(Store),
    /// A store that was built from another member's, and the note of it.
    Received(Box<Imported>, Note),
}

pub(crate) type Snapshot = SnapshotOf<SnapshotData>;

/// The snapshot of `store` whose last flush `note` tells of.
pub(crate) fn of(store: &Store, note: &Note) -> Snapshot {
    named(note, SnapshotData::Here(store.clone()))
}

/// What another member sent, of which `note` tells.
pub(crate) fn received(note: &Note, imported: Imported) -> Snapshot {
    named(
        note,
        SnapshotData::Received(Box::new(imported), note.clone()),
    )
}

fn named(note: &Note, snapshot: SnapshotData) -> Snapshot {
    let meta = SnapshotMeta {
        last_log_id: note.last,
        last_membership: note.membership().clone(),
    };
    Snapshot { meta, snapshot }
}

/// Copies the store of another machine in this process, which only tests have. Blocks on both disks.
pub(crate) fn build_aside(store: &Store, mut import: Import) -> io::Result<(Note, Imported)> {
    let mut export = store.export().map_err(io::Error::other)?;
    loop {
        let rows = export.rows(STEP_BYTES).map_err(io::Error::other)?;
        if rows.is_empty() {
            break;
        }
        import.rows(rows).map_err(io::Error::other)?;
    }
    let cut = export.cut();
    let nothing = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "a snapshot of a store that never saw an entry",
        )
    };
    let note = Note::decode(cut.applied.clone().ok_or_else(nothing)?).map_err(io::Error::other)?;
    let imported = import
        .finish(cut, export.tables())
        .map_err(io::Error::other)?;
    Ok((note, imported))
}
