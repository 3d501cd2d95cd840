//! gRPC over the `h2` crate with as little as a call needs: no tower, no codec layers, no per-call allocation beyond
//! the message. Every workload calls through here, so that the generator's own cost stays near the wire's.
//! It must never retry or hide an error: a failed call is a result that the report counts.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::{HeaderMap, Method, Request, Uri};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Length of gRPC's message prefix: one flag byte and a big-endian u32.
const PREFIX_BYTES: usize = 5;
/// Windows large enough that no answer of ours ever waits for a WINDOW_UPDATE.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 20;

/// A refusal by the server: its gRPC code and text.
#[derive(Debug, thiserror::Error)]
#[error("grpc status {code}: {message}")]
pub struct Status {
    pub code: u32,
    pub message: String,
}

/// One RPC of one server, ready to be sent: its URI and headers are built once.
#[derive(Clone)]
pub struct Rpc {
    uri: Uri,
    headers: HeaderMap,
}

impl Rpc {
    /// `path` is `/package.Service/Method`.
    pub fn new(server: SocketAddr, path: &str) -> Result<Rpc> {
        let uri = format!("http://{server}{path}")
            .parse()
            .context("server address")?;
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        Ok(Rpc { uri, headers })
    }

    fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Encodes a message with gRPC's prefix before it.
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + length);
    buffer.put_u8(0);
    buffer.put_u32(length as u32);
    message
        .encode(&mut buffer)
        .expect("the buffer was sized for the message");
    buffer.freeze()
}

/// One HTTP/2 connection. A clone calls over the same connection.
#[derive(Clone)]
pub struct Connection(SendRequest<Bytes>);

impl Connection {
    /// Connects; the connection is driven by a task on the current thread's runtime.
    pub async fn open(server: SocketAddr) -> Result<Connection> {
        let socket = TcpStream::connect(server)
            .await
            .with_context(|| format!("connect to {server}"))?;
        socket.set_nodelay(true)?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(Unvectored(socket))
            .await?;
        tokio::task::spawn_local(async move {
            // The calls in flight report how the connection ended.
            let _ = connection.await;
        });
        Ok(Connection(send))
    }

    /// One unary call: `message` is already framed, the answer is the bare message.
    pub async fn call(&mut self, rpc: &Rpc, message: Bytes) -> Result<Bytes> {
        let mut stream = self.stream(rpc).await?;
        stream.send.send_data(message, true)?;
        let answer = stream
            .next()
            .await?
            .context("the server ended a unary call without an answer")?;
        // The status follows the message; a stream that is dropped before it came would be reset.
        while stream.next().await?.is_some() {}
        Ok(answer)
    }

    /// Opens a stream; messages go out by [`Stream::send`] and come in by [`Stream::next`].
    pub async fn stream(&mut self, rpc: &Rpc) -> Result<Stream> {
        poll_fn(|context| self.0.poll_ready(context)).await?;
        let (response, send) = self.0.send_request(rpc.request(), false)?;
        Ok(Stream {
            send,
            answer: Answer::Waiting(response),
            pending: Bytes::new(),
        })
    }
}

/// A socket without vectored writes: h2 then copies frames of up to a kilobyte behind one another and writes them with
/// one call, where it would write each from 256 bytes on with a call of its own.
struct Unvectored(TcpStream);

impl AsyncRead for Unvectored {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Unvectored {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

enum Answer {
    Waiting(ResponseFuture),
    Flowing(RecvStream),
    Ended,
}

/// A call in flight.
pub struct Stream {
    send: SendStream<Bytes>,
    answer: Answer,
    pending: Bytes,
}

impl Stream {
    /// Sends one framed message and leaves the stream open.
    pub fn send(&mut self, message: Bytes) -> Result<()> {
        Ok(self.send.send_data(message, false)?)
    }

    /// Half-closes: the server may still answer.
    pub fn finish(&mut self) -> Result<()> {
        Ok(self.send.send_data(Bytes::new(), true)?)
    }

    /// The next message, or `None` when the server ended the call with OK.
    ///
    /// # Errors
    /// [`Status`] when the server ended the call with another code.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(message) = take_message(&mut self.pending) {
                return Ok(Some(message));
            }
            let Some(body) = self.body().await? else {
                return Ok(None);
            };
            match poll_fn(|context| body.poll_data(context)).await {
                Some(chunk) => {
                    let chunk = chunk?;
                    body.flow_control().release_capacity(chunk.len())?;
                    self.pending = join(std::mem::take(&mut self.pending), chunk);
                }
                None => {
                    let trailers = poll_fn(|context| body.poll_trailers(context)).await?;
                    self.answer = Answer::Ended;
                    check_status(trailers.as_ref())?;
                    return Ok(None);
                }
            }
        }
    }

    async fn body(&mut self) -> Result<Option<&mut RecvStream>> {
        if let Answer::Waiting(response) = &mut self.answer {
            let (head, body) = response.await?.into_parts();
            if head.headers.contains_key("grpc-status") {
                self.answer = Answer::Ended;
                check_status(Some(&head.headers))?;
            } else {
                self.answer = Answer::Flowing(body);
            }
        }
        match &mut self.answer {
            Answer::Flowing(body) => Ok(Some(body)),
            _ => Ok(None),
        }
    }
}

fn take_message(pending: &mut Bytes) -> Option<Bytes> {
    let prefix = pending.get(..PREFIX_BYTES)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if pending.len() < PREFIX_BYTES + length {
        return None;
    }
    pending.advance(PREFIX_BYTES);
    Some(pending.split_to(length))
}

/// Most chunks hold whole messages, so the copy is the exception.
fn join(rest: Bytes, chunk: Bytes) -> Bytes {
    if rest.is_empty() {
        return chunk;
    }
    let mut joined = BytesMut::with_capacity(rest.len() + chunk.len());
    joined.extend_from_slice(&rest);
    joined.extend_from_slice(&chunk);
    joined.freeze()
}

fn check_status(headers: Option<&HeaderMap>) -> Result<()> {
    let text = |name| {
        headers
            .and_then(|all| all.get(name))
            .and_then(|value| value.to_str().ok())
    };
    match text("grpc-status").and_then(|code| code.parse().ok()) {
        Some(0) => Ok(()),
        Some(code) => Err(Status {
            code,
            message: text("grpc-message").unwrap_or_default().to_owned(),
        }
        .into()),
        None => bail!("the answer ended without a grpc-status"),
    }
}
