//! Asking members for the hash of their history up to a revision. A question has a connection of its own: its answer takes
//! as long as all rows take to be read, and holds up no heartbeat there. The asker needs no part in consensus, so that
//! a member can ask before it takes any. The answering side is `serve/hash.rs`.

use std::io;
use std::time::Duration;

use keystead_mvcc::HashKv;
use keystead_proto::etcdserverpb::Member;
use keystead_proto::peer::{Answer, Ask, Hash, Line, Reason, answer, ask};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::DIAL;
use super::addresses::{Socket, connect};
use super::frame::{self, Frames};
use super::greeting::{GreetingError, greet, say};
use crate::data_dir::Identity;

/// What another member's history comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerHash {
    /// The hash, and of what.
    pub hash: HashKv,
    /// The newest revision that the member had when it was asked.
    pub current_revision: i64,
}

/// Why a member gives no hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoHash {
    /// It has compacted the revision away.
    #[error("the revision has been compacted there")]
    Compacted,
    /// It is behind.
    #[error("the revision is not there yet")]
    Future,
    /// It was not reached, or says why it can't.
    #[error("{0}")]
    Unanswered(String),
}

impl From<GreetingError> for NoHash {
    fn from(error: GreetingError) -> Self {
        Self::Unanswered(error.to_string())
    }
}

impl From<io::Error> for NoHash {
    fn from(error: io::Error) -> Self {
        Self::Unanswered(error.to_string())
    }
}

/// What one member said when it was asked for its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashAnswer {
    /// The member's id.
    pub member_id: u64,
    /// What it said.
    pub answer: Result<PeerHash, NoHash>,
}

/// Asks all `members` but `me` at once for their hash at `revision`; a member that does not answer within `patience` has
/// not answered. In the order of the ids.
pub(crate) async fn ask_all(
    me: Identity,
    members: Vec<Member>,
    revision: i64,
    patience: Duration,
) -> Vec<HashAnswer> {
    let others = members.into_iter().filter(|it| it.id != me.member_id);
    let mut asked: JoinSet<_> = others
        .map(|member| async move {
            let answer = timeout(patience, ask_one(me, &member, revision)).await;
            HashAnswer {
                member_id: member.id,
                answer: answer
                    .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())),
            }
        })
        .collect();
    let mut answers = Vec::new();
    while let Some(answer) = asked.join_next().await {
        // None of them panics or is aborted.
        answers.extend(answer);
    }
    answers.sort_unstable_by_key(|answer| answer.member_id);
    answers
}

/// Asks at the first of the member's peer URLs at which it is found.
async fn ask_one(me: Identity, member: &Member, revision: i64) -> Result<PeerHash, NoHash> {
    let mut failed = NoHash::Unanswered("the member's peer URLs are not known".to_owned());
    for url in &member.peer_urls {
        // A member that is only about to start takes connections, and says nothing.
        match timeout(DIAL, dial(me, member.id, url)).await {
            Ok(Ok((frames, writer))) => return question(frames, writer, revision).await,
            Ok(Err(error)) => failed = error.into(),
            Err(_) => failed = io::Error::from(io::ErrorKind::TimedOut).into(),
        }
    }
    Err(failed)
}

type Reader = Frames<ReadHalf<Box<dyn Socket>>>;
type Writer = WriteHalf<Box<dyn Socket>>;

async fn dial(me: Identity, to: u64, url: &str) -> Result<(Reader, Writer), GreetingError> {
    let (reader, mut writer) = tokio::io::split(connect(url).await?);
    let mut frames = Frames::new(reader, frame::GREETING_BYTES);
    greet(me, to, Line::Hash, &mut frames, &mut writer).await?;
    Ok((frames, writer))
}

async fn question(
    mut frames: Reader,
    mut writer: Writer,
    revision: i64,
) -> Result<PeerHash, NoHash> {
    let what = Some(ask::What::HashAt(revision));
    say(&mut writer, &Ask { id: 1, what }).await?;
    let answer = frames.next::<Answer>().await?;
    match answer.and_then(|answer| answer.what) {
        Some(answer::What::Hash(hash)) => Ok(read(&hash)),
        Some(answer::What::Refused(refused)) => Err(match refused.reason() {
            Reason::Compacted => NoHash::Compacted,
            Reason::Future => NoHash::Future,
            _ => NoHash::Unanswered(refused.text),
        }),
        // A release that knows no such question closes the connection.
        _ => Err(NoHash::Unanswered("it takes no such question".to_owned())),
    }
}

fn read(hash: &Hash) -> PeerHash {
    PeerHash {
        hash: HashKv {
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        },
        current_revision: hash.current_revision,
    }
}
