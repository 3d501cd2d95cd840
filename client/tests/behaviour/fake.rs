//! A gRPC server in this process that follows a script, frame by frame: it resets, goes away, breaks off and falls silent
//! at the very point it is told to. It knows no method: it reads the key of a request (field 1 of Put, Range and
//! DeleteRange) and answers a header, which is a valid answer to all of them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut, Bytes};
use keystead_client::ConnectOptions;
use keystead_proto::etcdserverpb::{PutResponse, ResponseHeader};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

const PREFACE_BYTES: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// HTTP/2's error codes.
pub const INTERNAL_ERROR: u32 = 2;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// What to do with the next request.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Run it and answer.
    Answer,
    /// Run it, and answer it when a ping was.
    AnswerPonged,
    /// Run it and answer these messages, then OK.
    Messages(Vec<Bytes>),
    /// Refuse it with this code and text, without running it.
    Refuse(i32, &'static str),
    /// Run it, and answer this code and text none the less.
    Fail(i32, &'static str),
    /// Reset the stream at its head, without running it.
    ResetHead(u32),
    /// Run it and reset the stream.
    Reset(u32),
    /// Say that this stream and all newer ones are not looked at.
    GoAwayBefore,
    /// Run it, say that nothing newer than what is open is looked at, and answer.
    GoAwayAfter,
    /// Close the connection at the request's head.
    DropAtHead,
    /// Run it and close the connection without an answer.
    DropAfter,
    /// Run it, answer the message, and close the connection before the status.
    DropBeforeStatus,
    /// Run it and never answer, alive otherwise.
    Ignore,
    /// Run it and say nothing any more on this connection, not even to a ping.
    BlackHole,
    /// Answer as a proxy does whose server is down.
    Http503,
}

impl Act {
    /// Whether the request runs.
    pub fn runs(&self) -> bool {
        !matches!(
            self,
            Act::Refuse(..)
                | Act::ResetHead(_)
                | Act::GoAwayBefore
                | Act::DropAtHead
                | Act::Http503
        )
    }
}

/// A running fake.
pub struct Fake {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: AbortHandle,
}

#[derive(Default)]
struct Shared {
    script: Mutex<VecDeque<Act>>,
    /// The key of each request that ran, in order.
    ran: Mutex<Vec<Bytes>>,
    /// What was decided for each request that came, in order.
    acts: Mutex<Vec<Act>>,
    connections: Mutex<usize>,
    pings: Mutex<usize>,
}

impl Fake {
    /// Starts one. After the script every request is answered.
    pub async fn start(script: impl IntoIterator<Item = Act>) -> Fake {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Fake::start_at(anywhere, script).await
    }

    /// The same, where another one was.
    pub async fn start_at(address: SocketAddr, script: impl IntoIterator<Item = Act>) -> Fake {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            script: Mutex::new(script.into_iter().collect()),
            ..Shared::default()
        });
        let serving = shared.clone();
        let listening = tokio::spawn(async move {
            // When this task is aborted its connections are, too.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                *serving.connections.lock().expect("no test panics there") += 1;
                connections.spawn(Connection::serve(socket, serving.clone()));
            }
        });
        Fake {
            address,
            shared,
            listening: listening.abort_handle(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How to connect to this one alone.
    pub fn options(&self) -> ConnectOptions {
        ConnectOptions::new([self.url()])
    }

    /// The keys of the requests that ran.
    pub fn ran(&self) -> Vec<Bytes> {
        self.shared
            .ran
            .lock()
            .expect("no test panics there")
            .clone()
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.shared.acts.lock().expect("no test panics there").len()
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        *self
            .shared
            .connections
            .lock()
            .expect("no test panics there")
    }

    /// How many pings came.
    pub fn pings(&self) -> usize {
        *self.shared.pings.lock().expect("no test panics there")
    }

    /// Ends the server and all of its connections.
    pub fn stop(&self) {
        self.listening.abort();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A message with gRPC's prefix.
pub fn framed(message: &impl Message) -> Bytes {
    let mut frame = vec![0];
    frame.put_u32(message.encoded_len() as u32);
    frame.extend_from_slice(&message.encode_to_vec());
    frame.into()
}

/// An answer to Put, Range and DeleteRange.
fn answer() -> Bytes {
    framed(&PutResponse {
        header: Some(ResponseHeader {
            revision: 7,
            ..Default::default()
        }),
        prev_kv: None,
    })
}

struct Connection {
    socket: TcpStream,
    shared: Arc<Shared>,
    /// Requests whose end has not come: stream, what will be done, what came.
    open: Vec<(u32, Act, Vec<u8>)>,
    /// The newest stream that was looked at.
    newest: u32,
    /// It was said that nothing newer will be.
    gone_away: bool,
    /// The stream that is answered when a ping was.
    pinged_for: Option<u32>,
}

/// What follows a frame.
enum Next {
    On,
    Close,
    Hang,
}

impl Connection {
    async fn serve(socket: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
        // Frame by frame: the next one does not wait until the last is acknowledged.
        socket.set_nodelay(true)?;
        let mut connection = Connection {
            socket,
            shared,
            open: Vec::new(),
            newest: 0,
            gone_away: false,
            pinged_for: None,
        };
        let mut preface = [0; PREFACE_BYTES];
        connection.socket.read_exact(&mut preface).await?;
        connection.send(SETTINGS, 0, 0, &[]).await?;
        loop {
            match connection.frame().await? {
                Next::On => {}
                Next::Close => return Ok(()),
                // The socket stays open.
                Next::Hang => std::future::pending().await,
            }
        }
    }

    async fn frame(&mut self) -> io::Result<Next> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).await?;
        let mut head = &head[..];
        let length = head.get_uint(3) as usize;
        let (kind, flags, stream) = (head.get_u8(), head.get_u8(), head.get_u32());
        let mut payload = vec![0; length];
        self.socket.read_exact(&mut payload).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await?,
            PING if flags & ACK == 0 => {
                *self.shared.pings.lock().expect("no test panics there") += 1;
                self.send(PING, ACK, 0, &payload).await?;
            }
            PING => {
                if let Some(stream) = self.pinged_for.take() {
                    self.answer(stream, &[answer()]).await?;
                }
            }
            HEADERS => return self.began(stream).await,
            DATA => {
                let Some(at) = self.open.iter().position(|(id, ..)| *id == stream) else {
                    return Ok(Next::On);
                };
                self.open[at].2.extend_from_slice(&payload);
                if flags & END_STREAM != 0 {
                    let (_, act, request) = self.open.remove(at);
                    return self.ended(stream, act, &request).await;
                }
            }
            RST_STREAM => self.open.retain(|(id, ..)| *id != stream),
            _ => {}
        }
        Ok(Next::On)
    }

    async fn began(&mut self, stream: u32) -> io::Result<Next> {
        if self.gone_away {
            return Ok(Next::On);
        }
        let scripted = self
            .shared
            .script
            .lock()
            .expect("no test panics there")
            .pop_front();
        let act = scripted.unwrap_or(Act::Answer);
        self.shared
            .acts
            .lock()
            .expect("no test panics there")
            .push(act.clone());
        match act {
            Act::DropAtHead => return Ok(Next::Close),
            Act::ResetHead(code) => {
                self.send(RST_STREAM, 0, stream, &code.to_be_bytes())
                    .await?
            }
            Act::GoAwayBefore => {
                self.go_away().await?;
                return Ok(Next::On);
            }
            act => self.open.push((stream, act, Vec::new())),
        }
        self.newest = stream;
        Ok(Next::On)
    }

    async fn ended(&mut self, stream: u32, act: Act, request: &[u8]) -> io::Result<Next> {
        if act.runs() {
            let mut ran = self.shared.ran.lock().expect("no test panics there");
            ran.push(key(request));
        }
        match act {
            Act::Answer => self.answer(stream, &[answer()]).await?,
            Act::AnswerPonged => {
                self.pinged_for = Some(stream);
                self.send(PING, 0, 0, b"are you?").await?;
            }
            Act::Messages(messages) => self.answer(stream, &messages).await?,
            Act::Refuse(code, text) | Act::Fail(code, text) => {
                self.status(stream, b"\x88", code, text).await?;
            }
            Act::Reset(code) => {
                self.send(RST_STREAM, 0, stream, &code.to_be_bytes())
                    .await?
            }
            Act::GoAwayAfter => {
                self.go_away().await?;
                self.answer(stream, &[answer()]).await?;
            }
            Act::DropAfter => return Ok(Next::Close),
            Act::DropBeforeStatus => {
                self.send(HEADERS, END_HEADERS, stream, b"\x88").await?;
                self.send(DATA, 0, stream, &answer()).await?;
                return Ok(Next::Close);
            }
            Act::Ignore => {}
            Act::BlackHole => return Ok(Next::Hang),
            Act::Http503 => {
                // :status 503, as a literal over the static table's name 8.
                let head = b"\x08\x03503";
                self.send(HEADERS, END_HEADERS | END_STREAM, stream, head)
                    .await?;
            }
            Act::DropAtHead | Act::ResetHead(_) | Act::GoAwayBefore => {
                unreachable!("these end at the head")
            }
        }
        Ok(Next::On)
    }

    async fn answer(&mut self, stream: u32, messages: &[Bytes]) -> io::Result<()> {
        self.send(HEADERS, END_HEADERS, stream, b"\x88").await?;
        for message in messages {
            self.send(DATA, 0, stream, message).await?;
        }
        self.status(stream, b"", 0, "").await
    }

    async fn status(&mut self, stream: u32, head: &[u8], code: i32, text: &str) -> io::Result<()> {
        let mut block = head.to_vec();
        for (name, value) in [
            ("grpc-status", code.to_string().as_str()),
            ("grpc-message", text),
        ] {
            // A literal that is not indexed, with a new name.
            block.put_u8(0);
            for part in [name, value] {
                assert!(part.len() < 127, "a length of one byte");
                block.put_u8(part.len() as u8);
                block.extend_from_slice(part.as_bytes());
            }
        }
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &block)
            .await
    }

    async fn go_away(&mut self) -> io::Result<()> {
        self.gone_away = true;
        let payload = [self.newest.to_be_bytes(), 0_u32.to_be_bytes()].concat();
        self.send(GOAWAY, 0, 0, &payload).await
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(9 + payload.len());
        frame.put_uint(payload.len() as u64, 3);
        frame.put_u8(kind);
        frame.put_u8(flags);
        frame.put_u32(stream);
        frame.extend_from_slice(payload);
        self.socket.write_all(&frame).await
    }
}

/// The key of a request: the bytes field 1.
fn key(request: &[u8]) -> Bytes {
    #[derive(Clone, PartialEq, Message)]
    struct Keyed {
        #[prost(bytes = "bytes", tag = "1")]
        key: Bytes,
    }
    let message = request.get(5..).unwrap_or_default();
    Keyed::decode(message)
        .map(|keyed| keyed.key)
        .unwrap_or_default()
}
