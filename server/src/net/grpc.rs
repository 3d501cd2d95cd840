//! gRPC over h2's streams: messages in, messages out, and the status that ends a call.
//! Services use it for the calls that are worth a path of their own; all others go through tonic.
//! Nothing here knows a service, and nothing here blocks or spawns.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use prost::Message;

use super::deframer::Deframer;
pub(crate) use super::deframer::PREFIX_BYTES;
use crate::error::{Code, GrpcStatus};

/// A message up to this size is copied behind its prefix; a larger one travels as it is, in frames of its own.
const COPY_BYTES: usize = 4096;
/// Small messages are gathered up to one DATA frame of the size that every client takes.
const FRAME_BYTES: usize = 16 << 10;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What a request says beside its messages.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// `hasleader: true`: answer only while this member knows a leader.
    pub require_leader: bool,
    /// The client's deadline, counted from the arrival of the request.
    pub timeout: Option<Duration>,
    /// The `token`, or else `authorization`, that says who calls.
    pub token: Option<Box<str>>,
}

/// The messages that a client sends on one call.
pub struct Incoming {
    body: RecvStream,
    deframer: Deframer,
    /// What a call ends with whose last message was cut short.
    cut_short: Code,
}

/// The messages that we send on one call, and its end. Dropping it without [`Outgoing::finish`] resets the stream.
pub struct Outgoing {
    stream: SendStream<Bytes>,
    /// Small messages that share the next DATA frame.
    pushed: BytesMut,
}

/// The client has gone: it cancelled the call, or its connection ended. Nothing sent from now on arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has gone")]
pub struct Closed;

impl Incoming {
    /// The messages of `body`, of at most `limit_bytes` each.
    pub(super) fn new(body: RecvStream, limit_bytes: usize) -> Self {
        Self {
            body,
            deframer: Deframer::new(limit_bytes),
            cut_short: Code::Internal,
        }
    }

    /// For a unary call, in which grpc-go knows no code for a message that was cut short.
    pub(super) fn of_unary(self) -> Self {
        Self {
            cut_short: Code::Unknown,
            ..self
        }
    }

    /// The payload of the next message; `None` once the client has half-closed the call.
    ///
    /// # Errors
    /// What to end the call with: the message is too large or not a message, or the client has gone (CANCELLED).
    /// No further message can be read.
    pub async fn message(&mut self) -> Result<Option<Bytes>, GrpcStatus> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    /// [`Incoming::message`] for hand-written futures. Losing the future loses no message.
    pub fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, GrpcStatus>> {
        loop {
            if let Some(message) = self.deframer.next()? {
                return Poll::Ready(Ok(Some(message)));
            }
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(chunk)) => self.take(chunk),
                Some(Err(_)) => return Poll::Ready(Err(GrpcStatus::cancelled())),
                None if self.deframer.may_end() => return Poll::Ready(Ok(None)),
                None => return Poll::Ready(Err(GrpcStatus::new(self.cut_short, "unexpected EOF"))),
            }
        }
    }

    /// Gives the window back at once: what is buffered here is bounded by the size limit of a message.
    fn take(&mut self, chunk: Bytes) {
        let _gone_with_its_stream = self.body.flow_control().release_capacity(chunk.len());
        self.deframer.push(chunk);
    }
}

impl Outgoing {
    /// Opens the answer: sends the response's headers.
    pub(super) fn open(respond: &mut SendResponse<Bytes>) -> Result<Self, Closed> {
        respond
            .send_response(response_head(), false)
            .map(Self::over)
            .map_err(|_| Closed)
    }

    /// An answer whose headers have been sent.
    pub(super) fn over(stream: SendStream<Bytes>) -> Self {
        Self {
            stream,
            pushed: BytesMut::new(),
        }
    }

    /// Sends one message, given as its encoded bytes. Never waits: bound what is unsent with [`Outgoing::ready`].
    /// A message for a client that has gone is dropped.
    pub fn try_send(&mut self, message: Bytes) {
        let mut prefix = BytesMut::with_capacity(PREFIX_BYTES + message.len().min(COPY_BYTES));
        put_prefix(&mut prefix, message.len());
        if message.len() > COPY_BYTES {
            self.queue(prefix.freeze());
            return self.queue(message);
        }
        prefix.extend_from_slice(&message);
        self.queue(prefix.freeze());
    }

    /// Sends messages that have their prefixes, one after the other in one piece.
    pub fn try_send_framed(&mut self, messages: Bytes) {
        self.queue(messages);
    }

    /// Adds one message to what the next [`Outgoing::flush`] sends, so that many small ones share a DATA frame: a
    /// client of the `h2` crate gives up on a connection that bursts into thousands of tiny frames, and each costs
    /// both sides.
    pub fn push_message(&mut self, message: &impl Message) {
        let length = message.encoded_len();
        self.pushed.reserve(PREFIX_BYTES + length);
        put_prefix(&mut self.pushed, length);
        message.encode_raw(&mut self.pushed);
        if self.pushed.len() >= FRAME_BYTES {
            self.flush();
        }
    }

    /// Sends what was pushed. [`Outgoing::ready`] and [`Outgoing::finish`] do it too.
    pub fn flush(&mut self) {
        if !self.pushed.is_empty() {
            let pushed = self.pushed.split().freeze();
            self.queue(pushed);
        }
    }

    /// Waits until what was queued fits the client's window and our send buffer (1 MiB), so that at most one message
    /// more than that is unsent.
    ///
    /// # Errors
    /// [`Closed`]: the client has gone.
    pub async fn ready(&mut self) -> Result<(), Closed> {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    /// [`Outgoing::ready`] for hand-written futures.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.flush();
        loop {
            // One byte beyond all that is queued: capacity for it means that the rest is covered.
            self.stream.reserve_capacity(1);
            if self.stream.capacity() > 0 {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Closed)),
            }
        }
    }

    /// Waits until the client has gone.
    pub async fn closed(&mut self) -> Closed {
        poll_fn(|cx| self.poll_closed(cx)).await
    }

    /// [`Outgoing::closed`] for hand-written futures.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        self.stream.poll_reset(cx).map(|_| Closed)
    }

    /// Sends one framed message piece by piece as the client's window opens, then ends the call with success.
    pub(super) async fn finish_with(mut self, mut framed: Bytes) {
        while !framed.is_empty() {
            // All of it, so that whoever's turn it is fills whole frames, and not everybody a byte of one.
            self.stream.reserve_capacity(framed.len());
            let piece = self.stream.capacity().min(framed.len());
            if piece > 0 {
                self.queue(framed.split_to(piece));
            } else if !matches!(
                poll_fn(|cx| self.stream.poll_capacity(cx)).await,
                Some(Ok(_))
            ) {
                return;
            }
        }
        self.finish(GrpcStatus::OK);
    }

    /// Ends the call, after all that was queued.
    pub fn finish(self, status: GrpcStatus) {
        self.end(trailers(&status));
    }

    /// Ends the call with trailers that somebody else made.
    pub(super) fn end(mut self, trailers: HeaderMap) {
        self.flush();
        let _gone = self.stream.send_trailers(trailers);
    }

    /// Hands bytes to the stream, which buffers them; refused only when the client has gone.
    pub(super) fn queue(&mut self, bytes: Bytes) {
        let _gone = self.stream.send_data(bytes, false);
    }
}

/// Answers a unary call at once, headers, message and status, if the client has window for the message. If it has not,
/// the headers alone are sent, and the rest of the answer is given back: what waits here must be counted.
pub(super) fn answer(respond: &mut SendResponse<Bytes>, framed: &Bytes) -> Option<Outgoing> {
    let mut stream = respond.send_response(response_head(), false).ok()?;
    stream.reserve_capacity(framed.len());
    if stream.capacity() < framed.len() {
        return Some(Outgoing::over(stream));
    }
    let sent = stream.send_data(framed.clone(), false);
    let _gone = sent.and_then(|()| stream.send_trailers(ok_trailers()));
    None
}

/// Refuses a call that has been sent nothing yet: headers alone.
pub(super) fn refuse(respond: &mut SendResponse<Bytes>, status: &GrpcStatus) {
    refuse_with(respond, StatusCode::OK, status);
}

/// Refuses a call that is not one of gRPC, with a status of HTTP's too.
pub(super) fn refuse_with(
    respond: &mut SendResponse<Bytes>,
    http: StatusCode,
    status: &GrpcStatus,
) {
    let mut response = response_head();
    *response.status_mut() = http;
    response.headers_mut().extend(trailers(status));
    let _gone = respond.send_response(response, true);
}

/// `message` behind its five-byte prefix.
pub fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    put_prefix(&mut frame, length);
    message.encode_raw(&mut frame);
    frame.freeze()
}

/// Writes the prefix of an uncompressed message.
pub(crate) fn put_prefix(frame: &mut BytesMut, length: usize) {
    frame.put_u8(0);
    // A message of 4 GiB has no gRPC form; the store refuses to build one long before.
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// Reads `grpc-timeout`: up to eight digits and a unit.
///
/// # Errors
/// What grpc-go says of it.
pub(super) fn parse_timeout(text: &[u8]) -> Result<Duration, String> {
    let quoted = || format!("{:?}", String::from_utf8_lossy(text));
    let (unit, digits) = match text {
        [] | [_] => {
            return Err(format!(
                "transport: timeout string is too short: {}",
                quoted()
            ));
        }
        [digits @ .., unit] if digits.len() <= 8 => (unit, digits),
        _ => {
            return Err(format!(
                "transport: timeout string is too long: {}",
                quoted()
            ));
        }
    };
    if !b"HMSmun".contains(unit) {
        return Err(format!(
            "transport: timeout unit is not recognized: {}",
            quoted()
        ));
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        let digits = String::from_utf8_lossy(digits);
        return Err(format!(
            "strconv.ParseUint: parsing {digits:?}: invalid syntax"
        ));
    }
    let count = digits
        .iter()
        .fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Ok(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        _ => Duration::from_nanos(count),
    })
}

fn response_head() -> Response<()> {
    let mut response = Response::new(());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}

fn trailers(status: &GrpcStatus) -> HeaderMap {
    if status.code == Code::Ok {
        return ok_trailers();
    }
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(GRPC_STATUS, HeaderValue::from(status.code as i32));
    let message = percent_encoded(&status.message);
    trailers.insert(
        GRPC_MESSAGE,
        HeaderValue::try_from(message).expect("percent-encoded text is visible ASCII"),
    );
    trailers
}

/// gRPC's encoding of status texts: visible ASCII as it is, but for `%`; all else as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes all that is written");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_texts_travel_as_visible_ascii() {
        assert_eq!(
            percent_encoded("etcdserver: no leader"),
            "etcdserver: no leader"
        );
        assert_eq!(percent_encoded("50 %\nü"), "50 %25%0A%C3%BC");
    }

    #[test]
    fn timeouts_have_up_to_eight_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("5m", Duration::from_millis(5)),
            ("7u", Duration::from_micros(7)),
            ("9n", Duration::from_nanos(9)),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), Ok(expected), "{text:?}");
        }
        for text in ["S", "123456789S", "-1S", "5x", ""] {
            assert!(parse_timeout(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
