//! Why a log cannot be opened, and why an open one refuses to go on.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a log was not opened. Nothing stored was changed, but for what a crash left half made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Bytes that were once durable are damaged, or a file is missing. Opening would lose acknowledged
    /// entries; restore the member from its peers or a backup.
    #[error("the log is corrupt: {} at offset {offset}: {reason}", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where in it the first damaged batch starts.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// A later release wrote this log. Start that release, or a newer one.
    #[error("{} has format version {found}, this release reads up to {known}", file.display())]
    Version {
        /// The file that has the unknown version.
        file: PathBuf,
        /// The version found.
        found: u16,
        /// The newest version that is understood.
        known: u16,
    },
    /// The file system refused an operation.
    #[error("{operation} {}: {source}", file.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        file: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

/// Why an open log refused a call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalError {
    /// A write or a sync failed, now or earlier. What was not acknowledged may or may not be on disk, so
    /// the log stays shut: the process must end, and find out by opening the log again.
    #[error("the log failed: {operation} {}: {source}", file.display())]
    Failed {
        /// What failed.
        operation: &'static str,
        /// On which file.
        file: PathBuf,
        /// What the file system said.
        source: Arc<io::Error>,
    },
    /// The entries do not follow the last one. Nothing was queued.
    #[error("entry {found} does not follow the log, which continues at {expected}")]
    OutOfOrder {
        /// The index that would have followed.
        expected: u64,
        /// The index that was given.
        found: u64,
    },
    /// One entry is larger than a batch can describe. Nothing was queued.
    #[error("{what} of {size_bytes} bytes is larger than the log can store")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size_bytes: usize,
    },
    /// More is waiting for the disk than the queue may hold. Nothing was queued; try again later.
    #[error("{queued_bytes} bytes are waiting for the disk already")]
    QueueFull {
        /// How much is waiting.
        queued_bytes: usize,
    },
    /// A stored entry cannot be read back as it was written.
    #[error("entry {index} in {} at offset {offset} is damaged", file.display())]
    Damaged {
        /// The entry.
        index: u64,
        /// The file that holds it.
        file: PathBuf,
        /// Where its payload starts.
        offset: u64,
    },
    /// A stored entry could not be read.
    #[error("reading {}: {source}", file.display())]
    Read {
        /// The file that holds it.
        file: PathBuf,
        /// What the file system said.
        source: Arc<io::Error>,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl WalError {
    /// Whether the file system had no room, or the quota of its user.
    pub(super) fn is_for_want_of_space(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Failed { source, .. } => matches!(source.kind(), StorageFull | QuotaExceeded),
            _ => false,
        }
    }
}

impl From<WalError> for io::Error {
    fn from(error: WalError) -> io::Error {
        let kind = match &error {
            WalError::Failed { source, .. } | WalError::Read { source, .. } => source.kind(),
            WalError::OutOfOrder { .. } | WalError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            WalError::QueueFull { .. } => io::ErrorKind::WouldBlock,
            WalError::Damaged { .. } => io::ErrorKind::InvalidData,
            WalError::Closed => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, error)
    }
}
