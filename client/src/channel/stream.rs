//! A call with more than one message: watch, keepalive, snapshot. The channel opens it; it lives on one connection and
//! ends with it. Whoever holds it decides what follows an end: nothing here opens a stream again.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use h2::SendStream;
use prost::Message;

use super::auth::{Auth, Token};
use super::connection::{Answers, Connection, RawStream};
use super::failure::Failure;
use super::frame;
use super::ring::Ring;
use super::rpc::Effect;
use crate::error::{Error, Result};
use crate::verdict::Verdict;

/// The sending half. Dropping both halves resets the stream.
pub(crate) struct Sender<Q> {
    send: SendStream<Bytes>,
    messages: PhantomData<fn(Q)>,
}

impl<Q: Message> Sender<Q> {
    /// Sends a message. It never waits: what the server does not take yet is kept, so whoever sends much paces itself by
    /// the answers. Why a stream has ended is told by [`Receiver::next`] alone.
    pub(crate) fn send(&mut self, message: &Q) {
        if let Ok(frame) = frame::encode(message) {
            let _ = self.send.send_data(frame, false);
        }
    }

    /// Says that nothing more will be sent. The server may go on answering.
    pub(crate) fn finish(&mut self) {
        let _ = self.send.send_data(Bytes::new(), true);
    }
}

/// The receiving half.
pub(crate) struct Receiver<A> {
    answers: Answers,
    effect: Effect,
    origin: Origin,
    messages: PhantomData<fn() -> A>,
}

impl<A: Message + Default> Receiver<A> {
    /// The next message; `None` when the server ended the call with OK. Cancel-safe: a `next` that is dropped loses nothing.
    ///
    /// # Errors
    /// What ended the stream; nothing comes after it. The endpoint has been blamed for it where it is to blame, so a stream
    /// that is opened again goes to another one.
    pub(crate) async fn next(&mut self) -> Result<Option<A>> {
        let answer = match self.answers.next().await {
            Ok(None) => return Ok(None),
            Ok(Some(message)) => frame::decode(message),
            Err(failure) => Err(failure),
        };
        match answer {
            Ok(message) => {
                self.origin.ring.answered(&self.origin.connection);
                Ok(Some(message))
            }
            Err(failure) => Err(self.origin.error(failure, self.effect)),
        }
    }
}

impl<A> Receiver<A> {
    /// What the server refused in a message of the stream, as if it had refused the stream; but its endpoint is not to blame for that.
    pub(crate) fn refusal(&self, failure: Failure) -> Error {
        self.origin.refused(failure, self.effect)
    }

    /// The endpoint at the other end, as the options name it.
    pub(crate) fn endpoint(&self) -> &str {
        self.origin.connection.name()
    }

    /// What came, or did not come, is the endpoint's fault. Where there are others, what is opened next goes to one of them.
    pub(crate) fn blame(&self) {
        if self.origin.ring.endpoints() > 1 {
            self.origin.ring.eject(&self.origin.connection);
        }
    }
}

/// Where a stream comes from.
pub(super) struct Origin {
    pub ring: Arc<Ring>,
    pub connection: Arc<Connection>,
    /// What the stream was opened with, where there is a user.
    pub token: Option<(Arc<Auth>, Token)>,
}

impl Origin {
    fn error(&self, failure: Failure, effect: Effect) -> Error {
        if Verdict::of(&failure, effect).blamed {
            self.ring.eject(&self.connection);
        }
        self.refused(failure, effect)
    }

    fn refused(&self, failure: Failure, effect: Effect) -> Error {
        let verdict = Verdict::of(&failure, effect);
        let mut error = Error::new(failure, effect, self.connection.name());
        if let Some((auth, token)) = &self.token
            && verdict.stale_token
        {
            // A stream that is opened again has another token.
            auth.refused(token);
            error.retryable = true;
        }
        error
    }
}

/// The halves of a raw stream, typed.
pub(super) fn halves<Q, A>(
    raw: RawStream,
    effect: Effect,
    origin: Origin,
) -> (Sender<Q>, Receiver<A>) {
    let sender = Sender {
        send: raw.send,
        messages: PhantomData,
    };
    let receiver = Receiver {
        answers: raw.answers,
        effect,
        origin,
        messages: PhantomData,
    };
    (sender, receiver)
}
