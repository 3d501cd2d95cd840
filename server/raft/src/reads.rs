//! Linearizable reads where this member is not the only voter: one round answers everyone who asked before it began. Who asks while a
//! round is under way waits for the next.
//!
//! In a round the leader asks as many members as it takes whether they back it still, and where one does not answer in time, has openraft send heartbeats
//! to all. Another member asks the leader up to where to apply, and backs it by that: among three members nobody else
//! is asked. While there is no leader, everyone waits.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use keystead_proto::peer::{ReadIndex, answer, ask};
use keystead_seeded::{Bug, planted};
use keystead_state::Refusal;
use openraft::ReadPolicy;
use openraft::errors::RaftError;
use openraft::raft::linearizable_read::LinearizerOption;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::backing::Backed;
use crate::leadership::{Leader, Leading};
use crate::peers::{Peers, translate};
use crate::standing::{Position, Standing, position_after};
use crate::type_config::Raft;

/// How many reads may wait for a round, and as many again to be taken note of; beyond, a read is refused at once.
const WAITING_READS: usize = 16 << 10;
/// A round that failed is followed by another after this.
const RETRY: Duration = Duration::from_millis(20);

/// What is asked.
enum Ask {
    /// That what is applied here be current.
    Barrier(oneshot::Sender<Result<(), Refusal>>),
    /// By another member: up to where it must have applied. Only a leader knows.
    Index(oneshot::Sender<Option<Position>>),
}

/// Where reads ask for a round.
#[derive(Clone)]
pub(crate) struct Reads(mpsc::Sender<Ask>);

/// Answers the reads; lives on the core thread.
pub(crate) struct Rounds(mpsc::Receiver<Ask>);

pub(crate) fn channel() -> (Reads, Rounds) {
    let (asking, asked) = mpsc::channel(WAITING_READS);
    (Reads(asking), Rounds(asked))
}

impl Reads {
    /// Returns when everything that was acknowledged anywhere before the call is applied here.
    pub(crate) async fn barrier(&self) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Barrier(answer))?;
        answered.await.unwrap_or(Err(Refusal::Stopped))
    }

    /// Up to where must be applied what a read that begins now is to see; none where this member does not lead.
    pub(crate) async fn index(&self) -> Result<Option<Position>, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Index(answer))?;
        Ok(answered.await.unwrap_or(None))
    }

    fn ask(&self, ask: Ask) -> Result<(), Refusal> {
        self.0.try_send(ask).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => Refusal::Stopped,
        })
    }
}

/// What rounds are made with.
pub(crate) struct Ways {
    pub(crate) raft: Raft,
    pub(crate) peers: Peers,
    pub(crate) leading: watch::Receiver<Leading>,
    pub(crate) standing: Arc<Standing>,
    /// This member.
    pub(crate) me: u64,
    /// Which of the others is asked first whether it backs this member: one that answered, as far as is known.
    pub(crate) first_backer: Arc<AtomicUsize>,
    /// How long their answers are waited for.
    pub(crate) heartbeat: Duration,
    /// A read that waited longer is refused.
    pub(crate) deadline: Duration,
    /// How long the leader waits for a quorum in one round.
    pub(crate) patience: Duration,
}

/// The position of a round, or none where it failed.
type Round = Pin<Box<dyn Future<Output = Option<Position>> + Send>>;

/// Those who wait, and since when.
type Waiting = Vec<(Instant, Ask)>;

impl Rounds {
    /// Runs until the last `Reads` is gone.
    pub(crate) async fn run(mut self, ways: Ways) {
        let mut next: Waiting = Vec::new();
        let mut asked: Waiting = Vec::new();
        let mut round: Option<Round> = None;
        // Those whose round is over, by what is to be applied yet.
        let mut ready: BTreeMap<Position, Waiting> = BTreeMap::new();
        let mut rest = None;
        let mut overdue = tokio::time::interval(ways.patience);
        loop {
            if round.is_none() && rest.is_none() && !next.is_empty() {
                asked = std::mem::take(&mut next);
                if !matches!(ways.leading.borrow().leader, Leader::Me { .. }) {
                    asked = answer_members(asked, None);
                }
                round = Some(ways.round());
            }
            tokio::select! {
                ask = self.0.recv(), if next.len() < WAITING_READS => match ask {
                    Some(ask) if round.is_some() && planted(Bug::ReuseReadIndex) => {
                        asked.push((Instant::now(), ask));
                    }
                    Some(ask) => next.push((Instant::now(), ask)),
                    None => return,
                },
                position = async {
                    match &mut round {
                        Some(round) => round.await,
                        None => std::future::pending().await,
                    }
                } => {
                    round = None;
                    let over = std::mem::take(&mut asked);
                    match position {
                        Some(position) => {
                            let left = answer_members(over, Some(position));
                            ready.entry(position).or_default().extend(left);
                        }
                        None => {
                            let mut left = answer_members(over, None);
                            left.append(&mut next);
                            next = left;
                            // They are nowhere else than here while one round after the other fails.
                            refuse_overdue(&mut next, Instant::now(), ways.deadline);
                            rest = Some(Instant::now() + RETRY);
                        }
                    }
                }
                () = ways.standing.applied_more.notified(), if !ready.is_empty() => {}
                () = async {
                    match rest {
                        Some(until) => tokio::time::sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                } => rest = None,
                now = overdue.tick() => {
                    refuse_overdue(&mut next, now, ways.deadline);
                    for waiting in ready.values_mut() {
                        refuse_overdue(waiting, now, ways.deadline);
                    }
                }
            }
            let applied = ways.standing.applied();
            while let Some(entry) = ready.first_entry()
                && *entry.key() <= applied
            {
                for (_, ask) in entry.remove() {
                    ask.permit();
                }
            }
        }
    }
}

/// Answers what other members asked; the rest is left.
fn answer_members(waiting: Waiting, position: Option<Position>) -> Waiting {
    let mut left = Vec::with_capacity(waiting.len());
    for (since, ask) in waiting {
        match ask {
            // Who no longer waits needs no answer: so for all of them.
            Ask::Index(answer) => drop(answer.send(position)),
            Ask::Barrier(_) => left.push((since, ask)),
        }
    }
    left
}

fn refuse_overdue(waiting: &mut Waiting, now: Instant, deadline: Duration) {
    let late = waiting.extract_if(.., |(since, ask)| {
        ask.is_given_up() || now.saturating_duration_since(*since) > deadline
    });
    for (_, ask) in late {
        if let Ask::Barrier(answer) = ask {
            answer.send(Err(Refusal::Timeout)).ok();
        }
    }
}

impl Ask {
    fn permit(self) {
        if let Self::Barrier(answer) = self {
            answer.send(Ok(())).ok();
        }
    }

    fn is_given_up(&self) -> bool {
        match self {
            Self::Barrier(answer) => answer.is_closed(),
            Self::Index(answer) => answer.is_closed(),
        }
    }
}

impl Ways {
    /// Begins a round with whoever leads.
    fn round(&self) -> Round {
        let (raft, peers, patience) = (self.raft.clone(), self.peers.clone(), self.patience);
        let leader = self.leading.borrow().leader;
        match leader {
            Leader::Me { .. } => {
                let (me, first) = (self.me, self.first_backer.clone());
                let heartbeat = self.heartbeat;
                Box::pin(async move {
                    let backed = backed(&raft, &peers, me, &first);
                    match tokio::time::timeout(heartbeat, backed).await {
                        Ok(Some(position)) => Some(position),
                        _ => {
                            // Another one is asked first the next time.
                            first.fetch_add(1, Ordering::Relaxed);
                            led_here(raft, patience).await
                        }
                    }
                })
            }
            Leader::Other { id, .. } => Box::pin(async move {
                let vote = raft.with_raft_state(|state| translate::vote(state.vote_ref()));
                let vote = Some(vote.await.ok()?);
                let lines = peers.lines(id);
                let call = lines.calls.call(ask::What::ReadIndex(ReadIndex { vote }));
                match tokio::time::timeout(2 * patience, call).await {
                    Ok(Ok(answer::What::ReadIndex(position))) => Some(position),
                    _ => None,
                }
            }),
            Leader::Nobody => Box::pin(std::future::ready(None)),
        }
    }
}

/// The position of a leader that so many back as it takes, asked at once, beginning with the one at `first`; none where one of them does not, or
/// where this member does not lead.
async fn backed(raft: &Raft, peers: &Peers, me: u64, first: &AtomicUsize) -> Option<Position> {
    let led = raft.with_raft_state(Backed::of).await.ok()??;
    let mut others = led.others(me);
    if !others.is_empty() {
        let first = first.load(Ordering::Relaxed) % others.len();
        others.rotate_left(first);
    }
    let mut needed = vec![me];
    needed.extend(others);
    let all = needed.len();
    let enough = (1..=all).find(|&count| led.is_proven_by(&needed[..count]))?;
    let mut asked: FuturesUnordered<_> = needed[1..enough]
        .iter()
        .map(|&backer| {
            let lines = peers.lines(backer);
            let vote = translate::vote(&led.vote);
            async move { lines.calls.call(ask::What::Backing(vote)).await }
        })
        .collect();
    while let Some(answer) = asked.next().await {
        if !matches!(answer, Ok(answer::What::Backed(_))) {
            return None;
        }
    }
    Some(led.position)
}

async fn led_here(raft: Raft, patience: Duration) -> Option<Position> {
    let option = LinearizerOption::from(ReadPolicy::ReadIndex).with_wait_timeout(patience);
    match raft.get_read_linearizer(option).await {
        Ok(current) => Some(position_after(current.read_log_id().log_id().index)),
        Err(RaftError::APIError(_) | RaftError::Fatal(_)) => None,
    }
}
