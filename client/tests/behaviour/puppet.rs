//! A server in this process whose watch streams the test plays by hand, message by message, over a store that the test sets.
//! Range answers from that store; every other call is unimplemented.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use keystead_client::{Client, ConnectOptions, KeyRange, Watch, Watcher};
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{
    RangeRequest, RangeResponse, ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse,
};
use keystead_proto::mvccpb::{Event, KeyValue};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::fake::framed;

/// No step of a test may take longer.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a Range finds.
#[derive(Clone, Default)]
pub struct Store {
    pub cluster_id: u64,
    pub raft_term: u64,
    pub revision: i64,
    /// Revisions below this can't be read.
    pub compacted: i64,
    /// In the order of their keys.
    pub kvs: Vec<KeyValue>,
    /// How many reads came.
    pub reads: usize,
    /// So long an answer is on its way.
    pub slow: Duration,
}

impl Store {
    pub fn header(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: 1,
            revision: self.revision,
            raft_term: self.raft_term,
        }
    }

    fn range(&mut self, request: &RangeRequest) -> Result<RangeResponse, (i32, &'static str)> {
        self.reads += 1;
        if request.revision > 0 && request.revision < self.compacted {
            return Err((11, "etcdserver: mvcc: required revision has been compacted"));
        }
        let keys = KeyRange {
            key: request.key.clone(),
            end: request.range_end.clone(),
        };
        let mut kvs: Vec<KeyValue> = self.kvs.clone();
        kvs.retain(|kv| keys.contains(&kv.key));
        let count = kvs.len();
        kvs.truncate(request.limit as usize);
        Ok(RangeResponse {
            header: Some(self.header()),
            more: kvs.len() < count,
            kvs,
            count: count as i64,
        })
    }
}

/// The server.
pub struct Puppet {
    address: SocketAddr,
    store: Arc<Mutex<Store>>,
    streams: UnboundedReceiver<Stream>,
    listening: AbortHandle,
}

impl Puppet {
    /// At revision 10 of cluster 1, term 2, without keys.
    pub async fn start() -> Puppet {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let store = Arc::new(Mutex::new(Store {
            cluster_id: 1,
            raft_term: 2,
            revision: 10,
            ..Store::default()
        }));
        let (opened, streams) = unbounded_channel();
        let serving = store.clone();
        let listening = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (store, opened) = (serving.clone(), opened.clone());
                let (drop_me, dropped) = unbounded_channel();
                connections.spawn(connection(socket, store, opened, drop_me, dropped));
            }
        });
        Puppet {
            address,
            store,
            streams,
            listening: listening.abort_handle(),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn options(&self) -> ConnectOptions {
        ConnectOptions::new([self.url()])
    }

    /// Changes what Range finds, and the headers of what is said from then on.
    pub fn set(&self, change: impl FnOnce(&mut Store)) {
        change(&mut self.store.lock().expect("no test panics there"));
    }

    pub fn reads(&self) -> usize {
        self.store.lock().expect("no test panics there").reads
    }

    /// The next watch stream that a client opens.
    pub async fn stream(&mut self) -> Stream {
        timeout(LIMIT, self.streams.recv())
            .await
            .expect("a stream is opened")
            .expect("the server runs")
    }

    /// Whether a stream was opened that nobody has taken.
    pub fn has_stream(&mut self) -> bool {
        !self.streams.is_empty()
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// A watch stream.
pub struct Stream {
    store: Arc<Mutex<Store>>,
    requests: UnboundedReceiver<RequestUnion>,
    say: UnboundedSender<Say>,
    drop_me: UnboundedSender<()>,
}

enum Say {
    Message(Bytes),
    End(i32, &'static str),
    Reset,
}

impl Stream {
    /// What the client sends next; `None` when it has left the stream.
    pub async fn request(&mut self) -> Option<RequestUnion> {
        timeout(LIMIT, self.requests.recv())
            .await
            .expect("the client asks for something, or leaves")
    }

    /// The next creation; requests for progress before it are not answered.
    pub async fn create(&mut self) -> WatchCreateRequest {
        loop {
            match self.request().await {
                Some(RequestUnion::CreateRequest(request)) => return request,
                Some(RequestUnion::ProgressRequest(_)) => {}
                other => panic!("not a creation: {other:?}"),
            }
        }
    }

    /// The id of the next cancellation.
    pub async fn cancellation(&mut self) -> i64 {
        loop {
            match self.request().await {
                Some(RequestUnion::CancelRequest(request)) => return request.watch_id,
                Some(RequestUnion::ProgressRequest(_)) => {}
                other => panic!("not a cancellation: {other:?}"),
            }
        }
    }

    /// Waits for a request for progress.
    pub async fn asked_for_progress(&mut self) {
        match self.request().await {
            Some(RequestUnion::ProgressRequest(_)) => {}
            other => panic!("not a request for progress: {other:?}"),
        }
    }

    /// Waits until the client has left.
    pub async fn left(&mut self) {
        while self.request().await.is_some() {}
    }

    /// Takes the next creation and says that it was done.
    pub async fn create_one(&mut self) -> WatchCreateRequest {
        let request = self.create().await;
        self.say(WatchResponse {
            watch_id: request.watch_id,
            created: true,
            ..Default::default()
        });
        request
    }

    /// Says a message with the store's header, unless it has its own.
    pub fn say(&self, message: WatchResponse) {
        let header = self.store.lock().expect("no test panics there").header();
        let message = WatchResponse {
            header: message.header.or(Some(header)),
            ..message
        };
        let _ = self.say.send(Say::Message(framed(&message)));
    }

    /// Says writes, key and revision, which the store has reached by then.
    pub fn puts(&self, watch_id: i64, puts: &[(&'static str, i64)]) {
        self.events(watch_id, puts, false);
    }

    /// The same, with more to follow.
    pub fn fragment(&self, watch_id: i64, puts: &[(&'static str, i64)]) {
        self.events(watch_id, puts, true);
    }

    fn events(&self, watch_id: i64, puts: &[(&'static str, i64)], fragment: bool) {
        let newest = puts.iter().map(|&(_, revision)| revision).max();
        {
            let mut store = self.store.lock().expect("no test panics there");
            store.revision = store.revision.max(newest.unwrap_or(0));
        }
        self.say(WatchResponse {
            watch_id,
            fragment,
            events: puts
                .iter()
                .map(|&(key, revision)| put(key, revision))
                .collect(),
            ..Default::default()
        });
    }

    /// Answers a cancellation.
    pub fn cancelled(&self, watch_id: i64) {
        self.say(WatchResponse {
            watch_id,
            canceled: true,
            ..Default::default()
        });
    }

    pub fn compacted(&self, watch_id: i64, compact_revision: i64) {
        self.say(WatchResponse {
            watch_id,
            canceled: true,
            compact_revision,
            ..Default::default()
        });
    }

    /// Answers a request for progress.
    pub fn progress(&self) {
        self.say(WatchResponse {
            watch_id: -1,
            ..Default::default()
        });
    }

    /// Ends the stream with a status.
    pub fn end(&self, code: i32, text: &'static str) {
        let _ = self.say.send(Say::End(code, text));
    }

    pub fn reset(&self) {
        let _ = self.say.send(Say::Reset);
    }

    /// Breaks the connection.
    pub fn break_off(self) {
        let _ = self.drop_me.send(());
    }
}

/// Makes a watch and answers its creation.
pub async fn begin(client: &Client, puppet: &mut Puppet, watch: Watch) -> (Watcher, Stream) {
    let (watcher, (stream, _)) = tokio::join!(client.watch(watch), opened(puppet));
    (watcher.expect("it was created"), stream)
}

/// Takes the next stream and answers the first creation on it.
pub async fn opened(puppet: &mut Puppet) -> (Stream, WatchCreateRequest) {
    let mut stream = puppet.stream().await;
    let request = stream.create_one().await;
    (stream, request)
}

pub fn kv(key: &'static str, mod_revision: i64) -> KeyValue {
    KeyValue {
        key: Bytes::from_static(key.as_bytes()),
        mod_revision,
        ..Default::default()
    }
}

fn put(key: &'static str, revision: i64) -> Event {
    Event {
        kv: Some(kv(key, revision)),
        ..Default::default()
    }
}

async fn connection(
    socket: TcpStream,
    store: Arc<Mutex<Store>>,
    opened: UnboundedSender<Stream>,
    drop_me: UnboundedSender<()>,
    mut dropped: UnboundedReceiver<()>,
) {
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    let mut calls = JoinSet::new();
    loop {
        let call = tokio::select! {
            call = connection.accept() => call,
            _ = dropped.recv() => return,
        };
        let Some(Ok((request, respond))) = call else {
            return;
        };
        let (store, opened, drop_me) = (store.clone(), opened.clone(), drop_me.clone());
        calls.spawn(async move {
            match request.uri().path() {
                "/etcdserverpb.Watch/Watch" => {
                    watch(request, respond, store, opened, drop_me).await
                }
                "/etcdserverpb.KV/Range" => range(request, respond, store).await,
                _ => refuse(respond, 12, "unknown method"),
            }
        });
    }
}

async fn watch(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    store: Arc<Mutex<Store>>,
    opened: UnboundedSender<Stream>,
    drop_me: UnboundedSender<()>,
) {
    let (asked, requests) = unbounded_channel();
    let (say, mut said) = unbounded_channel();
    let Ok(mut send) = respond.send_response(Response::new(()), false) else {
        return;
    };
    let stream = Stream {
        store,
        requests,
        say,
        drop_me,
    };
    let _ = opened.send(stream);
    let hear = async {
        let mut body = request.into_body();
        let mut held = BytesMut::new();
        while let Some(message) = message::<WatchRequest>(&mut body, &mut held).await {
            let _ = asked.send(message.request_union.expect("a request asks for something"));
        }
    };
    let speak = async {
        while let Some(what) = said.recv().await {
            match what {
                Say::Message(message) => drop(send.send_data(message, false)),
                Say::End(code, text) => drop(send.send_trailers(status(code, text))),
                Say::Reset => send.send_reset(Reason::INTERNAL_ERROR),
            }
        }
        // The test has dropped the stream and says nothing more.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = hear => {}
        () = speak => {}
    }
}

async fn range(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    store: Arc<Mutex<Store>>,
) {
    let mut body = request.into_body();
    let Some(request) = message::<RangeRequest>(&mut body, &mut BytesMut::new()).await else {
        return;
    };
    let (answer, slow) = {
        let mut store = store.lock().expect("no test panics there");
        (store.range(&request), store.slow)
    };
    sleep(slow).await;
    match answer {
        Err((code, text)) => refuse(respond, code, text),
        Ok(answer) => {
            if let Ok(mut send) = respond.send_response(Response::new(()), false) {
                let _ = send.send_data(framed(&answer), false);
                let _ = send.send_trailers(status(0, ""));
            }
        }
    }
}

fn refuse(mut respond: SendResponse<Bytes>, code: i32, text: &'static str) {
    let mut response = Response::new(());
    *response.headers_mut() = status(code, text);
    let _ = respond.send_response(response, true);
}

fn status(code: i32, text: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", code.into());
    headers.insert("grpc-message", http::HeaderValue::from_static(text));
    headers
}

/// The next message of a call; `None` when no more comes. `held` is what came of the one after.
async fn message<M: Message + Default>(body: &mut RecvStream, held: &mut BytesMut) -> Option<M> {
    loop {
        if held.len() >= 5 {
            let length = u32::from_be_bytes(held[1..5].try_into().expect("four bytes")) as usize;
            if held.len() >= 5 + length {
                held.advance(5);
                return Some(M::decode(held.split_to(length)).expect("the client sends messages"));
            }
        }
        let chunk = body.data().await?.ok()?;
        let _ = body.flow_control().release_capacity(chunk.len());
        held.extend_from_slice(&chunk);
    }
}
