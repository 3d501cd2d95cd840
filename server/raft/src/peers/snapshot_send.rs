//! A snapshot on its way to a member that lacks more than the log still has: rows in revision order, read in short
//! transactions on a thread aside and written a step at a time, so that neither memory nor the core knows how large it is.
//!
//! What the receiver has of an earlier try is not sent again, where rows before that place can't have changed.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use keystead_mvcc::{Cut, Export, ReadError, Revision, Row};
use keystead_proto::peer::{
    Answer, Ask, SnapshotBegin, SnapshotCut, SnapshotEnd, SnapshotRevision, SnapshotRow,
    SnapshotRows, SnapshotTableEntry, answer, ask,
};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::greeting::GreetingError;
use super::line::{Connection, dial};
use super::{Purpose, Shared, frame, translate};
use crate::blocking::{aside, simulated};
use crate::snapshot::{Snapshot, SnapshotData};
use crate::type_config::Vote;

/// Payload in one message; in a simulation little, so that a store is many of them.
const STEP_BYTES: usize = 512 << 10;
const SIMULATED_STEP_BYTES: usize = 1 << 10;
/// How long the receiver may take for a step, or say nothing while it puts the store in its place.
const SILENCE: Duration = Duration::from_secs(30);

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("no connection: {0}")]
    Dial(#[from] GreetingError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the store can't be read: {0}")]
    Read(#[from] ReadError),
    #[error("the receiver refused it: {0}")]
    Refused(String),
    #[error("the receiver is silent")]
    Silent,
    #[error("the receiver's answer can't be read")]
    Strange,
    #[error("the member is stopping")]
    Stopped,
}

impl From<tokio::time::error::Elapsed> for SendError {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::Silent
    }
}

/// Sends the store of `snapshot` as of its last flush, which may be later than the one that the snapshot was named by.
/// Returns the receiver's vote: a higher one says that another leads.
pub(super) async fn send(
    shared: Arc<Shared>,
    target: u64,
    vote: Vote,
    snapshot: Snapshot,
) -> Result<Vote, SendError> {
    let mut connection = dial(&shared, target, Purpose::Snapshot).await?;
    let SnapshotData::Here(store) = snapshot.snapshot else {
        return Err(SendError::Stopped);
    };
    let mut export = aside(move || store.export()).await??;
    let begin = ask::What::SnapshotBegin(SnapshotBegin {
        vote: Some(translate::vote(&vote)),
        cut: Some(cut(export.cut())),
    });
    say(&mut connection, begin).await?;
    let from = match hear(&mut connection).await? {
        answer::What::SnapshotFrom(from) => from,
        answer::What::SnapshotInstalled(vote) => return theirs(vote),
        answer::What::Refused(refused) => return Err(SendError::Refused(refused.text)),
        _ => return Err(SendError::Strange),
    };
    tracing::info!(
        peer = format!("{target:016x}"),
        revision = export.cut().revision,
        from = from.main,
        "sending a snapshot"
    );
    export.resume_at(Revision::new(from.main, from.sub));
    let (mut sent, mut digest) = (0, 0);
    loop {
        let (rows, rest) = aside(move || read(export)).await?;
        export = rest;
        let rows = rows?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            sent += 1;
            digest = crc32c::crc32c_append(digest, &row.payload);
        }
        let rows = rows.into_iter().map(row).collect();
        let rows = ask::What::SnapshotRows(SnapshotRows { rows });
        timeout(SILENCE, say(&mut connection, rows)).await??;
    }
    let tables = export.tables().iter().map(|entry| SnapshotTableEntry {
        table: entry.table.0.into(),
        key: entry.key.clone(),
        value: entry.value.clone(),
    });
    let end = ask::What::SnapshotEnd(SnapshotEnd {
        rows: sent,
        digest,
        tables: tables.collect(),
    });
    timeout(SILENCE, say(&mut connection, end)).await??;
    loop {
        match hear(&mut connection).await? {
            // It is at work.
            answer::What::Ping(_) => {}
            answer::What::SnapshotInstalled(vote) => return theirs(vote),
            answer::What::Refused(refused) => return Err(SendError::Refused(refused.text)),
            _ => return Err(SendError::Strange),
        }
    }
}

fn read(mut export: Export) -> (Result<Vec<Row>, ReadError>, Export) {
    let rows = export.rows(match simulated() {
        true => SIMULATED_STEP_BYTES,
        false => STEP_BYTES,
    });
    (rows, export)
}

async fn say(connection: &mut Connection, what: ask::What) -> Result<(), SendError> {
    let mut out = BytesMut::new();
    let what = Some(what);
    frame::put(&mut out, &Ask { id: 1, what });
    Ok(connection.writer.write_all(&out).await?)
}

async fn hear(connection: &mut Connection) -> Result<answer::What, SendError> {
    let answer = timeout(SILENCE, connection.frames.next::<Answer>()).await??;
    answer
        .and_then(|answer| answer.what)
        .ok_or(SendError::Strange)
}

fn theirs(vote: keystead_proto::peer::Vote) -> Result<Vote, SendError> {
    translate::parse_vote(Some(vote)).map_err(|_| SendError::Strange)
}

fn cut(cut: &Cut) -> SnapshotCut {
    SnapshotCut {
        revision: cut.revision,
        compacted: cut.compacted,
        physically_compacted: cut.physically_compacted,
        position: cut.position,
        applied: cut.applied.clone().unwrap_or_default(),
    }
}

fn revision(revision: Revision) -> SnapshotRevision {
    SnapshotRevision {
        main: revision.main,
        sub: revision.sub,
    }
}

fn row(row: Row) -> SnapshotRow {
    SnapshotRow {
        revision: Some(revision(row.revision)),
        previous: row.previous.map(revision),
        tombstone: row.tombstone,
        payload: row.payload,
    }
}
