//! One client connection: HTTP/2 by `h2`, one task. It takes the calls that have arrived, hands each to the
//! handler, and only then lets what h2 wrote leave, so that one write carries many answers. It ends when the client goes, when
//! the client stops answering pings, or some time after the member began to stop.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Ping, PingPong, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::backlog::Backlog;
use super::call::Call;
use super::corked::{Cork, Corked, corked};
use super::listener::Taken;
use super::{ConnectionLimits, Handler};
use crate::config::Keepalive;

/// A stream's window: one request of the default size limit arrives without waiting for us.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// A connection's window, for several such requests.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// What one stream may have queued before [`Outgoing::ready`](super::grpc::Outgoing::ready) waits.
const SEND_BUFFER_BYTES: usize = 1 << 20;
const HEADER_LIST_BYTES: u32 = 64 << 10;
/// Clients of etcd cancel streams by the ten thousand; h2's own limits on resets would close their connections.
const RESET_STREAMS: usize = 1 << 20;
/// What h2 holds against unread small frames (256 bytes each): a stream of keepalives or watch requests is made of them.
const SMALL_FRAMES_BUDGET_BYTES: usize = 64 << 20;
/// How long a client may take to speak HTTP/2.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// Calls taken before they are handed on: bounds how long the first of them waits for the last.
const BATCH_CALLS: usize = 256;

type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

/// Serves a connection to its end.
///
/// # Errors
/// The runtime can't poll it; nothing was read.
pub(super) async fn serve(
    taken: Taken,
    limits: Rc<ConnectionLimits>,
    handler: Rc<impl Handler>,
    stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    match taken {
        Taken::Tcp(socket) => {
            speak(TcpStream::from_std(socket)?, limits, handler, stopping).await;
        }
        Taken::Unix(socket) => {
            speak(UnixStream::from_std(socket)?, limits, handler, stopping).await;
        }
    }
    Ok(())
}

async fn speak(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    limits: Rc<ConnectionLimits>,
    handler: Rc<impl Handler>,
    mut stopping: watch::Receiver<bool>,
) {
    let (socket, cork) = corked(socket);
    let handshake = timeout(HANDSHAKE_TIMEOUT, builder(&limits).handshake(socket));
    let Ok(Ok(http)) = handshake.await else {
        return;
    };
    let mut connection = Served::new(http, cork, limits.clone(), handler);
    tokio::select! {
        () = poll_fn(|cx| connection.poll(cx)) => return,
        _ = stopping.wait_for(|stop| *stop) => connection.http.graceful_shutdown(),
    }
    // What is still open after this is cut off: streams of watches have no end of their own.
    let _cut_off = timeout(limits.drain, poll_fn(|cx| connection.poll(cx))).await;
}

struct Served<S, H> {
    http: Connection<Corked<S>, Bytes>,
    cork: Cork<S>,
    limits: Rc<ConnectionLimits>,
    handler: Rc<H>,
    backlog: Rc<Backlog>,
    batch: Vec<Accepted>,
    probe: Option<Probe>,
}

impl<S: AsyncRead + AsyncWrite + Unpin, H: Handler> Served<S, H> {
    fn new(
        mut http: Connection<Corked<S>, Bytes>,
        cork: Cork<S>,
        limits: Rc<ConnectionLimits>,
        handler: Rc<H>,
    ) -> Self {
        let probe = http
            .ping_pong()
            .map(|pings| Probe::new(pings, limits.keepalive));
        Self {
            http,
            cork,
            limits,
            handler,
            backlog: Rc::default(),
            batch: Vec::new(),
            probe,
        }
    }

    /// One turn, and one write at its end. Ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.cork.hold();
        let turn = self.poll_turn(cx);
        match self.cork.poll_release(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            // Pending: the socket wakes this task when it takes more.
            Poll::Ready(Ok(())) | Poll::Pending => turn,
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(probe) = &mut self.probe
            && probe.poll_dead(cx).is_ready()
        {
            return Poll::Ready(());
        }
        loop {
            let ended = self.poll_batch(cx).is_ready();
            if self.batch.is_empty() {
                return if ended {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                };
            }
            self.hand_on();
        }
    }

    /// Collects the calls that have arrived. Ready when the connection has ended.
    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.batch.len() < BATCH_CALLS {
            if !self.backlog.has_room(cx) {
                return self.http.poll_closed(cx).map(|_ended| ());
            }
            match ready!(self.http.poll_accept(cx)) {
                Some(Ok(accepted)) => self.batch.push(accepted),
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    fn hand_on(&mut self) {
        for (request, respond) in self.batch.drain(..) {
            let call = Call::accept(
                request,
                respond,
                self.limits.max_message_bytes,
                self.backlog.clone(),
            );
            if let Some(call) = call {
                self.handler.handle(call);
            }
        }
    }
}

/// Asks the client for a sign of life, now and then.
struct Probe {
    pings: PingPong,
    keepalive: Keepalive,
    timer: Pin<Box<Sleep>>,
    asked: bool,
}

impl Probe {
    fn new(pings: PingPong, keepalive: Keepalive) -> Self {
        Self {
            pings,
            keepalive,
            timer: Box::pin(sleep(keepalive.interval)),
            asked: false,
        }
    }

    /// Ready when the client did not answer in time.
    fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.asked && self.pings.poll_pong(cx).is_ready() {
            self.rearm(false, self.keepalive.interval);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.asked || self.pings.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.rearm(true, self.keepalive.timeout);
            let _answer_comes_later = self.pings.poll_pong(cx);
        }
        Poll::Pending
    }

    fn rearm(&mut self, asked: bool, after: Duration) {
        self.asked = asked;
        self.timer.as_mut().reset(Instant::now() + after);
    }
}

fn builder(limits: &ConnectionLimits) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_concurrent_reset_streams(RESET_STREAMS)
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_local_error_reset_streams(None)
        .reset_stream_duration(Duration::ZERO)
        .data_frame_budget(SMALL_FRAMES_BUDGET_BYTES);
    builder
}
