//! One HTTP/2 connection to one endpoint, and a single attempt at a call on it. It tries nothing again and blames nobody:
//! how an attempt ended is a [`Failure`], and `mod.rs` decides what follows.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version};

use super::address::Address;
use super::borrower;
use super::failure::Failure;
use super::frame::{self, Deframer};
use super::keepalive::{Pulse, Waiting};
use super::lending::Lending;

/// What etcd calls the metadata that refuses a member without a leader.
const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");

/// A connection that was made, and may have ended since.
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
    lending: Arc<Lending>,
    pulse: Arc<Pulse>,
    scheme: Scheme,
    authority: Authority,
    name: String,
    answered: AtomicBool,
}

/// The head of a call.
#[derive(Clone)]
pub(super) struct Head {
    pub path: &'static str,
    pub requires_leader: bool,
    /// Who asks.
    pub token: Option<HeaderValue>,
}

impl Connection {
    pub(super) fn new(
        requests: SendRequest<Bytes>,
        lending: Arc<Lending>,
        pulse: Arc<Pulse>,
        address: &Address,
    ) -> Connection {
        Connection {
            requests,
            lending,
            pulse,
            scheme: address.scheme(),
            authority: address.authority.clone(),
            name: address.name().to_owned(),
            answered: AtomicBool::new(false),
        }
    }

    /// The endpoint as the user names it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_open(&self) -> bool {
        !self.pulse.has_ended()
    }

    /// True once: when the first call was answered.
    pub(super) fn first_answer(&self) -> bool {
        !self.answered.load(Ordering::Relaxed) && !self.answered.swap(true, Ordering::Relaxed)
    }

    /// A number that changes whenever the server says anything.
    pub(super) fn heard(&self) -> u64 {
        self.pulse.heard()
    }

    /// Sends one framed message and gives the one that answers it. `sent` becomes true when the server may have seen it.
    ///
    /// # Errors
    /// What ended the attempt.
    pub(super) async fn unary(
        &self,
        head: &Head,
        message: Bytes,
        sent: &mut bool,
    ) -> Result<Bytes, Failure> {
        let _calling = self.pulse.call();
        if self.pulse.is_lone() {
            borrower::offer(&self.lending);
        }
        let mut stream = self.open(head).await?;
        *sent = true;
        // Should the stream have ended by now, the answer says why.
        let _ = stream.send.send_data(message, true);
        let answer = stream.answers.next().await?;
        let answer =
            answer.ok_or_else(|| Failure::Garbled("an answer without a message".to_owned()))?;
        // The status follows the message.
        match stream.answers.next().await? {
            None => Ok(answer),
            Some(_) => Err(Failure::Garbled("two answers to one request".to_owned())),
        }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// [`Failure::Unsent`]: the connection is ending.
    pub(super) async fn open(&self, head: &Head) -> Result<RawStream, Failure> {
        let mut requests = self.requests.clone();
        let unsent = |error: h2::Error| Failure::Unsent(error.to_string());
        poll_fn(|context| requests.poll_ready(context))
            .await
            .map_err(unsent)?;
        // Counted first: who lends the connection after that finds that it is in use, and who has lent it is found by the wake.
        let waiting = self.pulse.wait();
        let (response, send) = requests
            .send_request(self.request(head), false)
            .map_err(unsent)?;
        Ok(RawStream {
            send,
            answers: Answers {
                state: Answer::Waiting(response),
                deframer: Deframer::default(),
                _waiting: waiting,
            },
        })
    }

    fn request(&self, head: &Head) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_static(head.path));
        *request.uri_mut() = Uri::from_parts(parts).expect("all three parts are there");
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if head.requires_leader {
            headers.insert(HAS_LEADER, HeaderValue::from_static("true"));
        }
        if let Some(token) = &head.token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        *request.headers_mut() = headers;
        request
    }
}

/// A stream of framed messages, both ways. Dropping both halves resets it.
pub(super) struct RawStream {
    pub send: SendStream<Bytes>,
    pub answers: Answers,
}

/// The messages that come.
pub(super) struct Answers {
    state: Answer,
    deframer: Deframer,
    _waiting: Waiting,
}

enum Answer {
    Waiting(ResponseFuture),
    Flowing(RecvStream),
    /// The call ended with OK.
    Ended,
}

impl Answers {
    /// The next message; `None` when the call ended with OK. Loses nothing when it is dropped.
    ///
    /// # Errors
    /// What ended the stream. Nothing comes after it.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(message) = self.deframer.next()? {
                return Ok(Some(message));
            }
            match &mut self.state {
                Answer::Waiting(response) => {
                    let (head, body) = response
                        .await
                        .map_err(|error| Failure::of_stream(&error))?
                        .into_parts();
                    if let Some(status) = frame::status(&head.headers) {
                        self.state = Answer::Ended;
                        status?;
                    } else if head.status != http::StatusCode::OK {
                        return Err(frame::http_status(head.status));
                    } else {
                        self.state = Answer::Flowing(body);
                    }
                }
                Answer::Flowing(body) => {
                    match poll_fn(|context| body.poll_data(context)).await {
                        Some(chunk) => {
                            let chunk = chunk.map_err(|error| Failure::of_stream(&error))?;
                            // Only what is read makes room: a stream that nobody reads stops its server, and no other.
                            let _ = body.flow_control().release_capacity(chunk.len());
                            self.deframer.push(chunk);
                        }
                        None => {
                            let trailers = poll_fn(|context| body.poll_trailers(context))
                                .await
                                .map_err(|error| Failure::of_stream(&error))?;
                            trailers
                                .as_ref()
                                .and_then(frame::status)
                                .unwrap_or_else(|| {
                                    Err(Failure::Broken(
                                        "the answer ended without a status".to_owned(),
                                    ))
                                })?;
                            self.state = Answer::Ended;
                        }
                    }
                }
                Answer::Ended if self.deframer.is_empty() => return Ok(None),
                Answer::Ended => {
                    return Err(Failure::Garbled(
                        "the answer ended within a message".to_owned(),
                    ));
                }
            }
        }
    }
}
