//! The index checkpoint: a sorted copy of the index in a file of its own, so that a start need not scan the history.
//!
//! It is discardable: with any doubt about it the history is scanned. It is of a cut at the durable revision, written
//! aside, synced, and renamed into place once every version that the index held meanwhile is durable too: facts of
//! keys that changed while it was written are made right by the rows above the cut, and those must be there. It may be
//! read as long as physical compaction has removed no row above its cut, so compaction of a large store begins with a
//! checkpoint.

use std::fs::{self, File};
use std::io::{BufReader, ErrorKind};
use std::path::Path;

use crate::StorageError;
use crate::counters::Tally;
use crate::durable::Durable;
use crate::env::sync_dir;
use crate::flush::{FlushError, Flusher};
use crate::index::{Checkpoint, Index, read_checkpoint};
use crate::rest::{PIECE_BYTES, Rests};

pub(crate) const FILE: &str = "index";
pub(crate) const FILE_ASIDE: &str = "index.new";

const BUFFER_BYTES: usize = 1 << 20;

/// A checkpoint is worth writing for an eighth of all rows: a start reads rows about as fast as eight times as many keys
/// of a checkpoint, and a row is written to a checkpoint for a twentieth of what its put took.
const ROWS_SHARE: u64 = 8;

/// The checkpoints that the flusher knows of.
#[derive(Default)]
pub(crate) struct Checkpoints {
    /// The cut of the one in place; 0 for none.
    placed: i64,
    aside: Option<Aside>,
    /// Rows of the history that are not in the last one written, as far as it is known.
    rows_since: u64,
    /// There was no space for one that compaction at this revision asked for: it goes on without.
    no_space_at: Option<i64>,
}

impl Checkpoints {
    /// With the checkpoint of `cut` in place (0 for none), and so many rows in the history behind it.
    pub(crate) fn with(cut: i64, rows_since: u64) -> Self {
        Self {
            placed: cut,
            rows_since,
            ..Self::default()
        }
    }

    /// A flush wrote rows.
    pub(crate) fn add_rows(&mut self, rows: u64) {
        self.rows_since += rows;
    }
}

/// A checkpoint that is written, and waits for the durable revision.
struct Aside {
    cut: i64,
    needs: i64,
}

/// What became of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpointed {
    /// The revision it is of.
    pub revision: i64,
    /// It is in place. If not, a flush places it once what was written meanwhile is durable.
    pub placed: bool,
}

impl Flusher {
    /// Writes a checkpoint of the index at the durable revision. Readers and the writer go on meanwhile.
    ///
    /// # Errors
    /// [`FlushError::Full`] and [`FlushError::Storage`]. The checkpoint before, if any, is still in place: unlike after
    /// a failed flush, the member may go on.
    pub fn checkpoint(&mut self) -> Result<Checkpointed, FlushError> {
        let cut = self.durable.revision;
        if self.checkpoints.placed == cut {
            return Ok(Checkpointed {
                revision: cut,
                placed: true,
            });
        }
        self.checkpoints.aside = None;
        self.checkpoints.rows_since = 0;
        let needs = self.write_aside(cut)?;
        self.checkpoints.aside = Some(Aside { cut, needs });
        let placed = self.place_checkpoint()?;
        Tally::add(&self.shared.tally.checkpoints, 1);
        Ok(Checkpointed {
            revision: cut,
            placed,
        })
    }

    /// Whether a start would read so many rows of the history that a checkpoint is worth writing now.
    ///
    /// # Errors
    /// [`FlushError::Storage`].
    pub fn checkpoint_is_due(&self) -> Result<bool, FlushError> {
        let rows = self.checkpoints.rows_since;
        Ok(rows >= self.shared.options.checkpoint_min_rows
            && rows >= self.env().snapshot()?.rows()? / ROWS_SHARE)
    }

    /// Writes the index as of `cut`. Gives the newest revision that the index held then.
    fn write_aside(&self, cut: i64) -> Result<i64, StorageError> {
        let file = File::create(self.shared.dir.join(FILE_ASIDE))?;
        let mut rests = Rests::begin();
        let mut checkpoint = Checkpoint::new(cut);
        let mut frames = Vec::new();
        loop {
            let state = self.shared.state.read();
            let more = checkpoint.step(&state.index, &mut frames);
            let newest = state.index.newest();
            drop(state);
            if frames.len() >= PIECE_BYTES || !more {
                rests.write(&file, &frames)?;
                frames.clear();
            }
            if !more {
                file.sync_all()?;
                return Ok(newest);
            }
        }
    }

    /// Moves the checkpoint into place if what it needs is durable by now. Says whether one was moved.
    pub(crate) fn place_checkpoint(&mut self) -> Result<bool, StorageError> {
        let durable = self.durable.revision;
        let Some(aside) = self
            .checkpoints
            .aside
            .take_if(|aside| aside.needs <= durable)
        else {
            return Ok(false);
        };
        let dir = &self.shared.dir;
        fs::rename(dir.join(FILE_ASIDE), dir.join(FILE))?;
        sync_dir(dir)?;
        self.checkpoints.placed = aside.cut;
        Ok(true)
    }

    /// Removes the checkpoints of a store that is about to be replaced.
    pub(crate) fn discard_checkpoints(&mut self) -> Result<(), StorageError> {
        self.checkpoints = Checkpoints::default();
        for file in [FILE, FILE_ASIDE] {
            match fs::remove_file(self.shared.dir.join(file)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        sync_dir(&self.shared.dir)
    }

    /// Whether rows up to `revision` may go. A large store waits for a checkpoint above them, so that a later start is
    /// not slow; a full disk does not, for compaction is what frees it.
    pub(crate) fn checkpoint_covers(&mut self, revision: i64) -> Result<bool, FlushError> {
        let known = &self.checkpoints;
        if known.placed >= revision || known.no_space_at == Some(revision) {
            return Ok(true);
        }
        if self.env().snapshot()?.rows()? < self.shared.options.checkpoint_min_rows {
            return Ok(true);
        }
        let waits = |aside: &Aside| aside.cut >= revision;
        if !self.checkpoints.aside.as_ref().is_some_and(waits) {
            match self.checkpoint() {
                Ok(_) => {}
                Err(FlushError::Full) => {
                    self.discard_checkpoints()?;
                    self.checkpoints.no_space_at = Some(revision);
                }
                Err(error) => return Err(error),
            }
        }
        let known = &self.checkpoints;
        Ok(known.placed >= revision || known.no_space_at == Some(revision))
    }
}

/// Reads the checkpoint in `dir`, and the revision of its cut. None when it is absent, damaged or of no use.
pub(crate) fn read(dir: &Path, durable: &Durable) -> Option<(Index, i64)> {
    let file = File::open(dir.join(FILE)).ok()?;
    let (index, cut) = read_checkpoint(
        &mut BufReader::with_capacity(BUFFER_BYTES, file),
        durable.compacted,
    )
    .ok()?;
    let usable = cut <= durable.revision && cut >= durable.walk.main;
    usable.then_some((index, cut))
}
