//! The mark that a store which another member sent is about to be put in the place of this one's.
//!
//! Between the swap of the stores and the log's own mark that it begins behind the new one, the two do not belong together.
//! A start that finds this mark knows how that came, and has the log begin there; without it the same is damage.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::standing::Position;

const NAME: &str = "INSTALLING";

/// The mark of one data directory.
pub(crate) struct Installing {
    dir: PathBuf,
    /// Of the store that was announced; zero where there is none.
    position: AtomicU64,
}

impl Installing {
    pub(crate) fn of(data_dir: &Path) -> Self {
        Self {
            dir: data_dir.to_owned(),
            position: AtomicU64::new(0),
        }
    }

    /// Announces a store that holds the log up to `position`. Durable when it returns; blocks on the disk.
    pub(crate) fn announce(&self, position: Position) -> io::Result<()> {
        let mut file = File::create(self.path())?;
        writeln!(file, "{position}")?;
        file.sync_all()?;
        File::open(&self.dir)?.sync_all()?;
        self.position.store(position, Ordering::Release);
        Ok(())
    }

    /// What was announced before the last stop. A mark that was not written whole announces nothing.
    pub(crate) fn announced(&self) -> Option<Position> {
        let text = fs::read_to_string(self.path()).ok()?;
        text.strip_suffix('\n')?.parse().ok()
    }

    /// Whether the log that begins behind `position` makes the mark needless. True once for each.
    pub(crate) fn is_passed(&self, position: Position) -> bool {
        let announced = self.position.load(Ordering::Acquire);
        announced != 0
            && position >= announced
            && self
                .position
                .compare_exchange(announced, 0, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    /// Takes the mark away. One that stays is of no meaning as soon as the store has more.
    pub(crate) fn forget(&self) {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the mark of an installed store could not be removed");
            }
            _ => {}
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_there_after_a_restart_until_the_log_has_passed_it() {
        let tmp = tempfile::tempdir().unwrap();
        let installing = Installing::of(tmp.path());
        assert_eq!(installing.announced(), None);
        assert!(!installing.is_passed(7));
        installing.announce(7).unwrap();
        assert_eq!(Installing::of(tmp.path()).announced(), Some(7));
        assert!(!installing.is_passed(6));
        assert!(installing.is_passed(7));
        assert!(!installing.is_passed(8), "once");
        installing.forget();
        assert_eq!(installing.announced(), None);
        fs::write(tmp.path().join(NAME), "12").unwrap();
        assert_eq!(installing.announced(), None, "it was cut");
    }
}
