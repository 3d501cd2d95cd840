//! A kept connection to one member for one purpose, dialled when there is something to say and again when it broke.
//!
//! Whoever has a [`Line`] hands over orders, from any thread; one task on the core thread writes all that is ready at
//! once and hands out the answers as they come. Nothing is sent twice: what was on a connection that broke is told as lost.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use keystead_proto::peer::{Answer, Appended, Ask, Nothing, answer, ask};
use openraft::raft::AppendEntriesRequest;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::addresses::{Socket, connect};
use super::frame::{self, Frames};
use super::greeting::{GreetingError, greet};
use super::translate;
use super::{Purpose, Shared};
use crate::data_dir::Identity;
use crate::type_config::TypeConfig;

/// Orders that wait for the connection. A log session has no more than a quarter of them on their way.
const WAITING_ORDERS: usize = 256;
/// No further order is taken while this much waits for the socket.
const UNSENT_BYTES: usize = 1 << 20;
/// How long a member that could not be reached is left alone: this, twice as long each time, up to the most.
const FIRST_REST: Duration = Duration::from_millis(20);
const LONGEST_REST: Duration = Duration::from_millis(250);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    /// The peer heard nothing of it.
    #[error("not sent: {0}")]
    NotSent(Arc<str>),
    /// The peer may have heard it.
    #[error("the connection was lost: {0}")]
    Lost(Arc<str>),
}

/// What a log session hears.
#[derive(Debug)]
pub(crate) enum LogNews {
    /// An answer of the peer.
    Appended(Appended),
    /// There will be none.
    Ended(LineError),
}

enum Order {
    Call(ask::What, oneshot::Sender<Result<answer::What, LineError>>),
    OpenLog(u64, mpsc::UnboundedSender<LogNews>),
    Append(u64, AppendEntriesRequest<TypeConfig>),
}

/// The handle. When the last is dropped, the connection is closed.
#[derive(Clone)]
pub(crate) struct Line {
    orders: mpsc::Sender<Order>,
    last_id: Arc<AtomicU64>,
}

impl Line {
    /// The line to `target`, and the task that keeps it, to be run on the core thread.
    pub(super) fn to(
        target: u64,
        purpose: Purpose,
        shared: Arc<Shared>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (orders, taken) = mpsc::channel(WAITING_ORDERS);
        let last_id = Arc::new(AtomicU64::new(0));
        let keeper = Keeper {
            target,
            purpose,
            shared,
            orders: taken,
            last_id: last_id.clone(),
            rest: None,
            told: None,
        };
        (Self { orders, last_id }, keeper.run())
    }

    /// Asks, and waits for the answer as long as the connection holds.
    pub(crate) async fn call(&self, what: ask::What) -> Result<answer::What, LineError> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Call(what, answer))?;
        answered
            .await
            .unwrap_or_else(|_| Err(LineError::Lost("the member is stopping".into())))
    }

    /// Opens a session for entries of the log.
    pub(crate) fn open_log(&self) -> Result<LogSession, LineError> {
        let id = next(&self.last_id);
        let (told, news) = mpsc::unbounded_channel();
        self.order(Order::OpenLog(id, told))?;
        Ok(LogSession {
            id,
            line: self.clone(),
            news,
        })
    }

    fn order(&self, order: Order) -> Result<(), LineError> {
        let refused = |error| {
            LineError::NotSent(match error {
                mpsc::error::TrySendError::Full(_) => "too much waits for the connection".into(),
                mpsc::error::TrySendError::Closed(_) => "the member is stopping".into(),
            })
        };
        self.orders.try_send(order).map_err(refused)
    }
}

fn next(last_id: &AtomicU64) -> u64 {
    last_id.fetch_add(1, Ordering::Relaxed) + 1
}

/// Entries of the log on their way, in order.
pub(crate) struct LogSession {
    id: u64,
    line: Line,
    news: mpsc::UnboundedReceiver<LogNews>,
}

impl LogSession {
    /// Sends one more.
    pub(crate) fn append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<(), LineError> {
        self.line.order(Order::Append(self.id, request))
    }

    /// The next that is heard.
    pub(crate) async fn news(&mut self) -> LogNews {
        let ended = || LogNews::Ended(LineError::Lost("the session was closed".into()));
        self.news.recv().await.unwrap_or_else(ended)
    }
}

impl Order {
    fn refuse(self, error: &LineError) {
        // Who no longer waits needs no answer.
        match self {
            Self::Call(_, answer) => drop(answer.send(Err(error.clone()))),
            Self::OpenLog(_, news) => drop(news.send(LogNews::Ended(error.clone()))),
            // Its session has heard.
            Self::Append(..) => {}
        }
    }
}

/// Who waits for answers under one id.
enum Waiter {
    Call(oneshot::Sender<Result<answer::What, LineError>>),
    Log(mpsc::UnboundedSender<LogNews>),
    /// Only that something is heard counts.
    Ping,
}

impl Waiter {
    fn end(self, error: &LineError) {
        match self {
            Self::Call(answer) => drop(answer.send(Err(error.clone()))),
            Self::Log(news) => drop(news.send(LogNews::Ended(error.clone()))),
            Self::Ping => {}
        }
    }
}

/// A connection that was greeted.
pub(super) struct Connection {
    pub(super) frames: Frames<ReadHalf<Box<dyn Socket>>>,
    pub(super) writer: WriteHalf<Box<dyn Socket>>,
}

/// Connects to the first address of `target` that answers as the member that is meant.
pub(super) async fn dial(
    shared: &Shared,
    target: u64,
    purpose: Purpose,
) -> Result<Connection, GreetingError> {
    let mut failed = io::Error::other("the member's peer URLs are not known").into();
    for url in shared.standing.addresses.of(target) {
        let dialling = dial_at(&url, shared.me, target, purpose);
        match timeout(shared.timing.dial, dialling).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::Error::from(io::ErrorKind::TimedOut).into(),
        }
    }
    Err(failed)
}

async fn dial_at(
    url: &str,
    me: Identity,
    target: u64,
    purpose: Purpose,
) -> Result<Connection, GreetingError> {
    let (reader, mut writer) = tokio::io::split(connect(url).await?);
    let mut frames = Frames::new(reader, frame::GREETING_BYTES);
    greet(me, target, purpose.line(), &mut frames, &mut writer).await?;
    Ok(Connection { frames, writer })
}

/// The task behind a line.
struct Keeper {
    target: u64,
    purpose: Purpose,
    shared: Arc<Shared>,
    orders: mpsc::Receiver<Order>,
    last_id: Arc<AtomicU64>,
    /// After a dial that failed: why, until when nothing is tried, and how long the next rest is.
    rest: Option<(LineError, Instant, Duration)>,
    /// What was said last of what is wrong, so that it is said once.
    told: Option<String>,
}

impl Keeper {
    async fn run(mut self) {
        while let Some(order) = self.orders.recv().await {
            if let Some((error, until, _)) = &self.rest
                && Instant::now() < *until
            {
                order.refuse(error);
                continue;
            }
            match dial(&self.shared, self.target, self.purpose).await {
                Ok(connection) => {
                    tracing::info!(
                        peer = format!("{:016x}", self.target),
                        purpose = self.purpose.name(),
                        "connected to a peer"
                    );
                    (self.rest, self.told) = (None, None);
                    let error = self.talk(connection, order).await;
                    self.tell(&error);
                }
                Err(error) => self.rest_after(&error, order),
            }
        }
    }

    fn rest_after(&mut self, error: &GreetingError, order: Order) {
        if matches!(error, GreetingError::Removed) {
            self.shared.observer.removed();
        }
        self.tell(&error.to_string());
        let rest = self.rest.as_ref().map_or(FIRST_REST, |(_, _, rest)| *rest);
        let error = LineError::NotSent(error.to_string().into());
        order.refuse(&error);
        while let Ok(order) = self.orders.try_recv() {
            order.refuse(&error);
        }
        let until = Instant::now() + rest;
        self.rest = Some((error, until, (2 * rest).min(LONGEST_REST)));
    }

    fn tell(&mut self, what: &str) {
        if self.told.as_deref() != Some(what) {
            tracing::warn!(
                peer = format!("{:016x}", self.target),
                purpose = self.purpose.name(),
                error = what,
                "no connection to a peer"
            );
            self.told = Some(what.to_owned());
        }
    }

    /// Serves orders until the connection breaks, and says why it did.
    async fn talk(&mut self, connection: Connection, first: Order) -> String {
        let mut talk = Talk {
            out: BytesMut::new(),
            waiters: HashMap::new(),
            heard: Instant::now(),
            patience: self.purpose.patience(&self.shared.timing),
            last_id: self.last_id.clone(),
        };
        talk.put(first);
        let error = match talk.go_on(connection, &mut self.orders).await {
            Ok(()) => "closed".to_owned(),
            Err(error) => error.to_string(),
        };
        let lost = LineError::Lost(error.as_str().into());
        for (_, waiter) in talk.waiters.drain() {
            waiter.end(&lost);
        }
        error
    }
}

/// One connection while it holds.
struct Talk {
    out: BytesMut,
    waiters: HashMap<u64, Waiter>,
    heard: Instant,
    /// A peer that owes an answer and says nothing for this long is given up.
    patience: Duration,
    last_id: Arc<AtomicU64>,
}

impl Talk {
    async fn go_on(
        &mut self,
        connection: Connection,
        orders: &mut mpsc::Receiver<Order>,
    ) -> io::Result<()> {
        let Connection {
            mut frames,
            mut writer,
        } = connection;
        let mut look = interval(self.patience / 4);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                answer = frames.next::<Answer>() => match answer? {
                    Some(answer) => self.hear(answer)?,
                    None => return Ok(()),
                },
                order = orders.recv(), if self.out.len() < UNSENT_BYTES => match order {
                    Some(order) => self.put(order),
                    None => return Ok(()),
                },
                written = writer.write_buf(&mut self.out), if !self.out.is_empty() => {
                    written?;
                }
                _ = look.tick() => self.look()?,
            }
        }
    }

    fn put(&mut self, order: Order) {
        if self.waiters.is_empty() {
            self.heard = Instant::now();
        }
        match order {
            Order::Call(what, answer) => {
                let id = next(&self.last_id);
                self.waiters.insert(id, Waiter::Call(answer));
                self.write(id, what);
            }
            Order::OpenLog(id, news) => {
                self.waiters
                    .retain(|_, waiter| !matches!(waiter, Waiter::Log(_)));
                self.waiters.insert(id, Waiter::Log(news));
            }
            // Those of a session before this connection are void.
            Order::Append(id, request) if self.waiters.contains_key(&id) => {
                self.write(id, ask::What::Append(translate::append(&request)));
            }
            Order::Append(..) => {}
        }
    }

    fn write(&mut self, id: u64, what: ask::What) {
        let what = Some(what);
        frame::put(&mut self.out, &Ask { id, what });
    }

    fn hear(&mut self, Answer { id, what }: Answer) -> io::Result<()> {
        self.heard = Instant::now();
        let Some(what) = what else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "an empty answer",
            ));
        };
        match (self.waiters.get(&id), what) {
            (Some(Waiter::Log(news)), answer::What::Appended(appended)) => {
                // A session that was given up hears nothing more.
                if news.send(LogNews::Appended(appended)).is_err() {
                    self.waiters.remove(&id);
                }
            }
            (_, what) => {
                if let Some(Waiter::Call(answer)) = self.waiters.remove(&id) {
                    // Who no longer waits needs no answer.
                    answer.send(Ok(what)).ok();
                }
            }
        }
        Ok(())
    }

    /// Whether the peer is still there, where anybody waits for it.
    fn look(&mut self) -> io::Result<()> {
        self.waiters.retain(|_, waiter| match waiter {
            Waiter::Call(answer) => !answer.is_closed(),
            Waiter::Log(news) => !news.is_closed(),
            Waiter::Ping => true,
        });
        if self.waiters.is_empty() {
            return Ok(());
        }
        if self.heard.elapsed() > self.patience {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer says nothing",
            ));
        }
        if self.heard.elapsed() > self.patience / 4 {
            let id = next(&self.last_id);
            self.waiters.insert(id, Waiter::Ping);
            self.write(id, ask::What::Ping(Nothing {}));
        }
        Ok(())
    }
}
