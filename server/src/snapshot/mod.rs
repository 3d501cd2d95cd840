//! Maintenance.Snapshot's file: the member's data in etcd's format, built aside from a cut of the store. Called by the service on
//! a thread of its own; it blocks.

mod bolt;
mod file;

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use keystead_mvcc::{Export, Row, Store};
use keystead_proto::etcdserverpb::SnapshotResponse;
use keystead_state::CutFacts;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use file::Facts;

/// Rows read from the store at a time, and bytes of the finished file.
const READ_BYTES: usize = 1 << 20;
/// Written to the file at a time.
const WRITE_BYTES: usize = 1 << 20;

/// Sent in one message, as etcd does.
const MESSAGE_BYTES: usize = 32 << 10;

/// A finished file, gone from the disk when dropped.
pub(crate) struct Snapshot {
    /// The file, at its start.
    pub(crate) file: File,
    /// Its length in bytes, a multiple of 4096.
    pub(crate) bytes: u64,
}

/// Builds the file in `dir` from all that the store has flushed; flush before to have all that was applied.
/// `term` is the present one; `version` the etcd version to write as, `3.6.0`.
///
/// # Errors
/// What reading the store or writing the file failed with; nothing is left behind.
pub(crate) fn build(store: &Store, term: u64, version: &str, dir: &Path) -> io::Result<Snapshot> {
    let mut export = store.export().map_err(io::Error::other)?;
    let cut = export.cut().clone();
    let CutFacts {
        leases,
        alarms,
        members,
        users,
        roles,
        auth_enabled,
        auth_revision,
    } = CutFacts::read(export.tables()).map_err(io::Error::other)?;
    let facts = Facts {
        applied: (cut.position, term),
        scheduled_compaction: (cut.compacted > 0).then_some(cut.compacted),
        finished_compaction: (cut.physically_compacted > 0).then_some(cut.physically_compacted),
        leases,
        alarms,
        members,
        users,
        roles,
        auth_enabled,
        auth_revision,
        version: version.to_owned(),
    };
    let mut file = tempfile::tempfile_in(dir)?;
    let bytes = file::write(
        BufWriter::with_capacity(WRITE_BYTES, &mut file),
        &facts,
        rows(&mut export),
    )?;
    file.seek(SeekFrom::Start(0))?;
    Ok(Snapshot { file, bytes })
}

/// The rows of an export one by one; an error ends them.
fn rows(export: &mut Export) -> impl Iterator<Item = io::Result<Row>> {
    let mut batch = Vec::new().into_iter();
    let mut ended = false;
    std::iter::from_fn(move || {
        if let Some(row) = batch.next() {
            return Some(Ok(row));
        }
        if ended {
            return None;
        }
        match export.rows(READ_BYTES) {
            Ok(rows) => {
                ended = rows.is_empty();
                batch = rows.into_iter();
                batch.next().map(Ok)
            }
            Err(error) => {
                ended = true;
                Some(Err(io::Error::other(error)))
            }
        }
    })
}

impl Snapshot {
    /// Reads the file to its end and hands it on in the messages that etcd sends: the data, then its SHA-256 in a message of its
    /// own. Blocks while `messages` is full; ends early when nobody takes them any more.
    ///
    /// # Errors
    /// What reading failed with.
    pub(crate) fn send(
        mut self,
        version: &str,
        messages: &mpsc::Sender<SnapshotResponse>,
    ) -> io::Result<()> {
        let mut digest = Sha256::new();
        let mut remaining_bytes = self.bytes;
        let mut read = Bytes::new();
        let message = |remaining_bytes, blob| SnapshotResponse {
            header: None,
            remaining_bytes,
            blob,
            version: version.to_owned(),
        };
        while remaining_bytes > 0 {
            if read.is_empty() {
                let mut chunk = vec![0; remaining_bytes.min(READ_BYTES as u64) as usize];
                self.file.read_exact(&mut chunk)?;
                digest.update(&chunk);
                read = chunk.into();
            }
            let blob = read.split_to(read.len().min(MESSAGE_BYTES));
            remaining_bytes -= blob.len() as u64;
            if messages
                .blocking_send(message(remaining_bytes, blob))
                .is_err()
            {
                return Ok(());
            }
        }
        let digest = message(0, Bytes::copy_from_slice(&digest.finalize()));
        // Who has gone needs no digest.
        messages.blocking_send(digest).ok();
        Ok(())
    }
}
