//! The client port as an HTTP/2 client sees it: what every call must look like, and what a bad client cannot do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Response};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Call, ConnectionLimits, Handler, Shards, StartShards, bind, grpc};
use crate::config::Keepalive;
use crate::error::{Code, GrpcStatus};

const LIMIT_BYTES: usize = 2 << 20;
const BIG_BYTES: usize = 8 << 20;

/// Answers `/t/Echo` with its message, `/t/Length` with the length of it, `/t/Big` with a lot, `/t/Stream` with each
/// message in turn.
struct Echo;

impl Handler for Echo {
    fn handle(&self, call: Call) {
        match call.path() {
            "/t/Echo" => call.unary(|message, _, reply| reply.answer(framed(&message))),
            "/t/Length" => {
                call.unary(|message, _, reply| reply.answer(framed(&message.len().to_be_bytes())))
            }
            "/t/Big" => call.unary(|_, _, reply| reply.answer(framed(&vec![7; BIG_BYTES]))),
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

fn framed(payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    grpc::put_prefix(&mut frame, payload.len());
    frame.put_slice(payload);
    frame.freeze()
}

/// A port that serves [`Echo`], stopped when dropped.
struct Port {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    shards: Option<Shards>,
}

impl Port {
    fn open() -> Self {
        Self::with(Keepalive::default())
    }

    fn with(keepalive: Keepalive) -> Self {
        let (stop, stopping) = watch::channel(false);
        let bound = bind(&[SocketAddr::from(([127, 0, 0, 1], 0))]).expect("a free port");
        let address = bound.addresses()[0];
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
            handler: || Echo,
            stopping,
        }
        .start(bound)
        .expect("threads");
        Self {
            address,
            stop,
            shards: Some(shards),
        }
    }

    async fn client(&self) -> SendRequest<Bytes> {
        self.client_with(h2::client::Builder::new().initial_window_size(4 << 20))
            .await
    }

    async fn client_with(&self, builder: &h2::client::Builder) -> SendRequest<Bytes> {
        let socket = TcpStream::connect(self.address)
            .await
            .expect("the port listens");
        let (client, connection) = builder.handshake(socket).await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        client
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

fn request(path: &str, headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://t{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// The body, and the code and text that ended the call.
type Answered = (Bytes, i32, String);

async fn send(client: &mut SendRequest<Bytes>, request: Request<()>, body: Bytes) -> Answered {
    let (response, mut stream) = client
        .clone()
        .ready()
        .await
        .expect("open")
        .send_request(request, false)
        .expect("sent");
    stream.send_data(body, true).expect("sent");
    timeout(
        Duration::from_secs(20),
        read(response.await.expect("a response")),
    )
    .await
    .expect("answered in time")
}

async fn call(client: &mut SendRequest<Bytes>, path: &str, body: Bytes) -> Answered {
    send(client, request(path, &[GRPC]), body).await
}

async fn read(response: Response<h2::RecvStream>) -> Answered {
    let (head, mut body) = response.into_parts();
    let mut whole = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.expect("the stream is not reset");
        body.flow_control()
            .release_capacity(chunk.len())
            .expect("it was ours");
        whole.extend_from_slice(&chunk);
    }
    let trailers = body
        .trailers()
        .await
        .expect("the stream is not reset")
        .unwrap_or_default();
    let (code, text) = status(if head.headers.contains_key("grpc-status") {
        &head.headers
    } else {
        &trailers
    });
    (whole.freeze(), code, text)
}

fn status(headers: &HeaderMap) -> (i32, String) {
    let text = |name: &str| {
        headers
            .get(name)
            .map(|v| v.to_str().expect("ASCII").to_owned())
    };
    (
        text("grpc-status")
            .expect("a status")
            .parse()
            .expect("a number"),
        text("grpc-message").unwrap_or_default(),
    )
}

#[tokio::test]
async fn a_unary_call_is_answered_with_one_message_and_success() {
    let port = Port::open();
    let answered = call(&mut port.client().await, "/t/Echo", framed(b"hello")).await;
    assert_eq!(answered, (framed(b"hello"), 0, String::new()));
}

#[tokio::test]
async fn a_request_that_is_not_grpc_is_refused_in_words() {
    let port = Port::open();
    let client = &mut port.client().await;
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
            "malformed grpc-timeout: \"9x\"",
        ),
        (
            request("/t/Echo", &[GRPC, ("grpc-encoding", "zstd")]),
            12,
            "grpc: Decompressor is not installed for grpc-encoding \"zstd\"",
        ),
        (request("/t/Nothing", &[GRPC]), 12, "unknown 100 %25"),
    ] {
        let answered = send(client, request, framed(b"x")).await;
        assert_eq!(answered, (Bytes::new(), code, text.to_owned()));
    }
    assert_eq!(call(client, "/t/Echo", framed(b"still here")).await.1, 0);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_the_connection_goes_on() {
    let port = Port::open();
    let client = &mut port.client().await;
    let answered = call(client, "/t/Length", framed(&vec![1; LIMIT_BYTES + 1])).await;
    let text = "grpc: received message larger than max (2097153 vs. 2097152)";
    assert_eq!(answered, (Bytes::new(), 8, text.to_owned()));
    assert_eq!(
        call(client, "/t/Length", framed(&vec![1; LIMIT_BYTES]))
            .await
            .1,
        0
    );
}

#[tokio::test]
async fn a_compressed_message_is_refused() {
    let port = Port::open();
    let answered = call(
        &mut port.client().await,
        "/t/Echo",
        Bytes::from_static(&[1, 0, 0, 0, 1, 9]),
    )
    .await;
    let text = "grpc: compressed flag set with identity or empty encoding";
    assert_eq!(answered, (Bytes::new(), 13, text.to_owned()));
}

#[tokio::test]
async fn a_body_without_a_message_or_with_half_of_one_is_refused() {
    let port = Port::open();
    let client = &mut port.client().await;
    assert_eq!(call(client, "/t/Echo", Bytes::new()).await.1, 13);
    assert_eq!(
        call(client, "/t/Echo", Bytes::from_static(&[0, 0, 0, 0, 9, 1]))
            .await
            .1,
        13
    );
}

#[tokio::test]
async fn large_requests_in_parallel_do_not_starve_each_other_of_window() {
    let port = Port::open();
    let client = port.client().await;
    let mut calls = JoinSet::new();
    for _ in 0..24 {
        let mut client = client.clone();
        calls.spawn(
            async move { call(&mut client, "/t/Length", framed(&vec![1; 1_500_000])).await },
        );
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
    let mut client = port.client().await;
    for _ in 0..10_000 {
        let ready = client.clone().ready().await.expect("still open");
        let (_, mut stream) = { ready }
            .send_request(request("/t/Stream", &[GRPC]), false)
            .expect("sent");
        stream.send_reset(h2::Reason::CANCEL);
        // Lets the connection's task write now and then, so that some are reset before and some after they are taken.
        if rand_like(&stream) {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(call(&mut client, "/t/Echo", framed(b"alive")).await.1, 0);
}

/// One stream in sixteen.
fn rand_like(stream: &h2::SendStream<Bytes>) -> bool {
    stream.stream_id().as_u32() % 32 == 1
}

#[tokio::test]
async fn a_stream_of_many_small_messages_is_echoed_in_order() {
    let port = Port::open();
    let client = port
        .client_with(h2::client::Builder::new().data_frame_budget(64 << 20))
        .await;
    let (response, mut stream) = client
        .ready()
        .await
        .expect("open")
        .send_request(request("/t/Stream", &[GRPC]), false)
        .expect("sent");
    let body: BytesMut = (0u32..20_000)
        .flat_map(|n| framed(&n.to_be_bytes()))
        .collect();
    let sent = body.clone().freeze();
    tokio::spawn(async move {
        for piece in sent.chunks(9) {
            stream
                .send_data(Bytes::copy_from_slice(piece), false)
                .expect("the stream is open");
        }
        stream
            .send_data(Bytes::new(), true)
            .expect("the stream is open");
    });
    let (echoed, code, _) = timeout(
        Duration::from_secs(20),
        read(response.await.expect("a response")),
    )
    .await
    .expect("in time");
    assert_eq!(code, 0);
    assert_eq!(echoed, body);
}

#[tokio::test]
async fn a_client_that_never_reads_holds_up_nobody_and_can_read_later() {
    let port = Port::open();
    let slow = port
        .client_with(h2::client::Builder::new().initial_window_size(65_535))
        .await;
    let mut unread = Vec::new();
    for _ in 0..30 {
        let ready = slow.clone().ready().await.expect("open");
        let (response, mut stream) = { ready }
            .send_request(request("/t/Big", &[GRPC]), false)
            .expect("sent");
        stream.send_data(framed(b"x"), true).expect("sent");
        unread.push(response);
    }
    let quick = call(&mut port.client().await, "/t/Echo", framed(b"quick")).await;
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
async fn a_client_that_answers_no_ping_is_dropped() {
    let keepalive = Keepalive {
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(100),
        ..Keepalive::default()
    };
    let port = Port::with(keepalive);
    let address = port.address;
    let silent = tokio::task::spawn_blocking(move || {
        let mut socket = StdStream::connect(address).expect("the port listens");
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        socket
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .expect("sent");
        let mut said = Vec::new();
        socket.read_to_end(&mut said)
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
    let (response, mut stream) = client
        .clone()
        .ready()
        .await
        .expect("open")
        .send_request(request("/t/Echo", &[GRPC]), false)
        .expect("sent");
    assert_eq!(
        call(&mut client.clone(), "/t/Echo", framed(b"other"))
            .await
            .1,
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
        client.ready().await.is_err(),
        "the connection was told to go away"
    );
}
