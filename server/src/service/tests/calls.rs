//! Calls on which both sides go on talking, to a member that lives for one test.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use keystead_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, PutRequest, PutResponse,
};
use prost::Message;

use super::Running;
use crate::net::grpc;
use crate::testing::{self, GRPC, request};

/// Longer than anything here takes, shorter than anyone waits for a test.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs `test` against a fresh member on two shards.
pub(super) fn with_member(test: impl AsyncFnOnce(Client)) {
    let running = Running::start_with(|config| {
        config.watch_progress_interval = Duration::from_millis(100);
        config.shards = 2;
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let ran = runtime.block_on(async {
        let test = async { test(Client(running.client().await, running.address())).await };
        tokio::time::timeout(LIMIT, test).await
    });
    drop(running);
    ran.expect("the test ends in time");
}

/// One connection, and where it leads.
#[derive(Clone)]
pub(super) struct Client(testing::Client, SocketAddr);

impl Client {
    /// A second connection, which the member gives to its other shard.
    pub(super) async fn another(&self) -> Client {
        Client(testing::Client::connect(self.1).await, self.1)
    }

    pub(super) async fn open(&self, path: &str) -> Call {
        let (answer, send) = self.0.open(request(path, &[GRPC])).await;
        Call {
            answer: Some(answer),
            body: None,
            send,
            arrived: BytesMut::new(),
            ended: None,
        }
    }

    pub(super) async fn unary<A: Message + Default>(
        &self,
        path: &str,
        request: &impl Message,
    ) -> Result<A, Ended> {
        self.0.unary(path, request).await
    }

    pub(super) async fn put(&self, key: &'static str, value: &'static str, lease: i64) -> i64 {
        let request = PutRequest {
            key: key.into(),
            value: value.into(),
            lease,
            ..PutRequest::default()
        };
        let answer: PutResponse = self
            .unary("/etcdserverpb.KV/Put", &request)
            .await
            .expect("a put");
        answer.header.expect("a header").revision
    }

    pub(super) async fn delete(&self, key: &'static str) -> i64 {
        let request = DeleteRangeRequest {
            key: key.into(),
            ..DeleteRangeRequest::default()
        };
        let answer: DeleteRangeResponse = self
            .unary("/etcdserverpb.KV/DeleteRange", &request)
            .await
            .expect("a delete");
        answer.header.expect("a header").revision
    }

    pub(super) async fn compact(&self, revision: i64) {
        let request = CompactionRequest {
            revision,
            physical: true,
        };
        let _: CompactionResponse = self
            .unary("/etcdserverpb.KV/Compact", &request)
            .await
            .expect("a compaction");
    }

    pub(super) async fn grant(&self, ttl: i64) -> i64 {
        let request = LeaseGrantRequest { ttl, id: 0 };
        let answer: LeaseGrantResponse = self
            .unary("/etcdserverpb.Lease/LeaseGrant", &request)
            .await
            .expect("a lease");
        answer.id
    }
}

/// The code and the text that ended a call.
pub(super) type Ended = (i32, String);

/// One call: messages out, messages in, and its end.
pub(super) struct Call {
    answer: Option<h2::client::ResponseFuture>,
    body: Option<RecvStream>,
    send: SendStream<Bytes>,
    arrived: BytesMut,
    pub(super) ended: Option<Ended>,
}

impl Call {
    pub(super) fn say(&mut self, message: &impl Message) {
        self.send
            .send_data(grpc::framed(message), false)
            .expect("an open stream");
    }

    pub(super) fn half_close(&mut self) {
        self.send
            .send_data(Bytes::new(), true)
            .expect("an open stream");
    }

    pub(super) fn cancel(mut self) {
        self.send.send_reset(h2::Reason::CANCEL);
    }

    /// The next message; none when the call has ended.
    pub(super) async fn hear<M: Message + Default>(&mut self) -> Option<M> {
        if let Some(answer) = &mut self.answer {
            let answer = answer.await.expect("an answer");
            self.answer = None;
            if answer.headers().contains_key("grpc-status") {
                self.ended = Some(ended(answer.headers()));
                return None;
            }
            self.body = Some(answer.into_body());
        }
        let body = self.body.as_mut()?;
        loop {
            if self.arrived.len() >= 5 {
                let len = (&self.arrived[1..5]).get_u32() as usize;
                if self.arrived.len() >= 5 + len {
                    self.arrived.advance(5);
                    return Some(M::decode(self.arrived.split_to(len)).expect("a message"));
                }
            }
            match body.data().await {
                Some(chunk) => {
                    let chunk = chunk.expect("data");
                    body.flow_control()
                        .release_capacity(chunk.len())
                        .expect("capacity");
                    self.arrived.extend_from_slice(&chunk);
                }
                None => {
                    let trailers = body.trailers().await.expect("trailers").unwrap_or_default();
                    self.ended = Some(ended(&trailers));
                    return None;
                }
            }
        }
    }

    /// The next message, which must come.
    pub(super) async fn heard<M: Message + Default>(&mut self) -> M {
        match self.hear().await {
            Some(message) => message,
            None => panic!("the call ended with {:?}", self.ended),
        }
    }

    /// Whether nothing comes for a while.
    pub(super) async fn is_silent<M: Message + Default>(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(50), self.hear::<M>())
            .await
            .is_err()
    }
}

fn ended(headers: &HeaderMap) -> Ended {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    (
        text("grpc-status").parse().unwrap_or(-1),
        text("grpc-message"),
    )
}
