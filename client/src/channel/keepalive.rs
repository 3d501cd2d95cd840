//! Drives one HTTP/2 connection and finds out when its other end is gone without a word.
//!
//! A connection that is in use and silent is pinged; when nothing at all is heard after that, it is given up, and every call on
//! it ends. An idle connection is left alone: etcd closes one that pings while nothing is asked.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

use super::lending::Drive;
use super::lookout::Lookout;
use super::socket::Metered;
use super::tcp::Tcp;
use crate::telemetry::{self, ConnectionEvent, Sink, TelemetrySink};

/// How often a connection in use is looked at.
const TICK: Duration = Duration::from_millis(250);
/// A call that is answered within this time never causes a ping.
const SILENCE: Duration = Duration::from_secs(1);
/// A look that comes so late says that this process did not run: the silence is its own.
const PAUSE: Duration = Duration::from_secs(2);

/// See `ConnectOptions`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keepalive {
    pub interval: Duration,
    pub timeout: Duration,
}

/// What the calls on a connection and its driver tell each other.
#[derive(Default)]
pub(super) struct Pulse {
    /// Counts what was read from the socket.
    heard: AtomicU64,
    /// Calls and streams that wait for the server.
    active: AtomicU32,
    /// Those of them that have one answer.
    calls: AtomicU32,
    ended: AtomicBool,
}

impl Pulse {
    /// Something was read from the socket.
    pub(super) fn hear(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// A number that changes whenever something is heard.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Counts a call or a stream as waiting until the result is dropped.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.active.fetch_add(1, Ordering::Relaxed);
        Waiting(self.clone())
    }

    /// One call at most waits for the server.
    pub(super) fn is_lone(&self) -> bool {
        self.calls.load(Ordering::Relaxed) <= 1
    }

    /// Nothing waits for the server but one call, which has not asked yet.
    fn is_unused(&self) -> bool {
        self.is_lone() && self.active.load(Ordering::Relaxed) == 0
    }

    /// Counts what waits as a call, too, until the result is dropped.
    pub(super) fn call(&self) -> Calling<'_> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Calling(self)
    }
}

/// A call that waits for the server.
pub(super) struct Waiting(Arc<Pulse>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One with a single answer.
pub(super) struct Calling<'a>(&'a Pulse);

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What drives one connection. It ends with the connection, which ends when nobody holds it and no stream is open.
pub(super) struct Driver {
    connection: h2::client::Connection<Metered, Bytes>,
    /// The socket, where it can be lent.
    tcp: Option<Arc<Tcp>>,
    pings: Option<PingPong>,
    pulse: Arc<Pulse>,
    keepalive: Keepalive,
    /// Runs while the connection is in use.
    timer: Option<Pin<Box<Sleep>>>,
    watch: Watch,
    /// It has let the calls of this turn go first.
    gathered: bool,
    /// Who is told of its end, and which endpoint it was.
    told: Option<(TelemetrySink, String)>,
}

impl Driver {
    pub(super) fn new(
        mut connection: h2::client::Connection<Metered, Bytes>,
        tcp: Option<Arc<Tcp>>,
        pulse: Arc<Pulse>,
        keepalive: Keepalive,
    ) -> Driver {
        Driver {
            pings: connection.ping_pong(),
            connection,
            tcp,
            pulse,
            keepalive,
            timer: None,
            watch: Watch::new(Instant::now()),
            gathered: false,
            told: None,
        }
    }

    /// Tells that the connection is there, and when it has ended.
    pub(super) fn tell(&mut self, sink: &Sink, endpoint: &str) {
        telemetry::connection(sink, endpoint, ConnectionEvent::Up, "");
        self.told = sink.clone().map(|sink| (sink, endpoint.to_owned()));
    }

    /// Drives the connection until the server has said something.
    pub(super) fn poll_until_heard(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), h2::Error>> {
        let driven = Pin::new(&mut self.connection).poll(context);
        if self.pulse.heard() > 0 && driven.is_pending() {
            return Poll::Ready(Ok(()));
        }
        match ready!(driven) {
            Ok(()) => Poll::Ready(Err(h2::Reason::NO_ERROR.into())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Looks at the connection once a tick. Ready when it is to be given up.
    fn poll_watch(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let timer = match &mut self.timer {
                Some(timer) => timer,
                None if self.pulse.active.load(Ordering::Relaxed) == 0 => return Poll::Pending,
                None => {
                    self.watch.begin(Instant::now());
                    self.timer.insert(Box::pin(sleep(TICK)))
                }
            };
            ready!(timer.as_mut().poll(context));
            let Some(pings) = &mut self.pings else {
                return Poll::Pending;
            };
            let seen = Seen {
                heard: self.pulse.heard(),
                in_use: self.pulse.active.load(Ordering::Relaxed) > 0,
                ponged: self.watch.is_pinged() && pings.poll_pong(context).is_ready(),
            };
            match self.watch.look(Instant::now(), seen, self.keepalive) {
                Next::Rest => {
                    self.timer = None;
                    return Poll::Pending;
                }
                Next::Wait => {}
                // A ping that cannot be sent is one that is still unanswered.
                Next::Ping => drop(pings.send_ping(Ping::opaque())),
                Next::GiveUp => return Poll::Ready(()),
            }
            self.timer = Some(Box::pin(sleep(TICK)));
        }
    }
}

impl Drive for Driver {
    fn drive(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let driver = self;
        if !driver.gathered && !driver.pulse.is_lone() {
            // The others whose turn it is may have something to say, too: all of it leaves in one write.
            driver.gathered = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        driver.gathered = false;
        // What has come is read first, so that silence is the server's and not ours.
        match Pin::new(&mut driver.connection).poll(context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => tracing::debug!(%error, "a connection broke"),
            Poll::Pending => {
                ready!(driver.poll_watch(context));
                tracing::warn!("nothing heard after a ping: the connection is given up");
            }
        }
        driver.pulse.ended.store(true, Ordering::Release);
        Poll::Ready(())
    }

    fn unwatch(&mut self, lookout: Option<&Arc<Lookout>>) -> Option<Arc<Tcp>> {
        let tcp = self.tcp.as_ref()?;
        // An event loop may be busy while something comes for a stream.
        if lookout.is_some() && !self.pulse.is_unused() {
            return None;
        }
        tcp.unwatch(lookout).then(|| tcp.clone())
    }

    fn looks_again(&self) -> bool {
        self.timer.is_some()
    }

    fn watch(&mut self) -> io::Result<()> {
        self.tcp.as_ref().map_or(Ok(()), |tcp| tcp.watch())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Also when the runtime drops the task.
        self.pulse.ended.store(true, Ordering::Release);
        if let Some((sink, endpoint)) = self.told.take() {
            telemetry::connection(&Some(sink), &endpoint, ConnectionEvent::Down, "");
        }
    }
}

/// What a look at the connection sees.
struct Seen {
    heard: u64,
    in_use: bool,
    ponged: bool,
}

/// What follows from a look.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It is not used and owes no answer: stop looking.
    Rest,
    Wait,
    Ping,
    GiveUp,
}

/// The rules, without a socket or a clock.
struct Watch {
    looked: Instant,
    heard: u64,
    silent_since: Instant,
    /// An unanswered ping.
    pinged: Option<Instant>,
    last_ping: Option<Instant>,
}

impl Watch {
    fn new(now: Instant) -> Watch {
        Watch {
            looked: now,
            heard: 0,
            silent_since: now,
            pinged: None,
            last_ping: None,
        }
    }

    /// The connection comes into use again: what was silent before does not count.
    fn begin(&mut self, now: Instant) {
        self.looked = now;
        self.silent_since = now;
    }

    fn is_pinged(&self) -> bool {
        self.pinged.is_some()
    }

    fn look(&mut self, now: Instant, seen: Seen, keepalive: Keepalive) -> Next {
        if seen.heard != self.heard || now - self.looked > PAUSE {
            self.heard = seen.heard;
            self.silent_since = now;
        }
        self.looked = now;
        if seen.ponged {
            self.pinged = None;
        }
        if let Some(pinged) = self.pinged {
            let unheard = now - pinged.max(self.silent_since);
            return if unheard >= keepalive.timeout {
                Next::GiveUp
            } else {
                Next::Wait
            };
        }
        if !seen.in_use {
            return Next::Rest;
        }
        let due = self
            .last_ping
            .is_none_or(|last| now - last >= keepalive.interval);
        if due && now - self.silent_since >= SILENCE.min(keepalive.interval) {
            self.pinged = Some(now);
            self.last_ping = Some(now);
            return Next::Ping;
        }
        Next::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPALIVE: Keepalive = Keepalive {
        interval: Duration::from_secs(6),
        timeout: Duration::from_secs(3),
    };

    /// Looks every tick for `time` and says when something other than waiting came of it.
    fn run(
        watch: &mut Watch,
        begin: Instant,
        time: Duration,
        mut seen: impl FnMut(Duration) -> Seen,
    ) -> Vec<(Duration, Next)> {
        let mut told = Vec::new();
        let mut at = TICK;
        while at <= time {
            let next = watch.look(begin + at, seen(at), KEEPALIVE);
            if next != Next::Wait {
                told.push((at, next));
            }
            at += TICK;
        }
        told
    }

    fn silent() -> Seen {
        Seen {
            heard: 0,
            in_use: true,
            ponged: false,
        }
    }

    #[test]
    fn a_black_hole_is_found_within_ten_seconds_however_it_falls() {
        let begin = Instant::now();
        // Until `from` everything is answered at once.
        for from in (0..16_000).step_by(130).map(Duration::from_millis) {
            let mut watch = Watch::new(begin);
            let mut heard = 0;
            let told = run(&mut watch, begin, Duration::from_secs(40), |at| {
                let alive = at <= from;
                heard += u64::from(alive);
                Seen {
                    heard,
                    in_use: true,
                    ponged: alive,
                }
            });
            let found = told.iter().find(|(_, next)| *next == Next::GiveUp);
            let found = found.expect("a black hole is found").0;
            assert!(
                found <= from + Duration::from_secs(10),
                "{from:?}: {found:?}"
            );
        }
    }

    #[test]
    fn an_idle_stream_is_pinged_no_more_often_than_etcd_allows() {
        let begin = Instant::now();
        let mut watch = Watch::new(begin);
        let told = run(&mut watch, begin, Duration::from_secs(60), |_| Seen {
            ponged: true,
            ..silent()
        });
        assert!(told.iter().all(|(_, next)| *next == Next::Ping));
        assert!(told.len() >= 9, "{told:?}");
        for pair in told.windows(2) {
            assert!(pair[1].0 - pair[0].0 > Duration::from_secs(5), "{told:?}");
        }
    }

    #[test]
    fn a_connection_that_nobody_uses_is_left_alone() {
        let begin = Instant::now();
        let mut watch = Watch::new(begin);
        let unused = Seen {
            in_use: false,
            ..silent()
        };
        assert_eq!(watch.look(begin + TICK, unused, KEEPALIVE), Next::Rest);
    }

    #[test]
    fn a_process_that_was_stopped_does_not_blame_the_server() {
        let begin = Instant::now();
        let mut watch = Watch::new(begin);
        let second = Duration::from_secs(1);
        assert_eq!(watch.look(begin + second, silent(), KEEPALIVE), Next::Ping);
        // Stopped for a minute with the ping on its way.
        let after = begin + Duration::from_secs(61);
        assert_eq!(watch.look(after, silent(), KEEPALIVE), Next::Wait);
        assert_eq!(watch.look(after + second, silent(), KEEPALIVE), Next::Wait);
        assert_eq!(
            watch.look(after + 3 * second, silent(), KEEPALIVE),
            Next::GiveUp
        );
    }

    #[test]
    fn anything_heard_is_as_good_as_the_pong() {
        let begin = Instant::now();
        let mut watch = Watch::new(begin);
        let mut heard = 0;
        let told = run(&mut watch, begin, Duration::from_secs(30), |at| {
            heard += u64::from(at > Duration::from_secs(2));
            Seen { heard, ..silent() }
        });
        assert_eq!(told, [(Duration::from_secs(1), Next::Ping)]);
    }
}
