//! Snapshot: all that a member has, as one file that `etcdutl snapshot restore` takes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use keystead_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tonic::Code;

use super::of_one_member;
use crate::channel::{Receiver, rpc};
use crate::client::Client;
use crate::error::{Error, Kind, Result};

/// The server ends a snapshot with the SHA-256 of what came before.
const DIGEST_BYTES: usize = 32;
/// Parts that wait for the disk: with the server's 4 MB at most some 20 MB.
const PARTS_WAITING: usize = 4;

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// What has come.
    pub received_bytes: u64,
    /// What is still to come, as far as the server knows.
    pub remaining_bytes: u64,
}

/// A snapshot that was saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedSnapshot {
    /// Its size, digest included.
    pub size_bytes: u64,
    /// The SHA-256 of the data, which the file ends with. It was compared with what was written.
    pub digest: [u8; DIGEST_BYTES],
    /// The version of what is stored in it; empty where the server does not say.
    pub version: String,
}

/// A snapshot, a part at a time. The server is stopped by what is not read; dropping it ends it.
pub struct Snapshot {
    client: Client,
    parts: Receiver<SnapshotResponse>,
    progress: SnapshotProgress,
    version: String,
}

impl Snapshot {
    /// The next part; `None` after the last. The last 32 bytes of all are the SHA-256 of the others.
    ///
    /// # Errors
    /// The snapshot broke off: another one begins from the start. `DeadlineExceeded`: no part came for the deadline of a call.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let patience = self.client.call_options().deadline;
        let part = timeout(patience, self.parts.next()).await;
        let part = part.unwrap_or_else(|_| {
            let text = format!("no part of the snapshot within {patience:?}");
            Err(Error::local(
                Kind::DeadlineExceeded,
                Code::DeadlineExceeded,
                text,
            ))
        })?;
        let Some(part) = part else { return Ok(None) };
        self.progress.received_bytes += part.blob.len() as u64;
        self.progress.remaining_bytes = part.remaining_bytes;
        if !part.version.is_empty() {
            self.version = part.version;
        }
        Ok(Some(part.blob))
    }

    /// How far it is.
    pub fn progress(&self) -> SnapshotProgress {
        self.progress
    }

    /// The version of what is stored in it; empty before the first part, and where the server does not say.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl Client {
    /// Begins a snapshot of the member that this client is connected to.
    ///
    /// # Errors
    /// No connection could be made in time.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let options = of_one_member(self);
        let channel = self.channel();
        let (mut sender, parts) = channel.open(&rpc::SNAPSHOT, &options).await?;
        sender.send(&SnapshotRequest {});
        sender.finish();
        Ok(Snapshot {
            client: self.clone(),
            parts,
            progress: SnapshotProgress::default(),
            version: String::new(),
        })
    }

    /// Saves a snapshot of the member that this client is connected to, and calls `progress` after each part. The file appears
    /// under its name when all of it is on the disk and its digest is right; until then, and after an error, there is none.
    ///
    /// # Errors
    /// `File`: the file cannot be written. `Corrupt`: what came is not what the digest says. See [`Snapshot::next`].
    pub async fn save_snapshot(
        &self,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(SnapshotProgress),
    ) -> Result<SavedSnapshot> {
        let path = path.as_ref().to_owned();
        let mut snapshot = self.snapshot().await?;
        let (parts, waiting) = mpsc::channel(PARTS_WAITING);
        let writing = spawn_blocking(move || write(&path, waiting));
        let mut failed = None;
        loop {
            match snapshot.next().await {
                Ok(Some(part)) => {
                    progress(snapshot.progress());
                    if parts.send(Part::More(part)).await.is_err() {
                        break;
                    }
                }
                Ok(None) => {
                    // Should the writer have ended, its own error says why.
                    let _ = parts.send(Part::End).await;
                    break;
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(parts);
        let written = writing.await;
        if let Some(error) = failed {
            return Err(error);
        }
        let (size_bytes, digest) = written
            .map_err(|error| Error::local(Kind::Internal, Code::Internal, error.to_string()))??;
        Ok(SavedSnapshot {
            size_bytes,
            digest,
            version: snapshot.version,
        })
    }
}

enum Part {
    More(Bytes),
    /// There was no error: the file is whole.
    End,
}

/// Writes what comes beside `path`, and gives it that name when it is whole.
fn write(path: &Path, mut parts: mpsc::Receiver<Part>) -> Result<(u64, [u8; DIGEST_BYTES])> {
    let file_error = |error: io::Error| {
        let text = format!("{}: {error}", path.display());
        Error::local(Kind::File, Code::Unknown, text)
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let mut unfinished = Unfinished::create(name.into()).map_err(file_error)?;
    let mut digest = Trailed::default();
    loop {
        match parts.blocking_recv() {
            Some(Part::More(part)) => {
                digest.push(&part);
                unfinished.file.write_all(&part).map_err(file_error)?;
            }
            Some(Part::End) => break,
            None => {
                let text = "the snapshot was given up";
                return Err(Error::local(Kind::Cancelled, Code::Cancelled, text));
            }
        }
    }
    let size_bytes = digest.size_bytes;
    let digest = digest.finish()?;
    unfinished.finish(path).map_err(file_error)?;
    Ok((size_bytes, digest))
}

/// A file that is removed unless it was finished.
struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Unfinished {
    fn create(path: PathBuf) -> io::Result<Unfinished> {
        let file = File::create(&path)?;
        Ok(Unfinished { path, file })
    }

    fn finish(&mut self, name: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, name)?;
        let directory = name
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already when it was finished.
        let _ = fs::remove_file(&self.path);
    }
}

/// The hash of all but the last bytes, which say what it must be.
#[derive(Default)]
struct Trailed {
    hash: Sha256,
    tail: Vec<u8>,
    size_bytes: u64,
}

impl Trailed {
    fn push(&mut self, part: &[u8]) {
        self.size_bytes += part.len() as u64;
        self.tail.extend_from_slice(part);
        let sure = self.tail.len().saturating_sub(DIGEST_BYTES);
        self.hash.update(&self.tail[..sure]);
        self.tail.drain(..sure);
    }

    fn finish(self) -> Result<[u8; DIGEST_BYTES]> {
        let digest: [u8; DIGEST_BYTES] = self.hash.finalize().into();
        if self.tail == digest {
            return Ok(digest);
        }
        let text = "the snapshot is not what its digest says";
        Err(Error::local(Kind::Corrupt, Code::DataLoss, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(data: &[u8], size: usize) -> Result<[u8; DIGEST_BYTES]> {
        let mut digest = Trailed::default();
        data.chunks(size).for_each(|part| digest.push(part));
        digest.finish()
    }

    #[test]
    fn a_digest_is_compared_however_the_parts_are_cut() {
        let mut data = vec![7; 1000];
        data.extend_from_slice(&Sha256::digest(&data));
        for size in [1, 31, 32, 33, 500, 1001, 1032] {
            assert!(pushed(&data, size).is_ok(), "parts of {size}");
            let mut damaged = data.clone();
            damaged[size / 2] ^= 1;
            assert_eq!(
                pushed(&damaged, size).expect_err("damaged").kind,
                Kind::Corrupt
            );
            let short = &data[..data.len() - 1];
            assert_eq!(pushed(short, size).expect_err("cut").kind, Kind::Corrupt);
        }
        assert!(pushed(b"", 1).is_err());
    }

    #[test]
    fn what_breaks_off_leaves_no_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("snapshot.db");
        let (parts, waiting) = mpsc::channel(2);
        parts
            .try_send(Part::More("half".into()))
            .expect("there is room");
        drop(parts);
        assert_eq!(
            write(&path, waiting).expect_err("half").kind,
            Kind::Cancelled
        );
        let left = fs::read_dir(directory.path()).expect("it is there").count();
        assert_eq!(left, 0);
    }
}
