//! Calls on a cluster: a connection to one of its endpoints, deadlines, and what is sent again.
//!
//! ```text
//!   Client ─► Channel::call ─► Ring::connection ─► Connection::unary ─► h2
//!                 ▲                  dial, eject         │
//!                 └── Verdict::of(Failure) ◄─────────────┘  again only if it surely did not run
//! ```
//!
//! A verb names an [`Rpc`] and gives a message; it never sees a connection. Streams are opened here and live by themselves.

mod address;
mod auth;
pub mod borrower;
mod connection;
pub mod descriptors;
mod dial;
mod failure;
mod frame;
mod keepalive;
mod lending;
pub mod lookout;
mod ring;
pub(crate) mod rpc;
mod socket;
pub mod srv;
mod stream;
mod sync;
mod tcp;
mod tls;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use keystead_proto::etcdserverpb::{AuthenticateRequest, AuthenticateResponse};
use prost::Message;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::Instrument;

pub(crate) use address::Address;
use auth::{Auth, Token};
use connection::{Connection, Head};
use dial::Dialler;
pub(crate) use failure::Failure;
use keepalive::Keepalive;
use ring::{Given, Ring};
pub(crate) use rpc::{Effect, Rpc};
use srv::Srv;
pub(crate) use stream::{Receiver, Sender};
use sync::Syncing;
use tls::Encryption;

use crate::backoff::ATTEMPTS;
use crate::error::{Error, Result};
use crate::options::{CallOptions, ConnectOptions};
use crate::telemetry::{self, Call, Failed, Sink};
use crate::verdict::Verdict;

/// The way to a cluster. A clone is the same way.
#[derive(Clone)]
pub(crate) struct Channel {
    ring: Arc<Ring>,
    /// Where there is a user.
    auth: Option<Arc<Auth>>,
    /// Where the members are asked where they are.
    syncing: Option<Arc<Syncing>>,
    sink: Sink,
}

/// How often a call gets another token before its refusal is believed: who changes roles makes every token stale at once.
pub(crate) const RENEWALS: u32 = 4;

impl Channel {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// An endpoint cannot be read, or there is none.
    pub(crate) fn new(options: &ConnectOptions) -> Result<Channel> {
        let mut given = Given {
            addresses: Vec::new(),
            services: Vec::new(),
            nameservers: options.nameservers.clone(),
        };
        for name in &options.endpoints {
            match Srv::parse(name)? {
                Some(service) => given.services.push(service),
                None => given.addresses.push(Address::parse(name)?),
            }
        }
        if given.addresses.is_empty() && given.services.is_empty() {
            return Err(Error::invalid("a client needs an endpoint"));
        }
        let keepalive = Keepalive {
            interval: options.keepalive_interval,
            timeout: options.keepalive_timeout,
        };
        let dialler = Dialler {
            limit: options.dial_timeout,
            keepalive,
            encryption: Encryption::new(options.tls.clone()),
            sink: options.telemetry.clone(),
        };
        let ring = Ring::new(given, dialler);
        let auth = options.credentials.clone().map(Auth::new);
        let syncing = options.sync_interval;
        let syncing = syncing.map(|interval| Syncing::new(interval, options.call));
        Ok(Channel {
            ring: Arc::new(ring),
            auth: auth.map(Arc::new),
            syncing: syncing.map(Arc::new),
            sink: options.telemetry.clone(),
        })
    }

    /// Who is told what happens.
    pub(crate) fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Asks the members where they are, and gives the endpoints that are used then.
    ///
    /// # Errors
    /// Those of every read.
    pub(crate) async fn sync(&self, options: &CallOptions) -> Result<Vec<String>> {
        sync::sync(self, options).await?;
        Ok(self.ring.names())
    }

    /// The first call starts what runs beside the calls: there is a runtime by then.
    fn begin(&self) {
        if let Some(syncing) = &self.syncing {
            syncing.start(self);
        }
    }

    /// Connects to any of the endpoints.
    ///
    /// # Errors
    /// All have failed, or the deadline passed.
    pub(crate) async fn connect(&self, options: &CallOptions) -> Result<()> {
        self.begin();
        let deadline = Instant::now() + options.deadline;
        let connected = timeout_at(deadline, self.ring.first_connection()).await;
        let failure = match connected {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(failure)) => failure,
            Err(_) => self.late(),
        };
        Err(Error::new(failure, Effect::Read, ""))
    }

    /// One request, one answer, within the deadline. Attempts that surely did not run are made again, elsewhere when the endpoint
    /// is to blame.
    ///
    /// # Errors
    /// The failure of the last attempt; its outcome is what the table says.
    pub(crate) async fn call<Q: Message, A: Message + Default>(
        &self,
        rpc: &Rpc<Q, A>,
        request: &Q,
        options: &CallOptions,
    ) -> Result<A> {
        self.begin();
        let begin = Instant::now();
        let deadline = begin + options.deadline;
        let span = tracing::debug_span!("call", rpc = rpc.path);
        let mut last = Attempt::default();
        let answered = self.answered(rpc, request, options, deadline, &mut last);
        let answer = answered.instrument(span).await;
        if let Some(sink) = &self.sink {
            sink.get().call(&Call {
                rpc: rpc.path,
                endpoint: last.endpoint(),
                attempts: last.number,
                duration: begin.elapsed(),
                failure: answer.as_ref().err().map(|error| Failed {
                    kind: error.kind,
                    outcome: error.outcome,
                }),
            });
        }
        answer
    }

    async fn answered<Q: Message, A: Message + Default>(
        &self,
        rpc: &Rpc<Q, A>,
        request: &Q,
        options: &CallOptions,
        deadline: Instant,
        last: &mut Attempt,
    ) -> Result<A> {
        let message =
            frame::encode(request).map_err(|failure| Error::new(failure, rpc.effect, ""))?;
        let head = Head {
            path: rpc.path,
            requires_leader: options.requires_leader,
            token: None,
        };
        let attempts = self.authorized(head, rpc.effect, &message, last);
        let failure = match timeout_at(deadline, attempts).await {
            Ok(Ok(answer)) => match frame::decode(answer) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            },
            Ok(Err(failure)) => failure,
            Err(_) => self.passed(last),
        };
        Err(Error::new(failure, rpc.effect, last.endpoint()))
    }

    /// Opens a stream. Only the wait for a connection is bounded by the deadline: a stream may live for ever.
    ///
    /// # Errors
    /// No connection could be made in time.
    pub(crate) async fn open<Q: Message, A: Message + Default>(
        &self,
        rpc: &Rpc<Q, A>,
        options: &CallOptions,
    ) -> Result<(Sender<Q>, Receiver<A>)> {
        self.begin();
        let deadline = Instant::now() + options.deadline;
        let opened = timeout_at(deadline, async {
            let token = self.token().await?;
            let head = Head {
                path: rpc.path,
                requires_leader: options.requires_leader,
                token: token.as_ref().and_then(|(_, token)| token.header.clone()),
            };
            loop {
                let connection = self.ring.connection().await?;
                match connection.open(&head).await {
                    Ok(stream) => return Ok((stream, connection, token)),
                    // It ended just now: nothing was sent, and the next one is made with its own backoff.
                    Err(_) => self.ring.drop_connection(&connection),
                }
            }
        });
        let (stream, connection, token) = opened
            .await
            .unwrap_or_else(|_| Err(self.late()))
            .map_err(|failure| Error::new(failure, rpc.effect, ""))?;
        let origin = stream::Origin {
            ring: self.ring.clone(),
            connection,
            token,
        };
        Ok(stream::halves(stream, rpc.effect, origin))
    }

    /// How many endpoints there are.
    pub(crate) fn endpoints(&self) -> usize {
        self.ring.endpoints()
    }

    /// Refuses every later call.
    pub(crate) fn close(&self) {
        self.ring.close();
    }

    /// The same with the user's token, and again with another one where that was refused.
    async fn authorized(
        &self,
        mut head: Head,
        effect: Effect,
        message: &Bytes,
        last: &mut Attempt,
    ) -> Result<Bytes, Failure> {
        let mut renewals = 0;
        loop {
            let token = self.token().await?;
            head.token = token.as_ref().and_then(|(_, token)| token.header.clone());
            let failure = match self.attempts(&head, effect, message, last).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            match token {
                Some((auth, token))
                    if renewals < RENEWALS && Verdict::of(&failure, effect).stale_token =>
                {
                    auth.refused(&token);
                    renewals += 1;
                    last.sent = false;
                }
                _ => return Err(failure),
            }
        }
    }

    /// The token to send, where there is a user; had from the server by the first call that needs it.
    async fn token(&self) -> Result<Option<(Arc<Auth>, Token)>, Failure> {
        let Some(auth) = &self.auth else {
            return Ok(None);
        };
        let with = |token| Some((auth.clone(), token));
        if let Some(token) = auth.token() {
            return Ok(with(token));
        }
        let _asking = auth.asking.lock().await;
        if let Some(token) = auth.token() {
            return Ok(with(token));
        }
        let header = self.authenticate(auth).await?;
        Ok(with(auth.learn(header)))
    }

    /// Gives the user and the password for a token; for none where the server has no authentication.
    async fn authenticate(&self, auth: &Auth) -> Result<Option<HeaderValue>, Failure> {
        let request = AuthenticateRequest {
            name: auth.credentials.user.clone(),
            password: auth.credentials.password.clone(),
        };
        let head = Head {
            path: rpc::AUTHENTICATE.path,
            requires_leader: true,
            token: None,
        };
        let message = frame::encode(&request)?;
        let effect = rpc::AUTHENTICATE.effect;
        let mut last = Attempt::default();
        let answer = match self.attempts(&head, effect, &message, &mut last).await {
            Ok(answer) => answer,
            Err(Failure::Status { message, .. }) if message.contains("is not enabled") => {
                return Ok(None);
            }
            Err(Failure::Status { code, message }) => {
                return Err(Failure::NoToken { code, message });
            }
            Err(failure) => return Err(failure),
        };
        let answer: AuthenticateResponse = frame::decode(answer)?;
        // Not marked as sensitive: HTTP/2 then sends it once a connection, and later calls name it by a number.
        HeaderValue::from_str(&answer.token)
            .map(Some)
            .map_err(|_| Failure::Garbled("a token that no header can hold".to_owned()))
    }

    /// Attempts until one is answered, or ends in a way that is not repeated.
    async fn attempts(
        &self,
        head: &Head,
        effect: Effect,
        message: &Bytes,
        last: &mut Attempt,
    ) -> Result<Bytes, Failure> {
        loop {
            let connection = self.ring.connection().await?;
            last.heard = connection.heard();
            last.connection = Some(connection.clone());
            last.number += 1;
            let begin = self.sink.as_ref().map(|_| Instant::now());
            let ended = connection
                .unary(head, message.clone(), &mut last.sent)
                .await;
            if let (Some(sink), Some(begin)) = (&self.sink, begin) {
                sink.get().attempt(&telemetry::Attempt {
                    rpc: head.path,
                    endpoint: connection.name(),
                    number: last.number,
                    duration: begin.elapsed(),
                    failure: ended.as_ref().err().map(|failure| {
                        let Verdict { kind, outcome, .. } = Verdict::of(failure, effect);
                        Failed { kind, outcome }
                    }),
                });
            }
            let failure = match ended {
                Ok(answer) => {
                    self.ring.answered(&connection);
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            let verdict = Verdict::of(&failure, effect);
            if verdict.blamed {
                self.ring.eject(&connection);
            } else if matches!(failure, Failure::Unsent(_)) {
                self.ring.drop_connection(&connection);
            }
            if !verdict.retryable {
                return Err(failure);
            }
            last.sent = false;
            last.failures += 1;
            last.failure = Some(failure);
            // Another endpoint need not be waited for; the ring waits where there is none.
            if !verdict.blamed {
                sleep(ATTEMPTS.after(last.failures)).await;
            }
        }
    }

    /// The deadline passed in an attempt.
    fn passed(&self, last: &mut Attempt) -> Failure {
        if !last.sent {
            return last.failure.take().unwrap_or_else(|| self.late());
        }
        if let Some(connection) = &last.connection
            && connection.heard() == last.heard
            && self.ring.endpoints() > 1
        {
            // Not a word since: the connection's own pings may need longer to be sure, the next call goes elsewhere.
            self.ring.eject(connection);
        }
        Failure::Late { sent: true }
    }

    /// The deadline passed without an attempt: why is known to the ring.
    pub(crate) fn late(&self) -> Failure {
        let unreachable = self.ring.last_failure();
        unreachable.unwrap_or(Failure::Late { sent: false })
    }
}

/// The attempt under way, and how those before it ended.
#[derive(Default)]
struct Attempt {
    connection: Option<Arc<Connection>>,
    /// The server may have seen the request, and has not said that it did not run.
    sent: bool,
    /// Which one it is; the first is 1.
    number: u32,
    /// What the connection had heard when the attempt began.
    heard: u64,
    failures: u32,
    failure: Option<Failure>,
}

impl Attempt {
    /// Empty when none was reached.
    fn endpoint(&self) -> &str {
        self.connection
            .as_ref()
            .map_or("", |connection| connection.name())
    }
}
