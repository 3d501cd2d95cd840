//! Which environment is the store's: the file `CURRENT` names its directory.
//!
//! The pointer is written aside, synced, renamed and its directory synced, so that a crash leaves the old name or the
//! new one. Directories that it does not name are leftovers of a crash.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::checkpoint;
use crate::env::{StorageError, sync_dir};

const POINTER: &str = "CURRENT";
const POINTER_ASIDE: &str = "CURRENT.new";
const ENV_PREFIX: &str = "env-";

/// The number of an environment of the store, and so its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EnvNumber(pub u64);

impl EnvNumber {
    /// A new store's.
    pub(crate) const FIRST: EnvNumber = EnvNumber(1);

    /// The name of its directory.
    pub(crate) fn name(self) -> String {
        format!("{ENV_PREFIX}{:08}", self.0)
    }

    fn parse(name: &str) -> Option<Self> {
        let number = Self(name.strip_prefix(ENV_PREFIX)?.parse().ok()?);
        (number.name() == name).then_some(number)
    }

    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What a store's directory says of itself.
pub(crate) enum Pointer {
    /// There is no pointer, and nothing that it could name; at most what a first start that was cut short has left.
    Absent,
    /// There are environments, or files of somebody else, and no pointer.
    Lost,
    /// The pointer does not name an environment that exists.
    Broken,
    /// The store's environment.
    At(EnvNumber),
}

/// Reads the pointer of the store in `dir`.
pub(crate) fn read(dir: &Path) -> Result<Pointer, StorageError> {
    let text = match fs::read_to_string(dir.join(POINTER)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return absent_or_lost(dir),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Pointer::Broken),
        Err(error) => return Err(error.into()),
    };
    let number = text.strip_suffix('\n').and_then(EnvNumber::parse);
    Ok(
        match number.filter(|number| dir.join(number.name()).is_dir()) {
            Some(number) => Pointer::At(number),
            None => Pointer::Broken,
        },
    )
}

fn absent_or_lost(dir: &Path) -> Result<Pointer, StorageError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name());
    }
    let first = EnvNumber::FIRST.name();
    let began = names.iter().any(|name| name == POINTER_ASIDE);
    let only_begun = names
        .iter()
        .all(|name| name == POINTER_ASIDE || name == first.as_str());
    Ok(if names.is_empty() || (began && only_begun) {
        Pointer::Absent
    } else {
        Pointer::Lost
    })
}

/// Points the store in `dir` to `number`, durably.
pub(crate) fn write(dir: &Path, number: EnvNumber) -> Result<(), StorageError> {
    write_aside(dir, number)?;
    place(dir)
}

/// Writes the pointer under another name, and makes that and all names in `dir` durable.
pub(crate) fn write_aside(dir: &Path, number: EnvNumber) -> Result<(), StorageError> {
    let mut file = File::create(dir.join(POINTER_ASIDE))?;
    writeln!(file, "{}", number.name())?;
    file.sync_all()?;
    sync_dir(dir)
}

/// Gives the pointer that was written aside its name, durably.
pub(crate) fn place(dir: &Path) -> Result<(), StorageError> {
    fs::rename(dir.join(POINTER_ASIDE), dir.join(POINTER))?;
    sync_dir(dir)
}

/// Removes what a crash left in `dir`: environments that are not `current`, files written aside.
pub(crate) fn remove_leftovers(dir: &Path, current: EnvNumber) -> Result<(), StorageError> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        if EnvNumber::parse(name).is_some_and(|number| number != current) {
            fs::remove_dir_all(dir.join(name))?;
        } else if name == POINTER_ASIDE || name == checkpoint::FILE_ASIDE {
            fs::remove_file(dir.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(dir: &Path) -> &'static str {
        match read(dir).expect("readable") {
            Pointer::Absent => "absent",
            Pointer::Lost => "lost",
            Pointer::Broken => "broken",
            Pointer::At(_) => "at",
        }
    }

    #[test]
    fn the_pointer_is_told_from_its_ruins() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        assert_eq!(state(dir), "absent");
        write(dir, EnvNumber(1)).expect("written");
        assert_eq!(state(dir), "broken", "it names nothing yet");
        fs::create_dir(dir.join(EnvNumber(1).name())).expect("made");
        assert_eq!(state(dir), "at");
        fs::write(dir.join(POINTER), "env-00000001").expect("cut short");
        assert_eq!(state(dir), "broken");
        fs::remove_file(dir.join(POINTER)).expect("removed");
        assert_eq!(state(dir), "lost");
    }

    #[test]
    fn leftovers_go_and_other_files_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        for name in ["env-00000001", "env-00000002", "env-x"] {
            fs::create_dir(dir.join(name)).expect("made");
        }
        fs::write(dir.join(POINTER_ASIDE), "").expect("made");
        remove_leftovers(dir, EnvNumber(2)).expect("removed");
        let mut left: Vec<_> = fs::read_dir(dir)
            .expect("readable")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["env-00000002", "env-x"]);
    }
}
