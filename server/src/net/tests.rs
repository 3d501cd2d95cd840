//! The client port as an HTTP/2 client sees it: what every call must look like, and what a bad client cannot do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::Builder;
use http::{Method, Request};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Call, ConnectionLimits, Handler, Shards, StartShards, bind};
use crate::config::{Keepalive, ListenAddress};
use crate::error::{Code, GrpcStatus};
use crate::testing::{Client, GRPC, framed, read, request};

const LIMIT_BYTES: usize = 2 << 20;
const BIG_BYTES: usize = 8 << 20;
const PAGE_BYTES: usize = 50_000;
const CONNECTIONS: usize = 100;

/// Answers `/t/Echo` with its message, `/t/Length` with the length of it, `/t/Big` and `/t/Page` with a lot, `/t/Stream` with each
/// message in turn.
struct Echo {
    pages: Arc<AtomicUsize>,
}

impl Handler for Echo {
    fn handle(&self, call: Call) {
        match call.path() {
            "/t/Echo" => call.unary(|message, _, reply| reply.answer(framed(&message))),
            "/t/Length" => {
                call.unary(|message, _, reply| reply.answer(framed(&message.len().to_be_bytes())))
            }
            "/t/Big" => call.unary(|_, _, reply| reply.answer(framed(&vec![7; BIG_BYTES]))),
            "/t/Page" => {
                let pages = self.pages.clone();
                call.unary(move |_, _, reply| {
                    pages.fetch_add(1, Ordering::Relaxed);
                    reply.answer(framed(&vec![7; PAGE_BYTES]));
                })
            }
            "/t/Stream" => stream(call),
            _ => call.refuse(&GrpcStatus::new(Code::Unimplemented, "unknown 100 %")),
        }
    }
}

fn stream(call: Call) {
    let Ok((_, mut incoming, mut outgoing)) = call.stream() else {
        return;
    };
    tokio::task::spawn_local(async move {
        loop {
            match incoming.message().await {
                Ok(Some(message)) => outgoing.try_send(message),
                Ok(None) => return outgoing.finish(GrpcStatus::OK),
                Err(status) => return outgoing.finish(status),
            }
            if outgoing.ready().await.is_err() {
                return;
            }
        }
    });
}

/// A port that serves [`Echo`], stopped when dropped.
struct Port {
    address: SocketAddr,
    /// Has the socket file beside the port.
    dir: TempDir,
    pages: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    shards: Option<Shards>,
}

impl Port {
    fn open() -> Self {
        Self::with(Keepalive::default())
    }

    fn with(keepalive: Keepalive) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (stop, stopping) = watch::channel(false);
        let pages = Arc::new(AtomicUsize::new(0));
        let counted = pages.clone();
        let anywhere = ListenAddress::Tcp(([127, 0, 0, 1], 0).into());
        let file = ListenAddress::Unix(dir.path().join("localhost:2379"));
        let bound = bind(&[anywhere, file]).expect("a free port and a directory");
        let ListenAddress::Tcp(address) = bound.addresses()[0] else {
            panic!("the first is a port")
        };
        let drain = Duration::from_millis(500);
        let limits = ConnectionLimits {
            max_message_bytes: LIMIT_BYTES,
            max_concurrent_streams: u32::MAX,
            keepalive,
            drain,
        };
        let shards = StartShards {
            count: 1,
            limits,
            connections: CONNECTIONS,
            handler: move |_| Echo {
                pages: counted.clone(),
            },
            stopping,
        }
        .start(bound)
        .expect("threads");
        Self {
            address,
            dir,
            pages,
            stop,
            shards: Some(shards),
        }
    }

    async fn client(&self) -> Client {
        Client::connect(self.address).await
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(shards) = self.shards.take() {
            shards.join();
        }
    }
}

#[tokio::test]
async fn a_unary_call_is_answered_with_one_message_and_success() {
    let port = Port::open();
    let answered = port.client().await.call("/t/Echo", framed(b"hello")).await;
    assert_eq!(answered, (framed(b"hello"), 0, String::new()));
}

#[tokio::test]
async fn a_socket_file_is_served_as_the_port_is_and_goes_when_the_port_stops() {
    let mut port = Port::open();
    let file = port.dir.path().join("localhost:2379");
    let socket = UnixStream::connect(&file).await.expect("it listens");
    let client = Client::over(socket, &Builder::new()).await;
    let answered = client.call("/t/Echo", framed(b"hello")).await;
    assert_eq!(answered, (framed(b"hello"), 0, String::new()));
    port.stop.send_replace(true);
    port.shards.take().expect("running").join();
    assert!(!file.exists());
}

#[tokio::test]
async fn a_request_that_is_not_grpc_is_refused_in_words() {
    let port = Port::open();
    let client = port.client().await;
    let get = Request::builder()
        .method(Method::GET)
        .uri("http://t/t/Echo")
        .header(GRPC.0, GRPC.1);
    for (request, code, text) in [
        (
            request("/t/Echo", &[]),
            3,
            "invalid gRPC request content-type \"\"",
        ),
        (
            request("/t/Echo", &[("content-type", "text/plain")]),
            3,
            "invalid gRPC request content-type \"text/plain\"",
        ),
        (
            get.body(()).expect("a request"),
            13,
            "Received a HEADERS frame with :method \"GET\" which should be POST",
        ),
        (
            request("/t/Echo", &[GRPC, ("grpc-timeout", "9x")]),
            13,
            "malformed grpc-timeout: transport: timeout unit is not recognized: \"9x\"",
        ),
        (
            request("/t/Echo", &[GRPC, ("grpc-encoding", "zstd")]),
            12,
            "grpc: Decompressor is not installed for grpc-encoding \"zstd\"",
        ),
        (request("/t/Nothing", &[GRPC]), 12, "unknown 100 %"),
    ] {
        let answered = client.send(request, framed(b"x")).await;
        assert_eq!(answered, (Bytes::new(), code, text.to_owned()));
    }
    assert_eq!(client.call("/t/Echo", framed(b"still here")).await.1, 0);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_the_connection_goes_on() {
    let port = Port::open();
    let client = port.client().await;
    let answered = client
        .call("/t/Length", framed(&vec![1; LIMIT_BYTES + 1]))
        .await;
    let text = "grpc: received message larger than max (2097153 vs. 2097152)";
    assert_eq!(answered, (Bytes::new(), 8, text.to_owned()));
    assert_eq!(
        client
            .call("/t/Length", framed(&vec![1; LIMIT_BYTES]))
            .await
            .1,
        0
    );
}

#[tokio::test]
async fn a_compressed_message_is_refused() {
    let port = Port::open();
    let answered = port
        .client()
        .await
        .call("/t/Echo", Bytes::from_static(&[1, 0, 0, 0, 1, 9]))
        .await;
    let text = "grpc: compressed flag set with identity or empty encoding";
    assert_eq!(answered, (Bytes::new(), 13, text.to_owned()));
}

#[tokio::test]
async fn a_body_without_a_message_or_with_half_of_one_is_refused() {
    let port = Port::open();
    let client = port.client().await;
    for (body, text) in [(&[][..], "EOF"), (&[0, 0, 0, 0, 9, 1], "unexpected EOF")] {
        let answered = client.call("/t/Echo", Bytes::from_static(body)).await;
        assert_eq!(answered, (Bytes::new(), 2, text.to_owned()));
    }
}

#[tokio::test]
async fn large_requests_in_parallel_do_not_starve_each_other_of_window() {
    let port = Port::open();
    let client = port.client().await;
    let mut calls = JoinSet::new();
    for _ in 0..24 {
        let client = client.clone();
        calls.spawn(async move { client.call("/t/Length", framed(&vec![1; 1_500_000])).await });
    }
    while let Some(answered) = calls.join_next().await {
        assert_eq!(
            answered.expect("no panic"),
            (framed(&1_500_000usize.to_be_bytes()), 0, String::new())
        );
    }
}

#[tokio::test]
async fn ten_thousand_cancelled_streams_do_not_close_the_connection() {
    let port = Port::open();
    let client = port.client().await;
    for n in 0..10_000 {
        let (_, mut stream) = client.open(request("/t/Stream", &[GRPC])).await;
        stream.send_reset(h2::Reason::CANCEL);
        // Lets the connection's task write now and then: some are reset before the server takes them, some after.
        if n % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(client.call("/t/Echo", framed(b"alive")).await.1, 0);
}

#[tokio::test]
async fn a_stream_of_many_small_messages_is_echoed_in_order() {
    let port = Port::open();
    let client =
        Client::connect_with(port.address, Builder::new().data_frame_budget(64 << 20)).await;
    let (response, mut stream) = client.open(request("/t/Stream", &[GRPC])).await;
    let body: BytesMut = (0u32..20_000)
        .flat_map(|n| framed(&n.to_be_bytes()))
        .collect();
    for piece in body.chunks(9) {
        stream
            .send_data(Bytes::copy_from_slice(piece), false)
            .expect("the stream is open");
    }
    stream
        .send_data(Bytes::new(), true)
        .expect("the stream is open");
    let echoed = async { read(response.await.expect("a response")).await };
    let (echoed, code, _) = timeout(Duration::from_secs(20), echoed)
        .await
        .expect("in time");
    assert_eq!(code, 0);
    assert_eq!(echoed, body);
}

#[tokio::test]
async fn a_client_that_never_reads_holds_up_nobody_and_can_read_later() {
    let port = Port::open();
    let slow = Client::connect_with(port.address, Builder::new().initial_window_size(65_535)).await;
    let mut unread = Vec::new();
    for _ in 0..30 {
        let (response, mut stream) = slow.open(request("/t/Big", &[GRPC])).await;
        stream.send_data(framed(b"x"), true).expect("sent");
        unread.push(response);
    }
    let quick = port.client().await.call("/t/Echo", framed(b"quick")).await;
    assert_eq!(quick.1, 0, "another client is served meanwhile");
    // All at once: the connection's window is shared, so none of them arrives whole while another is not read.
    let mut reads = JoinSet::new();
    for response in unread {
        reads.spawn(async move { read(response.await.expect("a response")).await });
    }
    let all = timeout(Duration::from_secs(30), reads.join_all())
        .await
        .expect("in time");
    assert!(
        all.iter()
            .all(|(body, code, _)| (body.len(), *code) == (BIG_BYTES + 5, 0))
    );
}

#[tokio::test]
async fn a_client_that_asks_and_never_reads_is_not_asked_for_more_than_fits() {
    const CALLS: usize = 4000;
    let port = Port::open();
    let client =
        Client::connect_with(port.address, Builder::new().initial_window_size(65_535)).await;
    let mut unread = Vec::new();
    for _ in 0..CALLS {
        let (response, mut stream) = client.open(request("/t/Page", &[GRPC])).await;
        stream.send_data(framed(b"x"), true).expect("sent");
        unread.push(response);
    }
    let mut answered = 0;
    // Until no further call is answered for a while.
    while std::mem::replace(&mut answered, port.pages.load(Ordering::Relaxed)) < answered
        || answered == 0
    {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(
        (1000..2000).contains(&answered),
        "64 MiB of answers wait, those of {answered} calls"
    );
    let mut reads = JoinSet::new();
    for response in unread {
        reads.spawn(async move { read(response.await.expect("a response")).await });
    }
    let all = timeout(Duration::from_secs(60), reads.join_all())
        .await
        .expect("in time");
    assert!(
        all.iter()
            .all(|(body, code, _)| (body.len(), *code) == (PAGE_BYTES + 5, 0))
    );
    assert_eq!(port.pages.load(Ordering::Relaxed), CALLS);
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_dropped() {
    let (interval, patience) = (Duration::from_millis(100), Duration::from_millis(100));
    let port = Port::with(Keepalive {
        interval,
        timeout: patience,
    });
    let address = port.address;
    let silent = tokio::task::spawn_blocking(move || {
        let mut socket = StdStream::connect(address).expect("the port listens");
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        socket.write_all(preface).expect("sent");
        socket.read_to_end(&mut Vec::new())
    });
    silent
        .await
        .expect("no panic")
        .expect("the server closes the connection before the read times out");
}

#[tokio::test]
async fn a_stopping_port_finishes_what_it_began_and_takes_no_more() {
    let port = Port::open();
    let client = port.client().await;
    let (response, mut stream) = client.open(request("/t/Echo", &[GRPC])).await;
    assert_eq!(
        client.call("/t/Echo", framed(b"other")).await.1,
        0,
        "the first call has arrived"
    );
    port.stop.send_replace(true);
    stream.send_data(framed(b"late"), true).expect("sent");
    assert_eq!(
        read(response.await.expect("a response")).await,
        (framed(b"late"), 0, String::new())
    );
    drop(port);
    assert!(
        client.0.ready().await.is_err(),
        "the connection was told to go away"
    );
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_ends() {
    let port = Port::open();
    let served = port.client().await;
    assert_eq!(served.call("/t/Echo", framed(b"x")).await.1, 0);
    // One place is taken, and the acceptors of the port and of the socket file hold one each while they wait.
    let mut idle: Vec<_> = (1..CONNECTIONS)
        .map(|_| StdStream::connect(port.address).expect("the kernel takes it"))
        .collect();
    let address = port.address;
    let mut late = tokio::spawn(async move {
        let client = Client::connect(address).await;
        client.call("/t/Echo", framed(b"late")).await
    });
    let early = timeout(Duration::from_millis(300), &mut late).await;
    assert!(early.is_err(), "nobody serves it yet");
    assert_eq!(served.call("/t/Echo", framed(b"x")).await.1, 0);
    idle.clear();
    assert_eq!(late.await.expect("no panic").1, 0, "it is served now");
}

/// An HTTP/2 client's first bytes, with empty settings.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a test's frame is small");
    let head = [&length.to_be_bytes()[1..], &[kind, flags]].concat();
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// Bytes that look like chance and are the same in every run.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
}

/// Sends the pieces as long as they are taken, and reads until the server closes the connection; panics if it does not.
async fn until_closed(address: SocketAddr, pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) {
    let closed = tokio::task::spawn_blocking(move || {
        let mut socket = StdStream::connect(address).expect("the port listens");
        let limit = Some(Duration::from_secs(15));
        socket.set_read_timeout(limit).expect("a timeout");
        for piece in pieces {
            if socket.write_all(&piece).is_err() {
                return true;
            }
        }
        match socket.read_to_end(&mut Vec::new()) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    });
    assert!(closed.await.expect("no panic"), "the server closes it");
}

#[tokio::test]
async fn what_is_not_http2_ends_its_own_connection_and_no_other() {
    let port = Port::open();
    let client = port.client().await;
    let tls = [&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], &[7; 506]].concat();
    let http = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let chance = (1..30).map(|seed| noise(seed).take(50 * seed as usize).collect());
    for bytes in [tls, http].into_iter().chain(chance) {
        until_closed(port.address, std::iter::once(bytes)).await;
    }
    assert_eq!(client.call("/t/Echo", framed(b"x")).await.1, 0);
}

#[tokio::test]
async fn frames_made_by_chance_hold_up_nobody() {
    let port = Port::open();
    let client = port.client().await;
    for seed in 1..300 {
        let mut bytes = noise(seed);
        let mut next = || bytes.next().unwrap_or_default();
        let mut sent = HELLO.to_vec();
        for _ in 0..20 {
            let (kind, flags, stream, length) = (next() % 12, next(), next() % 9, next());
            let payload: Vec<u8> = (0..length).map(|_| next()).collect();
            sent.extend(frame(kind, flags, stream.into(), &payload));
        }
        let mut socket = StdStream::connect(port.address).expect("the port listens");
        // Refused once the server has had enough.
        let _ = socket.write_all(&sent);
    }
    assert_eq!(client.call("/t/Echo", framed(b"x")).await.1, 0);
}

#[tokio::test]
async fn headers_without_an_end_end_the_connection() {
    let port = Port::open();
    let client = port.client().await;
    let start = [HELLO, &frame(1, 0, 1, b"\x83\x86")].concat();
    // A literal field of 100 bytes, over and over: far more than any list of headers may have.
    let field = [&b"\0\x01a\x60"[..], &[b'b'; 96]].concat();
    let more = std::iter::repeat_n(frame(9, 0, 1, &field.repeat(100)), 5000);
    until_closed(port.address, std::iter::once(start).chain(more)).await;
    assert_eq!(client.call("/t/Echo", framed(b"x")).await.1, 0);
}
