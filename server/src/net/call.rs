//! One call as it arrives on a connection, and the one answer it gets.
//! The connection makes it, a [`Handler`](super::Handler) consumes it. What every gRPC request must look like is
//! checked here, before any service sees it.

use std::rc::Rc;
use std::str;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::backlog::Backlog;
use super::grpc::{self, Closed, Incoming, Metadata, Outgoing};
use crate::error::{Code, GrpcStatus};

/// What an unsent answer costs beside its own bytes: its stream, its headers, its task.
const ANSWER_OVERHEAD_BYTES: usize = 1 << 10;

/// One call: who asks for what, and the place for the answer.
pub struct Call {
    /// What the request says beside its messages.
    pub metadata: Metadata,
    pub(super) parts: Parts,
    pub(super) incoming: Incoming,
    pub(super) reply: Reply,
}

/// The place for the answer to one call. Dropping it unanswered resets the stream.
pub struct Reply {
    respond: SendResponse<Bytes>,
    backlog: Rc<Backlog>,
}

impl Call {
    /// Takes a request off a connection, or refuses it where it breaks gRPC's own rules.
    pub(super) fn accept(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        max_message_bytes: usize,
        backlog: Rc<Backlog>,
    ) -> Option<Self> {
        let (parts, body) = request.into_parts();
        let reply = Reply { respond, backlog };
        match read_head(&parts) {
            Ok(metadata) => {
                let incoming = Incoming::new(body, max_message_bytes);
                Some(Self {
                    metadata,
                    incoming,
                    reply,
                    parts,
                })
            }
            Err((http, status)) => {
                reply.refuse_with(http, &status);
                None
            }
        }
    }

    /// `/service/method`, as the client wrote it.
    pub fn path(&self) -> &str {
        self.parts.uri.path()
    }

    /// Takes the one message of a unary call and passes it on: at once when it has arrived, which is usual, and from a
    /// task of its own when it has not. A call without its message is refused here.
    pub fn unary(self, then: impl FnOnce(Bytes, Metadata, Reply) + 'static) {
        let Self {
            metadata,
            incoming,
            reply,
            ..
        } = self;
        let mut incoming = incoming.of_unary();
        let mut unregistered = Context::from_waker(Waker::noop());
        match incoming.poll_message(&mut unregistered) {
            Poll::Ready(message) => pass_on(message, metadata, reply, then),
            Poll::Pending => {
                tokio::task::spawn_local(async move {
                    let message = incoming.message().await;
                    reply.backlog.room().await;
                    pass_on(message, metadata, reply, then);
                });
            }
        }
    }

    /// Opens a call on which both sides send many messages.
    ///
    /// # Errors
    /// [`Closed`]: the client has gone.
    pub fn stream(self) -> Result<(Metadata, Incoming, Outgoing), Closed> {
        Ok((self.metadata, self.incoming, self.reply.open()?))
    }

    /// Refuses the call.
    pub fn refuse(self, status: &GrpcStatus) {
        self.reply.refuse(status);
    }
}

impl Reply {
    /// Answers with one message behind its prefix, as [`grpc::framed`] makes it, and success.
    pub fn answer(mut self, framed: Bytes) {
        if let Some(outgoing) = grpc::answer(&mut self.respond, &framed) {
            let held = self.backlog.hold(framed.len() + ANSWER_OVERHEAD_BYTES);
            tokio::task::spawn_local(async move {
                outgoing.finish_with(framed).await;
                drop(held);
            });
        }
    }

    /// Refuses the call.
    pub fn refuse(mut self, status: &GrpcStatus) {
        grpc::refuse(&mut self.respond, status);
    }

    /// Refuses what is no call of gRPC, in HTTP's words too.
    fn refuse_with(mut self, http: StatusCode, status: &GrpcStatus) {
        grpc::refuse_with(&mut self.respond, http, status);
    }

    /// Opens an answer of many messages.
    ///
    /// # Errors
    /// [`Closed`]: the client has gone.
    pub fn open(mut self) -> Result<Outgoing, Closed> {
        Outgoing::open(&mut self.respond)
    }

    /// Ready once the client has gone.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        self.respond.poll_reset(cx).map(|_| Closed)
    }

    /// Opens an answer whose headers somebody else made; with `ended`, they are all of it.
    pub(super) fn open_with(
        &mut self,
        head: Response<()>,
        ended: bool,
    ) -> Result<Outgoing, Closed> {
        self.respond
            .send_response(head, ended)
            .map(Outgoing::over)
            .map_err(|_| Closed)
    }
}

fn pass_on(
    message: Result<Option<Bytes>, GrpcStatus>,
    metadata: Metadata,
    reply: Reply,
    then: impl FnOnce(Bytes, Metadata, Reply),
) {
    match message {
        Ok(Some(message)) => then(message, metadata, reply),
        Ok(None) => reply.refuse(&GrpcStatus::new(Code::Unknown, "EOF")),
        Err(status) => reply.refuse(&status),
    }
}

/// Checks what gRPC asks of every request, with grpc-go's codes and texts, and reads what we use of its headers.
fn read_head(parts: &Parts) -> Result<Metadata, (StatusCode, GrpcStatus)> {
    if parts.method != Method::POST {
        let text = format!(
            "Received a HEADERS frame with :method {:?} which should be POST",
            parts.method.as_str()
        );
        return Err((
            StatusCode::METHOD_NOT_ALLOWED,
            GrpcStatus::new(Code::Internal, text),
        ));
    }
    let mut is_grpc = false;
    let mut metadata = Metadata::default();
    let mut authorization = None;
    for (name, value) in &parts.headers {
        match name.as_str() {
            "content-type" => is_grpc = is_grpc_content(value.as_bytes()),
            "grpc-timeout" => {
                let timeout = read_timeout(value.as_bytes());
                metadata.timeout = Some(timeout.map_err(|bad| (StatusCode::BAD_REQUEST, bad))?);
            }
            "grpc-encoding" => {
                check_encoding(value.as_bytes()).map_err(|unknown| (StatusCode::OK, unknown))?;
            }
            "hasleader" => metadata.require_leader |= value.as_bytes() == b"true",
            "client-api-version" if str::from_utf8(value.as_bytes()).is_err() => {
                let text = "etcdserver: invalid client api version";
                return Err((StatusCode::OK, GrpcStatus::new(Code::InvalidArgument, text)));
            }
            // Where there are several, the first one counts.
            "token" if metadata.token.is_none() => metadata.token = Some(read_token(value)),
            "authorization" if authorization.is_none() => authorization = Some(read_token(value)),
            _ => {}
        }
    }
    metadata.token = metadata.token.or(authorization);
    if is_grpc {
        Ok(metadata)
    } else {
        Err((
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            wrong_content_type(&parts.headers),
        ))
    }
}

/// A token; empty, which is none of anybody's, where it is no text.
fn read_token(value: &HeaderValue) -> Box<str> {
    let text = value.to_str().unwrap_or_default();
    text.strip_prefix("Bearer ").unwrap_or(text).into()
}

fn is_grpc_content(value: &[u8]) -> bool {
    match value.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

fn wrong_content_type(headers: &HeaderMap) -> GrpcStatus {
    let given = headers
        .get(http::header::CONTENT_TYPE)
        .map(|value| value.as_bytes())
        .unwrap_or_default();
    let text = format!(
        "invalid gRPC request content-type {:?}",
        String::from_utf8_lossy(given)
    );
    GrpcStatus::new(Code::InvalidArgument, text)
}

fn read_timeout(value: &[u8]) -> Result<std::time::Duration, GrpcStatus> {
    grpc::parse_timeout(value).map_err(|error| {
        GrpcStatus::new(Code::Internal, format!("malformed grpc-timeout: {error}"))
    })
}

/// Only the identity is known; as in grpc-go another name is refused before any message is read.
fn check_encoding(value: &[u8]) -> Result<(), GrpcStatus> {
    if matches!(value, b"" | b"identity") {
        return Ok(());
    }
    let name = String::from_utf8_lossy(value);
    let text = format!("grpc: Decompressor is not installed for grpc-encoding {name:?}");
    Err(GrpcStatus::new(Code::Unimplemented, text))
}
