//! The member's data directory: who may open it, and whose data it holds.
//!
//! ```text
//! <dir>/            0700
//!   LOCK            locked by the running member (flock)
//!   FORMAT          which layout, which cluster and which member; written once
//!   BALLAST         room set aside; see `ballast`
//!   INSTALLING      the mark of a store that comes from another member; see `installing`
//!   wal/            the write-ahead log
//!   store/          the multi-version store
//! ```
//!
//! Called by `bootstrap` before anything else is opened. It must never change a directory that it refuses.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const LOCK: &str = "LOCK";
const FORMAT: &str = "FORMAT";
const WAL: &str = "wal";
const STORE: &str = "store";

/// First line of `FORMAT`: tells our directories from anybody else's file of that name.
const MAGIC: &str = "keystead data directory";
/// The layout that this build reads and writes.
const VERSION: u32 = 1;

/// Whose data a directory holds. It is fixed when the directory is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that the log in the directory belongs to.
    pub cluster_id: u64,
    /// The member that wrote it; an id is never used for a second directory.
    pub member_id: u64,
}

/// Why a data directory can not be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process holds the lock.
    #[error(
        "data directory {0} is in use by another process: stop that process, or choose another directory with --data-dir"
    )]
    InUse(PathBuf),
    /// The directory holds files, and not ours.
    #[error(
        "data directory {dir} holds {found}, which keystead did not write: choose an empty directory with --data-dir"
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// One thing in it that is not ours.
        found: String,
    },
    /// The directory was written by a later release.
    #[error(
        "data directory {dir} has format {found} and this release reads format {VERSION}: run a newer release"
    )]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// The version found there.
        found: u32,
    },
    /// `FORMAT` is not what this program writes.
    #[error(
        "the FORMAT file of data directory {0} is damaged: restore it from a backup of the directory"
    )]
    Damaged(PathBuf),
    /// The directory belongs to another member or cluster.
    #[error(
        "data directory {dir} belongs to member {:016x} of cluster {:016x}, not to member {:016x} of cluster {:016x}: \
         start that member, or choose another directory with --data-dir",
        found.member_id, found.cluster_id, expected.member_id, expected.cluster_id
    )]
    OtherMember {
        /// The directory.
        dir: PathBuf,
        /// Whose data it holds.
        found: Identity,
        /// Who asked for it.
        expected: Identity,
    },
    /// The file system refused.
    #[error("data directory {dir}: {verb}: {source}")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// An open data directory. It stays locked until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The lock lives as long as this descriptor.
    _lock: File,
}

impl DataDir {
    /// Opens `path` for the member `identity`, making it (mode 0700) when it is missing or empty.
    ///
    /// # Errors
    /// See [`DataDirError`]; the directory is then as it was, save that it may have been made and have a `LOCK`.
    pub fn open(path: &Path, identity: Identity) -> Result<Self, DataDirError> {
        let fail = |verb| {
            move |source| DataDirError::Io {
                dir: path.to_owned(),
                verb,
                source,
            }
        };
        make(path).map_err(fail("make the directory"))?;
        let recorded = recorded(path)?;
        if recorded.is_none() {
            refuse_foreign(path)?;
        }
        let lock = lock(path)?;
        match recorded {
            Some(found) if found != identity => {
                return Err(DataDirError::OtherMember {
                    dir: path.to_owned(),
                    found,
                    expected: identity,
                });
            }
            Some(_) => {}
            None => record(path, identity).map_err(fail("write FORMAT"))?,
        }
        let data_dir = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        for part in [data_dir.wal(), data_dir.store()] {
            make(&part).map_err(fail("make a sub-directory"))?;
        }
        Ok(data_dir)
    }

    /// Whose data `path` holds; `None` when the directory is missing or was never used.
    ///
    /// A member that restarts takes its ids from here and not from its flags, as etcd does.
    ///
    /// # Errors
    /// [`DataDirError::Newer`], [`DataDirError::Damaged`] or [`DataDirError::Io`].
    pub fn identity(path: &Path) -> Result<Option<Identity>, DataDirError> {
        recorded(path)
    }

    /// An error of the file system in this directory.
    pub(crate) fn failed(&self, verb: &'static str, source: io::Error) -> DataDirError {
        DataDirError::Io {
            dir: self.path.clone(),
            verb,
            source,
        }
    }

    /// The directory of the write-ahead log.
    pub fn wal(&self) -> PathBuf {
        self.path.join(WAL)
    }

    /// The directory of the multi-version store.
    pub fn store(&self) -> PathBuf {
        self.path.join(STORE)
    }
}

/// Makes a directory and what is missing above it, and all their names durable: nothing in a directory outlives its name.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    let missing = path.ancestors().take_while(|above| !above.is_dir());
    let made = missing.count();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // At least the nearest, though it was there: a start that was cut short may have made the last and not synced its name.
    let parents = path.ancestors().skip(1).take(made.max(1));
    for parent in parents {
        let parent = match parent.as_os_str().is_empty() {
            true => Path::new("."),
            false => parent,
        };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn recorded(path: &Path) -> Result<Option<Identity>, DataDirError> {
    match fs::read_to_string(path.join(FORMAT)) {
        Ok(text) => parse(path, &text).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(DataDirError::Damaged(path.to_owned()))
        }
        Err(source) => Err(DataDirError::Io {
            dir: path.to_owned(),
            verb: "read FORMAT",
            source,
        }),
    }
}

fn parse(path: &Path, text: &str) -> Result<Identity, DataDirError> {
    let damaged = || DataDirError::Damaged(path.to_owned());
    let mut lines = text.lines();
    if lines.next() != Some(MAGIC) {
        return Err(DataDirError::Foreign {
            dir: path.to_owned(),
            found: "a FORMAT file".to_owned(),
        });
    }
    let mut field = |name: &str| {
        lines
            .next()
            .and_then(|line| line.strip_prefix(name))
            .ok_or_else(damaged)
    };
    let version = field("version ")?.parse().map_err(|_| damaged())?;
    // The version stands before all that a later release may write otherwise.
    if version > VERSION {
        return Err(DataDirError::Newer {
            dir: path.to_owned(),
            found: version,
        });
    }
    let cluster_id = u64::from_str_radix(field("cluster ")?, 16).map_err(|_| damaged())?;
    let member_id = u64::from_str_radix(field("member ")?, 16).map_err(|_| damaged())?;
    Ok(Identity {
        cluster_id,
        member_id,
    })
}

/// A directory without `FORMAT` may hold a lock and the draft of a `FORMAT`; a start that was cut short leaves these.
fn refuse_foreign(path: &Path) -> Result<(), DataDirError> {
    let fail = |source| DataDirError::Io {
        dir: path.to_owned(),
        verb: "list the directory",
        source,
    };
    for entry in fs::read_dir(path).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let ours = [LOCK, DRAFT, "lost+found"]
            .iter()
            .any(|known| name == *known);
        if !ours {
            let found = match name.to_string_lossy() {
                name if name == "member" => "`member`, the data of an etcd member".to_owned(),
                name => format!("`{name}`"),
            };
            return Err(DataDirError::Foreign {
                dir: path.to_owned(),
                found,
            });
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let fail = |source| DataDirError::Io {
        dir: path.to_owned(),
        verb: "lock the directory",
        source,
    };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path.join(LOCK))
        .map_err(fail)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse(path.to_owned())),
        Err(error) => Err(fail(error.into())),
    }
}

const DRAFT: &str = "FORMAT.draft";

/// Writes `FORMAT` whole or not at all: a draft, synced, then renamed.
fn record(path: &Path, identity: Identity) -> io::Result<()> {
    let draft = path.join(DRAFT);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&draft)?;
    let Identity {
        cluster_id,
        member_id,
    } = identity;
    write!(
        file,
        "{MAGIC}\nversion {VERSION}\ncluster {cluster_id:016x}\nmember {member_id:016x}\n"
    )?;
    file.sync_all()?;
    fs::rename(draft, path.join(FORMAT))?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const ME: Identity = Identity {
        cluster_id: 0xc1,
        member_id: 0x8e9e05c52164694d,
    };

    fn refusal(path: &Path) -> String {
        DataDir::open(path, ME)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn a_fresh_directory_is_made_private_and_remembers_its_member() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("a/b.keystead");
        assert_eq!(DataDir::identity(&path).unwrap(), None);
        let dir = DataDir::open(&path, ME).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert!(dir.wal().is_dir() && dir.store().is_dir());
        assert_eq!(DataDir::identity(&path).unwrap(), Some(ME));
        drop(dir);
        DataDir::open(&path, ME).unwrap();
    }

    #[test]
    fn a_directory_in_use_is_refused_until_it_is_released() {
        let tmp = tempfile::tempdir().unwrap();
        let held = DataDir::open(tmp.path(), ME).unwrap();
        assert!(refusal(tmp.path()).contains("in use by another process: stop that process"));
        drop(held);
        DataDir::open(tmp.path(), ME).unwrap();
    }

    #[test]
    fn a_start_cut_short_before_format_was_written_is_taken_up_again() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join(LOCK), "").unwrap();
        fs::write(tmp.path().join(DRAFT), "keystead da").unwrap();
        DataDir::open(tmp.path(), ME).unwrap();
    }

    #[test]
    fn foreign_newer_damaged_and_other_directories_are_refused_with_a_sentence() {
        let file = |version: &str, member: &str| {
            format!("{MAGIC}\nversion {version}\ncluster c1\nmember {member}\n")
        };
        let cases = [
            (
                "notes.txt",
                "hello".to_owned(),
                "holds `notes.txt`, which keystead did not write",
            ),
            ("member", String::new(), "the data of an etcd member"),
            (
                "FORMAT",
                "something else".to_owned(),
                "holds a FORMAT file, which keystead did not write",
            ),
            (
                "FORMAT",
                file("2", "8e9e05c52164694d"),
                "has format 2 and this release reads format 1: run a newer release",
            ),
            ("FORMAT", file("one", "8e9e05c52164694d"), "is damaged"),
            ("FORMAT", MAGIC.to_owned(), "is damaged"),
            (
                "FORMAT",
                file("1", "7"),
                "belongs to member 0000000000000007 of cluster 00000000000000c1",
            ),
        ];
        for (name, content, sentence) in cases {
            let tmp = tempfile::tempdir().unwrap();
            fs::write(tmp.path().join(name), &content).unwrap();
            let said = refusal(tmp.path());
            assert!(said.contains(sentence), "{name} {content:?}: {said}");
            assert_eq!(fs::read_to_string(tmp.path().join(name)).unwrap(), content);
            assert!(!tmp.path().join(WAL).exists());
        }
    }
}
