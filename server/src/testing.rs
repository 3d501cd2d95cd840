//! A gRPC client for tests, on `h2` alone: it can send what a proper client never would.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, Method, Request, Response};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::net::grpc;

/// What makes a request one of gRPC.
pub(crate) const GRPC: (&str, &str) = ("content-type", "application/grpc");

const PATIENCE: Duration = Duration::from_secs(30);

/// The body, and the code and text that ended the call.
pub(crate) type Answered = (Bytes, i32, String);

/// One connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Client(pub(crate) SendRequest<Bytes>);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        // h2's own budget for unread small frames would end a connection on which 200 calls are answered at once.
        Self::connect_with(
            address,
            Builder::new()
                .initial_window_size(4 << 20)
                .data_frame_budget(64 << 20),
        )
        .await
    }

    pub(crate) async fn connect_with(address: SocketAddr, builder: &Builder) -> Self {
        let socket = TcpStream::connect(address).await.expect("the port listens");
        Self::over(socket, builder).await
    }

    pub(crate) async fn over(
        socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        builder: &Builder,
    ) -> Self {
        let (client, connection) = builder.handshake(socket).await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        Self(client)
    }

    /// Sends headers; the body is the caller's.
    pub(crate) async fn open(
        &self,
        request: Request<()>,
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let mut ready = self
            .0
            .clone()
            .ready()
            .await
            .expect("the connection is open");
        ready
            .send_request(request, false)
            .expect("the request is sent")
    }

    /// One request with its whole body.
    pub(crate) async fn send(&self, request: Request<()>, body: Bytes) -> Answered {
        let (response, mut stream) = self.open(request).await;
        stream.send_data(body, true).expect("the body is sent");
        let answered = async { read(response.await.expect("a response")).await };
        timeout(PATIENCE, answered).await.expect("answered in time")
    }

    /// One gRPC call whose body is `body`, prefix included.
    pub(crate) async fn call(&self, path: &str, body: Bytes) -> Answered {
        self.send(request(path, &[GRPC]), body).await
    }

    /// One unary call; the error is the code and text.
    pub(crate) async fn unary<A: Message + Default>(
        &self,
        path: &str,
        message: &impl Message,
    ) -> Result<A, (i32, String)> {
        let mut answers = self.streamed(path, message).await?;
        assert_eq!(answers.len(), 1, "{path} answers with one message");
        Ok(answers.remove(0))
    }

    /// One call with one request and any number of answers.
    pub(crate) async fn streamed<A: Message + Default>(
        &self,
        path: &str,
        message: &impl Message,
    ) -> Result<Vec<A>, (i32, String)> {
        let (mut body, code, text) = self.call(path, grpc::framed(message)).await;
        if code != 0 {
            return Err((code, text));
        }
        let mut answers = Vec::new();
        while !body.is_empty() {
            let length = u32::from_be_bytes(body[1..5].try_into().expect("four bytes")) as usize;
            let frame = body.split_to(5 + length);
            answers.push(A::decode(&frame[5..]).expect("a message"));
        }
        Ok(answers)
    }
}

/// A POST to `path`.
pub(crate) fn request(path: &str, headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://t{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

/// `payload` behind its prefix.
pub(crate) fn framed(payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    grpc::put_prefix(&mut frame, payload.len());
    frame.put_slice(payload);
    frame.freeze()
}

/// Reads a response to its end.
pub(crate) async fn read(response: Response<RecvStream>) -> Answered {
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
    let refused_at_once = head.headers.contains_key("grpc-status");
    let (code, text) = status(if refused_at_once {
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
            .map(|value| value.to_str().expect("ASCII").to_owned())
    };
    let code = text("grpc-status")
        .expect("a status")
        .parse()
        .expect("a number");
    (
        code,
        text("grpc-message")
            .as_deref()
            .map(percent_decoded)
            .unwrap_or_default(),
    )
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).expect("texts are UTF-8")
}
