//! What no gRPC library sends: requests that break HTTP's or gRPC's own rules, written over h2 itself.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Response};
use keystead_tests::{Server, on_both};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PUT: &str = "/etcdserverpb.KV/Put";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// How long a stream that is about to end may take.
const PATIENCE: Duration = Duration::from_secs(5);
const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// Sends one request and tells what came: HTTP's status, gRPC's code and text.
async fn send(server: &mut Server, path: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
    let socket = TcpStream::connect(server.address())
        .await
        .expect("the port listens");
    let (requests, connection) = h2::client::handshake(socket)
        .await
        .expect("it speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let answer = timeout(PATIENCE, ask(requests, path, headers, body)).await;
    connection.abort();
    answer.unwrap_or_else(|_| "it stays open".to_owned())
}

async fn ask(
    requests: SendRequest<Bytes>,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> String {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://localhost{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut requests = requests.ready().await.expect("the connection is open");
    let request = request.body(()).expect("a request");
    let (response, mut stream) = requests.send_request(request, false).expect("it is sent");
    // A server may have answered before the body came.
    stream.send_data(Bytes::copy_from_slice(body), true).ok();
    match response.await {
        Ok(response) => told(response).await,
        Err(error) => format!("no answer: {:?}", error.reason()),
    }
}

async fn told(response: Response<h2::RecvStream>) -> String {
    let (head, mut body) = response.into_parts();
    while let Some(Ok(chunk)) = body.data().await {
        body.flow_control()
            .release_capacity(chunk.len())
            .expect("it was ours");
    }
    let trailers = body.trailers().await.ok().flatten().unwrap_or_default();
    let status = |headers: &HeaderMap| {
        let text = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        text("grpc-status").map(|code| (code, text("grpc-message").unwrap_or_default()))
    };
    let (code, mut text) = status(&trailers)
        .or_else(|| status(&head.headers))
        .unwrap_or_default();
    // What is wrong with a message, each decoder says in its own words.
    for said in ["unmarshalling request: ", "the received message: "] {
        if let Some(at) = text.find(said) {
            text.truncate(at + said.len());
        }
    }
    format!("HTTP {}, code {code}: {text}", head.status.as_u16())
}

#[tokio::test]
async fn bodies_that_are_no_messages_are_refused_alike() {
    let put: &[u8] = &[0, 0, 0, 0, 6, 0x0a, 1, b'k', 0x12, 1, b'v'];
    let two = [put, put].concat();
    let bodies: [(&str, &[u8]); 9] = [
        ("whole", put),
        ("empty", &[]),
        ("half a prefix", &put[..3]),
        ("a prefix alone", &put[..5]),
        ("half a message", &put[..8]),
        ("compressed without a name for it", &[1, 0, 0, 0, 1, 0]),
        ("a flag that nobody knows", &[7, 0, 0, 0, 1, 0]),
        ("a message that is none", &[0, 0, 0, 0, 2, 0xff, 0xff]),
        ("two messages", &two),
    ];
    on_both(async |session| {
        for (what, body) in bodies {
            for path in [PUT, GRANT, WATCH] {
                let answer = send(session.server(), path, &[GRPC], body).await;
                session.note(format!("{path}, {what}: {answer}"));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn headers_that_break_the_rules_are_refused_alike() {
    let put: &[u8] = &[0, 0, 0, 0, 6, 0x0a, 1, b'k', 0x12, 1, b'v'];
    let headers: [&[(&str, &str)]; 11] = [
        &[],
        &[("content-type", "text/plain")],
        &[("content-type", "application/grpc+proto")],
        &[("content-type", "application/grpc;charset=utf-8")],
        &[("content-type", "application/grpcx")],
        &[GRPC, ("grpc-timeout", "")],
        &[GRPC, ("grpc-timeout", "S")],
        &[GRPC, ("grpc-timeout", "1X")],
        &[GRPC, ("grpc-timeout", "1234567890S")],
        &[GRPC, ("grpc-timeout", "-1S")],
        &[GRPC, ("grpc-encoding", "identity")],
    ];
    on_both(async |session| {
        for headers in headers {
            let answer = send(session.server(), PUT, headers, put).await;
            session.note(format!("{headers:?}: {answer}"));
        }
        for path in [
            "/",
            "/etcdserverpb.KV",
            "/etcdserverpb.KV/",
            "//",
            "/etcdserverpb.KV/Put/",
        ] {
            let answer = send(session.server(), path, &[GRPC], put).await;
            session.note(format!("{path}: {answer}"));
        }
    })
    .await;
}
