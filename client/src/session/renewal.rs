//! Keeps leases alive. Sessions share keepalive streams, so many to a stream; each stream is one task, which sends what is due, opens the
//! stream again when it ends or falls silent, and looks at every lease's clock often enough that a loss is told on time.
//! It judges nothing: [`Tenure`] does.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use keystead_proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;

use super::clock::Moment;
use super::tenure::Tenure;
use crate::backoff::ATTEMPTS;
use crate::channel::{Channel, Receiver, Sender, rpc};
use crate::error::{Error, Kind, Result};
use crate::lease::ttl;
use crate::locks::Mutex;
use crate::options::CallOptions;

/// The most leases on one stream: a server works a stream off one message after the other, so a late one delays so many at most.
const LEASES_PER_STREAM: usize = 500;
/// The longest the task sleeps. Its timers do not count the time that the machine is suspended, so a loss is told this long
/// after waking at the latest.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// The shortest, so that many leases with deadlines close to each other are looked at together.
const SHORTEST_SLEEP: Duration = Duration::from_millis(10);

/// Every stream of a client.
pub(crate) struct Renewals {
    channel: Channel,
    options: CallOptions,
    streams: Mutex<Vec<Stream>>,
}

struct Stream {
    /// As many orders as leases come and go; the task takes them at once.
    orders: UnboundedSender<Order>,
    leases: usize,
}

enum Order {
    Keep(Arc<Tenure>),
    Leave(i64),
}

/// Keeps a lease alive until it is dropped.
pub(crate) struct Renewing {
    renewals: Arc<Renewals>,
    orders: UnboundedSender<Order>,
    lease: i64,
}

impl Renewals {
    pub(crate) fn new(channel: Channel, options: CallOptions) -> Renewals {
        Renewals {
            channel,
            options,
            streams: Mutex::default(),
        }
    }

    /// Keeps a lease alive from now on.
    pub(crate) fn keep(self: &Arc<Self>, tenure: Arc<Tenure>) -> Renewing {
        let lease = tenure.lease();
        let mut streams = self.streams.lock();
        let place = streams
            .iter()
            .position(|stream| stream.leases < LEASES_PER_STREAM);
        let place = place.unwrap_or_else(|| {
            streams.push(self.start());
            streams.len() - 1
        });
        let stream = &mut streams[place];
        stream.leases += 1;
        let _ = stream.orders.send(Order::Keep(tenure));
        Renewing {
            renewals: self.clone(),
            orders: stream.orders.clone(),
            lease,
        }
    }

    /// Starts a task; it ends when nobody can give it an order any more.
    fn start(&self) -> Stream {
        let (orders, taken) = unbounded_channel();
        let task = Task {
            channel: self.channel.clone(),
            options: self.options,
            kept: HashMap::new(),
            link: Link::Closed(Moment::now()),
            failures: 0,
        };
        tokio::spawn(task.run(taken));
        Stream { orders, leases: 0 }
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Leave(self.lease));
        let mut streams = self.renewals.streams.lock();
        if let Some(place) = streams
            .iter()
            .position(|stream| stream.orders.same_channel(&self.orders))
        {
            streams[place].leases -= 1;
            if streams[place].leases == 0 {
                streams.swap_remove(place);
            }
        }
    }
}

struct Task {
    channel: Channel,
    options: CallOptions,
    kept: HashMap<i64, Kept>,
    link: Link,
    /// Of the link, in a row.
    failures: u32,
}

struct Kept {
    tenure: Arc<Tenure>,
    /// When to send the next renewal.
    next: Moment,
    /// The one that waits for its answer. There is never more than one, so an answer is that one's.
    asked: Option<Asked>,
}

/// A renewal that was sent.
#[derive(Clone, Copy)]
struct Asked {
    sent: Moment,
    /// The highest revision that was known by then: who answers is as far, unless it lost something.
    revision: i64,
}

type Halves = (
    Sender<LeaseKeepAliveRequest>,
    Receiver<LeaseKeepAliveResponse>,
);
type Opening = Pin<Box<dyn Future<Output = Result<Halves>> + Send>>;

/// The stream under the task.
enum Link {
    /// Not to be opened before then.
    Closed(Moment),
    Opening(Opening),
    Open(Halves),
}

/// What comes over it.
enum Event {
    Opened(Halves),
    Answer(LeaseKeepAliveResponse),
    /// It ended; with OK when there is no error.
    Ended(Option<Error>),
}

impl Link {
    /// Loses nothing when it is dropped.
    async fn event(&mut self) -> Event {
        match self {
            Link::Closed(_) => std::future::pending().await,
            Link::Opening(opening) => match opening.await {
                Ok(halves) => Event::Opened(halves),
                Err(error) => Event::Ended(Some(error)),
            },
            Link::Open((_, receiver)) => match receiver.next().await {
                Ok(Some(answer)) => Event::Answer(answer),
                Ok(None) => Event::Ended(None),
                Err(error) => Event::Ended(Some(error)),
            },
        }
    }
}

impl Task {
    async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        let mut wake = Moment::now();
        loop {
            let now = Moment::now();
            if now >= wake {
                wake = self.look(now);
            }
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => {
                        self.take(order);
                        wake = now;
                    }
                    None => return,
                },
                event = self.link.event() => wake = wake.min(self.hear(event)),
                () = sleep(now.until(wake)) => {}
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Keep(tenure) => {
                // It was granted, or renewed, just now.
                let next = Moment::now().after(interval(tenure.ttl()));
                let asked = None;
                self.kept.insert(
                    tenure.lease(),
                    Kept {
                        tenure,
                        next,
                        asked,
                    },
                );
            }
            Order::Leave(lease) => {
                self.kept.remove(&lease);
            }
        }
    }

    /// Tells losses, opens the link, sends what is due, and says when to look again.
    fn look(&mut self, now: Moment) -> Moment {
        self.kept
            .retain(|_, kept| kept.tenure.state_at(now).loss().is_none());
        self.leave_silence(now);
        self.open(now);
        self.send(now);
        let mut wake = now.after(LONGEST_SLEEP);
        for kept in self.kept.values() {
            wake = wake.min(kept.tenure.next_change(now));
            if matches!(self.link, Link::Open(_)) && kept.asked.is_none() {
                wake = wake.min(kept.next);
            }
        }
        if let Link::Closed(until) = self.link
            && !self.kept.is_empty()
        {
            wake = wake.min(until);
        }
        let wake = wake.max(now.after(SHORTEST_SLEEP));
        for kept in self.kept.values() {
            kept.tenure.due(wake);
        }
        wake
    }

    /// A renewal without an answer for as long as the next one would take: the stream is given up, and its endpoint where
    /// there is another.
    fn leave_silence(&mut self, now: Moment) {
        let silent = self.kept.values().any(|kept| {
            let asked = kept.asked;
            asked.is_some_and(|asked| asked.sent.until(now) > kept.tenure.ttl() / 3)
        });
        if silent {
            let link = std::mem::replace(&mut self.link, Link::Closed(now));
            if let Link::Open((_, receiver)) = link {
                receiver.blame();
            }
            self.forget_asked(now);
        }
    }

    fn open(&mut self, now: Moment) {
        let Link::Closed(until) = self.link else {
            return;
        };
        if self.kept.is_empty() || now < until {
            return;
        }
        let (channel, options) = (self.channel.clone(), self.options);
        self.link = Link::Opening(Box::pin(async move {
            channel.open(&rpc::LEASE_KEEP_ALIVE, &options).await
        }));
    }

    fn send(&mut self, now: Moment) {
        let Link::Open((sender, _)) = &mut self.link else {
            return;
        };
        for (&id, kept) in &mut self.kept {
            if kept.asked.is_none() && kept.next <= now {
                // The clock is read before it is sent: this moment is what the answer counts from.
                kept.asked = Some(Asked {
                    sent: Moment::now(),
                    revision: kept.tenure.revision(),
                });
                sender.send(&LeaseKeepAliveRequest { id });
            }
        }
    }

    /// Takes what came, and says when to look again at the latest.
    fn hear(&mut self, event: Event) -> Moment {
        let now = Moment::now();
        match event {
            Event::Opened(halves) => {
                self.link = Link::Open(halves);
                now
            }
            Event::Answer(answer) => {
                self.failures = 0;
                self.answered(answer, now)
            }
            Event::Ended(error) => {
                self.failures = self.failures.saturating_add(1);
                self.link = Link::Closed(now.after(ATTEMPTS.after(self.failures)));
                if let Some(error) = error {
                    tracing::debug!(%error, "a keepalive stream ended");
                    if matches!(error.kind, Kind::Unauthenticated | Kind::PermissionDenied) {
                        self.kept.values().for_each(|kept| kept.tenure.refused());
                    }
                }
                self.forget_asked(now);
                now
            }
        }
    }

    fn answered(&mut self, answer: LeaseKeepAliveResponse, now: Moment) -> Moment {
        let never = now.after(LONGEST_SLEEP);
        let Some(kept) = self.kept.get_mut(&answer.id) else {
            return never;
        };
        let Some(Asked { sent, revision }) = kept.asked.take() else {
            return never;
        };
        let ttl = ttl(answer.ttl);
        if ttl.is_zero() {
            kept.tenure.unknown(answer.header.into(), revision, now);
            self.kept.remove(&answer.id);
            never
        } else {
            kept.tenure.renewed(sent, ttl, answer.header.into(), now);
            kept.next = sent.after(interval(ttl));
            kept.next
        }
    }

    /// What was asked on the stream that ended is asked again at once on the next.
    fn forget_asked(&mut self, now: Moment) {
        for kept in self.kept.values_mut() {
            if kept.asked.take().is_some() {
                kept.next = now;
            }
        }
    }
}

/// From one renewal to the next: a third of the TTL, less up to a tenth of that by chance, so that the leases of a fleet that
/// was started together do not stay together.
fn interval(ttl: Duration) -> Duration {
    (ttl / 3).mul_f64(0.9 + fastrand::f64() / 10.0)
}
