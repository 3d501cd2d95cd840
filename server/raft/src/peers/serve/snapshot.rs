//! A snapshot that arrives: a store is built aside from its rows, and only when all of it is there and right does openraft
//! hear of it, which then has it put in the place of the one in use.
//!
//! Whatever goes wrong before, a full disk too, is told to the sender and changes nothing here. What was built of a
//! snapshot whose connection broke is kept for the next, which goes on after the last row, if it can.

use std::io;
use std::time::Duration;

use keystead_mvcc::{Cut, Import, Imported, Revision, Row, Table, TableEntry};
use keystead_proto::peer::{
    Answer, Ask, Nothing, SnapshotBegin, SnapshotCut, SnapshotEnd, SnapshotRevision, SnapshotRow,
    answer, ask,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Served;
use super::{Reader, gone, invalid};
use crate::blocking::aside;
use crate::flusher;
use crate::peers::translate;
use crate::snapshot;
use crate::stored::Note;
use crate::type_config::Vote;

/// How long a snapshot waits for the one before to be let go, which may be at its last step.
const HANDOVER: Duration = Duration::from_secs(5);
/// How often the sender hears that the receiver is at work.
const AT_WORK: Duration = Duration::from_secs(2);

/// A store that was begun.
pub(in crate::peers) struct Begun {
    import: Import,
    /// What the rows before `next` are the same in; see [`settled`].
    settled: Option<i64>,
    next: Revision,
}

/// Receives the one snapshot of a connection.
pub(super) async fn receive(
    served: &Served,
    mut frames: Reader,
    answers: mpsc::Sender<Answer>,
) -> io::Result<()> {
    let begin = match next(&mut frames).await? {
        ask::What::SnapshotBegin(begin) => begin,
        _ => return Err(invalid("a snapshot that does not begin")),
    };
    let what = match take(served, &mut frames, begin, &answers).await {
        Ok(vote) => answer::What::SnapshotInstalled(translate::vote(&vote)),
        Err(error) => {
            tracing::warn!(%error, "a snapshot could not be taken");
            answer::What::Refused(keystead_proto::peer::Refused {
                text: error.to_string(),
                ..Default::default()
            })
        }
    };
    answer(&answers, what).await
}

/// Takes the snapshot, and returns this member's vote afterwards.
async fn take(
    served: &Served,
    frames: &mut Reader,
    begin: SnapshotBegin,
    answers: &mpsc::Sender<Answer>,
) -> io::Result<Vote> {
    let vote = translate::parse_vote(begin.vote).map_err(invalid)?;
    let ours = served.with.raft.with_raft_state(|state| *state.vote_ref());
    let ours = ours.await.map_err(io::Error::other)?;
    if ours > vote {
        return Ok(ours);
    }
    let cut = cut(begin
        .cut
        .ok_or_else(|| invalid("a snapshot without its cut"))?);
    // There is one leader, who sends one at a time: whoever sent before is gone, though it may not have said so.
    served.shared.snapshots.send_modify(|count| *count += 1);
    let mut newer = served.shared.snapshots.subscribe();
    let Ok(mut kept) = timeout(HANDOVER, served.shared.begun.lock()).await else {
        return Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another snapshot is being taken",
        ));
    };
    let begun = kept.take();
    let begun = begun.filter(|begun| begun.settled.is_some() && begun.settled == settled(&cut));
    let mut begun = match begun {
        Some(begun) => begun,
        None => Begun {
            import: served.with.flusher.begin_import().await?,
            settled: settled(&cut),
            next: Revision::new(0, 0),
        },
    };
    tracing::info!(
        revision = cut.revision,
        from = begun.next.main,
        "taking a snapshot"
    );
    let from = answer::What::SnapshotFrom(revision(begun.next));
    answer(answers, from).await?;
    let (mut rows, mut digest) = (0, 0);
    let end = loop {
        let what = tokio::select! {
            what = next(frames) => what,
            _ = newer.changed() => Err(io::Error::other("there is a newer one")),
        };
        let what = match what {
            Ok(what) => what,
            Err(error) => {
                let next = begun.next.main;
                tracing::warn!(next, "a snapshot was cut; what came of it is kept");
                *kept = Some(begun);
                return Err(error);
            }
        };
        match what {
            ask::What::SnapshotRows(step) => {
                let step: Vec<Row> = step.rows.into_iter().map(row).collect::<io::Result<_>>()?;
                for row in &step {
                    rows += 1;
                    digest = crc32c::crc32c_append(digest, &row.payload);
                }
                begun = aside(move || begun.add(step)).await??;
            }
            ask::What::SnapshotEnd(end) => break end,
            _ => return Err(invalid("a call in a snapshot")),
        }
    };
    if (end.rows, end.digest) != (rows, digest) {
        return Err(invalid("rows of the snapshot were lost on the way"));
    }
    let installing = served.with.installing.clone();
    let finishing = aside(move || {
        let finished = begun.finish(&cut, end)?;
        installing.announce(cut.position)?;
        Ok::<_, io::Error>(finished)
    });
    let (note, imported) = while_telling(answers, finishing).await???;
    let snapshot = snapshot::received(&note, imported);
    let installing = served.with.raft.install_full_snapshot(vote, snapshot);
    let response = while_telling(answers, installing).await?;
    Ok(response.map_err(io::Error::other)?.vote)
}

/// The compaction whose work is done in a cut, where none is under way: then rows are the same in every cut that names the
/// same. One that is under way takes rows from anywhere before it, and who has a row whose successor is gone could
/// not tell that it is to go, too.
fn settled(cut: &Cut) -> Option<i64> {
    (cut.compacted == cut.physically_compacted).then_some(cut.compacted)
}

impl Begun {
    fn add(mut self, rows: Vec<Row>) -> io::Result<Self> {
        if let Some(last) = rows.last() {
            self.next = Revision::new(last.revision.main, last.revision.sub + 1);
        }
        flusher::told(self.import.rows(rows))?;
        Ok(self)
    }

    fn finish(self, cut: &Cut, end: SnapshotEnd) -> io::Result<(Note, Imported)> {
        let applied = cut.applied.clone();
        let applied =
            applied.ok_or_else(|| invalid("a snapshot of a store that never saw an entry"))?;
        let note = Note::decode(applied).map_err(invalid)?;
        let entries = end.tables.into_iter().map(|entry| TableEntry {
            table: Table(entry.table as u8),
            key: entry.key,
            value: entry.value,
        });
        let entries: Vec<_> = entries.collect();
        let imported = flusher::told(self.import.finish(cut, &entries))?;
        Ok((note, imported))
    }
}

async fn next(frames: &mut Reader) -> io::Result<ask::What> {
    let ask = frames.next::<Ask>().await?;
    ask.and_then(|ask| ask.what)
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

async fn answer(answers: &mpsc::Sender<Answer>, what: answer::What) -> io::Result<()> {
    let what = Some(what);
    answers
        .send(Answer { id: 1, what })
        .await
        .map_err(|_| gone())
}

/// Waits for `work`, and tells the sender now and then that it is being done.
async fn while_telling<T>(
    answers: &mpsc::Sender<Answer>,
    work: impl Future<Output = T>,
) -> io::Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        match timeout(AT_WORK, &mut work).await {
            Ok(done) => return Ok(done),
            Err(_) => answer(answers, answer::What::Ping(Nothing {})).await?,
        }
    }
}

fn cut(cut: SnapshotCut) -> Cut {
    Cut {
        revision: cut.revision,
        compacted: cut.compacted,
        physically_compacted: cut.physically_compacted,
        position: cut.position,
        applied: (!cut.applied.is_empty()).then_some(cut.applied),
    }
}

fn revision(revision: Revision) -> SnapshotRevision {
    SnapshotRevision {
        main: revision.main,
        sub: revision.sub,
    }
}

fn row(row: SnapshotRow) -> io::Result<Row> {
    let parse = |revision: SnapshotRevision| Revision::new(revision.main, revision.sub);
    let revision = row.revision.map(parse);
    Ok(Row {
        revision: revision.ok_or_else(|| invalid("a row without its revision"))?,
        previous: row.previous.map(parse),
        tombstone: row.tombstone,
        payload: row.payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_an_earlier_try_are_good_only_where_no_compaction_was_under_way() {
        let cut = |compacted, physically_compacted| Cut {
            revision: 9,
            compacted,
            physically_compacted,
            position: 4,
            applied: None,
        };
        assert_eq!(settled(&cut(-1, -1)), Some(-1));
        assert_eq!(settled(&cut(5, 5)), Some(5));
        assert_eq!(settled(&cut(7, 5)), None);
    }
}
