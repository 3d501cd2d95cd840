//! A member in this process that answers every message, of streams too, as a test says. Where `fake` breaks frames, this one knows methods:
//! tests of sessions, locks and elections decide by what was asked.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response};
use keystead_client::{Client, ConnectOptions};
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::fake::framed;

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// One message that came.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method's name, without its service.
    pub method: String,
    /// Which stream of this member it came on.
    pub stream: usize,
    /// When.
    pub at: Instant,
    message: Bytes,
}

impl Call {
    /// The message.
    pub fn read<M: Message + Default>(&self) -> M {
        M::decode(self.message.clone()).expect("the client sends what the method takes")
    }
}

impl Call {
    /// The watch that the message asks for, unless it asks for something else.
    pub fn watch(&self) -> Option<WatchCreateRequest> {
        match self.read::<WatchRequest>().request_union {
            Some(RequestUnion::CreateRequest(create)) => Some(create),
            _ => None,
        }
    }
}

/// What to do about a message.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answer this.
    Say(Bytes),
    /// Answer this later; nothing else is answered on this stream meanwhile.
    Late(Duration, Bytes),
    /// Answer nothing.
    Silence,
    /// End the call with this code and text.
    Fail(i32, &'static str),
    /// Reset the stream.
    Reset,
}

/// An answer.
pub fn say(message: &impl Message) -> Reply {
    Reply::Say(framed(message))
}

/// Several answers to one message.
pub fn say_all<M: Message>(messages: &[M]) -> Reply {
    let all = messages.iter().map(framed).collect::<Vec<_>>();
    Reply::Say(all.concat().into())
}

type Script = dyn Fn(&Call) -> Reply + Send + Sync;

/// A running member.
pub struct Member {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: AbortHandle,
}

struct Shared {
    script: Box<Script>,
    calls: Mutex<Vec<Call>>,
    streams: Mutex<usize>,
}

impl Member {
    /// Starts one that answers as `script` says.
    pub async fn start(script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Member {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            calls: Mutex::default(),
            streams: Mutex::default(),
        });
        let serving = shared.clone();
        let listening = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(connection(socket, serving.clone()));
            }
        });
        Member {
            address,
            shared,
            listening: listening.abort_handle(),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::lazy(self.options()).expect("the URL is one")
    }

    /// What a client of it connects with.
    pub fn options(&self) -> ConnectOptions {
        ConnectOptions::new([self.url()])
    }

    /// The messages of one method that came so far.
    pub fn calls(&self, method: &str) -> Vec<Call> {
        let calls = self.shared.calls.lock().expect("no test panics there");
        let of_method = calls.iter().filter(|call| call.method == method);
        of_method.cloned().collect()
    }

    /// Waits until `count` messages of a method came.
    pub async fn asked(&self, method: &str, count: usize) -> Vec<Call> {
        eventually(method, async || {
            let calls = self.calls(method);
            (calls.len() >= count).then_some(calls)
        })
        .await
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Asks again and again until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "waited for {what} in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn connection(socket: TcpStream, shared: Arc<Shared>) {
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    let mut streams = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let path = request.uri().path();
        let method = path.rsplit('/').next().unwrap_or_default().to_owned();
        streams.spawn(stream(method, request.into_body(), respond, shared.clone()));
    }
}

async fn stream(
    method: String,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    shared: Arc<Shared>,
) {
    let stream = {
        let mut streams = shared.streams.lock().expect("no test panics there");
        *streams += 1;
        *streams
    };
    let Ok(mut send) = respond.send_response(Response::new(()), false) else {
        return;
    };
    let unary = !["LeaseKeepAlive", "Watch"].contains(&method.as_str());
    let mut received = BytesMut::new();
    loop {
        while let Some(message) = cut(&mut received) {
            let call = Call {
                method: method.clone(),
                stream,
                at: Instant::now(),
                message,
            };
            let reply = (shared.script)(&call);
            shared
                .calls
                .lock()
                .expect("no test panics there")
                .push(call);
            let said = match reply {
                Reply::Say(answer) => Some(answer),
                Reply::Late(wait, answer) => {
                    tokio::time::sleep(wait).await;
                    Some(answer)
                }
                Reply::Silence => None,
                Reply::Fail(code, text) => return end(&mut send, code, text),
                Reply::Reset => return send.send_reset(h2::Reason::INTERNAL_ERROR),
            };
            if let Some(answer) = said {
                let _ = send.send_data(answer, false);
                if unary {
                    return end(&mut send, 0, "");
                }
            }
        }
        match body.data().await {
            Some(Ok(chunk)) => {
                let _ = body.flow_control().release_capacity(chunk.len());
                received.extend_from_slice(&chunk);
            }
            Some(Err(_)) => return,
            // A request that is not answered stays open for as long as the client wants it.
            None if unary => {
                return poll_fn(|context| send.poll_reset(context))
                    .await
                    .map_or((), |_| ());
            }
            None => return end(&mut send, 0, ""),
        }
    }
}

fn end(send: &mut SendStream<Bytes>, code: i32, text: &'static str) {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code));
    trailers.insert("grpc-message", HeaderValue::from_static(text));
    let _ = send.send_trailers(trailers);
}

/// Takes one whole message off the front.
fn cut(received: &mut BytesMut) -> Option<Bytes> {
    let length = received.get(1..5)?;
    let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
    if received.len() < 5 + length {
        return None;
    }
    received.advance(5);
    Some(received.split_to(length).freeze())
}
