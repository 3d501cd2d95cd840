//! Which endpoint is used. A client holds one connection, to an endpoint it chose by chance, and stays with it: its load is one
//! connection, its reads are those of one member. When that endpoint fails, it is ejected for a while and the next one is
//! taken; an endpoint whose time is over is on probation: one more failure ejects it for twice as long, one answer clears it.
//! With nothing but ejected endpoints the one whose time ends first is waited for, so a client of one endpoint never gives up on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::address::Address;
use super::connection::Connection;
use super::dial::Dialler;
use super::failure::Failure;
use crate::backoff::ATTEMPTS;

/// The endpoints and the connection in use.
pub(super) struct Ring {
    state: Mutex<State>,
    /// The connection was made, or a dial failed.
    changed: Notify,
    /// Calls without a connection: while there are any, it is dialled.
    waiting: AtomicUsize,
    dialler: Dialler,
}

struct State {
    endpoints: Vec<Endpoint>,
    current: usize,
    connection: Option<Arc<Connection>>,
    dialling: bool,
    /// How many dials have failed since a connection was made.
    failed_dials: usize,
    last_failure: Option<Failure>,
    closed: bool,
}

struct Endpoint {
    address: Address,
    /// In a row.
    failures: u32,
    ejected_until: Option<Instant>,
}

impl Endpoint {
    fn eject(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.ejected_until = Some(now + ATTEMPTS.after(self.failures));
    }
}

impl Ring {
    /// Endpoints of which none was tried; there is at least one.
    pub(super) fn new(addresses: Vec<Address>, dialler: Dialler) -> Ring {
        let current = fastrand::usize(..addresses.len());
        let endpoints = addresses.into_iter().map(|address| Endpoint {
            address,
            failures: 0,
            ejected_until: None,
        });
        Ring {
            state: Mutex::new(State {
                endpoints: endpoints.collect(),
                current,
                connection: None,
                dialling: false,
                failed_dials: 0,
                last_failure: None,
                closed: false,
            }),
            changed: Notify::new(),
            waiting: AtomicUsize::new(0),
            dialler,
        }
    }

    /// The connection in use, which is made when there is none. Waits for as long as its caller does.
    ///
    /// # Errors
    /// [`Failure::Closed`].
    pub(super) async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>, Failure> {
        if let Some(connection) = self.ready()? {
            return Ok(connection);
        }
        let _waiting = Wait::new(&self.waiting);
        loop {
            let changed = self.changed.notified();
            if let Some(connection) = self.ready_or_dial()? {
                return Ok(connection);
            }
            changed.await;
        }
    }

    /// The same, but gives up when every endpoint has failed once.
    ///
    /// # Errors
    /// The failure of the last one.
    pub(super) async fn first_connection(self: &Arc<Self>) -> Result<Arc<Connection>, Failure> {
        let _waiting = Wait::new(&self.waiting);
        loop {
            let changed = self.changed.notified();
            if let Some(connection) = self.ready_or_dial()? {
                return Ok(connection);
            }
            changed.await;
            let state = self.state.lock();
            if let Some(failure) = &state.last_failure
                && state.failed_dials >= state.endpoints.len()
            {
                return Err(failure.clone());
            }
        }
    }

    /// Why there is no connection.
    pub(super) fn last_failure(&self) -> Option<Failure> {
        self.state.lock().last_failure.clone()
    }

    /// A call on `connection` was answered: its endpoint is cleared. Costs next to nothing after the first time.
    pub(super) fn answered(&self, connection: &Arc<Connection>) {
        if !connection.first_answer() {
            return;
        }
        let mut state = self.state.lock();
        if state.uses(connection) {
            let current = state.current;
            state.endpoints[current].failures = 0;
        }
    }

    /// The endpoint of `connection` is to blame: it is ejected, unless another call was faster.
    pub(super) fn eject(&self, connection: &Arc<Connection>) {
        let mut state = self.state.lock();
        if state.uses(connection) {
            let current = state.current;
            state.endpoints[current].eject(Instant::now());
            state.connection = None;
            tracing::info!(endpoint = connection.name(), "the endpoint is ejected");
        }
    }

    /// The connection is of no more use, which is not its endpoint's fault.
    pub(super) fn drop_connection(&self, connection: &Arc<Connection>) {
        let mut state = self.state.lock();
        if state.uses(connection) {
            state.connection = None;
        }
    }

    /// How many there are.
    pub(super) fn endpoints(&self) -> usize {
        self.state.lock().endpoints.len()
    }

    /// Every later call is refused; streams that are open live on.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.connection = None;
        drop(state);
        self.changed.notify_waiters();
    }

    fn ready(&self) -> Result<Option<Arc<Connection>>, Failure> {
        self.state.lock().ready()
    }

    fn ready_or_dial(self: &Arc<Self>) -> Result<Option<Arc<Connection>>, Failure> {
        let mut state = self.state.lock();
        let ready = state.ready()?;
        if ready.is_none() && !state.dialling {
            state.dialling = true;
            tokio::spawn(self.clone().dial_until_connected());
        }
        Ok(ready)
    }

    /// The one task that dials. It ends with a connection, or when nobody waits for one.
    async fn dial_until_connected(self: Arc<Self>) {
        let dialling = Dialling(&self);
        while self.waiting.load(Ordering::Relaxed) > 0 {
            let (index, address, when) = {
                let state = self.state.lock();
                if state.closed {
                    return;
                }
                state.choose(Instant::now())
            };
            if let Some(when) = when {
                sleep_until(when).await;
            }
            match self.dialler.dial(&address).await {
                Ok(connection) => {
                    tracing::debug!(endpoint = %address, "connected");
                    let mut state = self.state.lock();
                    state.connected(index, connection);
                    break;
                }
                Err(text) => {
                    tracing::debug!(%text, "a dial failed");
                    self.state.lock().failed(index, text);
                    self.changed.notify_waiters();
                }
            }
        }
        drop(dialling);
    }
}

impl State {
    fn ready(&mut self) -> Result<Option<Arc<Connection>>, Failure> {
        if self.closed {
            return Err(Failure::Closed);
        }
        if self
            .connection
            .as_ref()
            .is_some_and(|connection| !connection.is_open())
        {
            self.connection = None;
        }
        Ok(self.connection.clone())
    }

    fn uses(&self, connection: &Arc<Connection>) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, connection))
    }

    /// The endpoint to dial, and when it may be.
    fn choose(&self, now: Instant) -> (usize, Address, Option<Instant>) {
        let count = self.endpoints.len();
        let in_order = (0..count).map(|step| (self.current + step) % count);
        let index = in_order
            .min_by_key(|&index| {
                self.endpoints[index]
                    .ejected_until
                    .filter(|&until| until > now)
            })
            .expect("there is an endpoint");
        let endpoint = &self.endpoints[index];
        (index, endpoint.address.clone(), endpoint.ejected_until)
    }

    fn connected(&mut self, index: usize, connection: Connection) {
        self.current = index;
        self.endpoints[index].ejected_until = None;
        self.failed_dials = 0;
        self.last_failure = None;
        if !self.closed {
            self.connection = Some(Arc::new(connection));
        }
    }

    fn failed(&mut self, index: usize, text: String) {
        self.endpoints[index].eject(Instant::now());
        self.failed_dials += 1;
        self.last_failure = Some(Failure::Unreachable(text));
    }
}

/// Marks that somebody waits for a connection.
struct Wait<'a>(&'a AtomicUsize);

impl<'a> Wait<'a> {
    fn new(count: &'a AtomicUsize) -> Wait<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Wait(count)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// However dialling ends, those who wait look again: whoever finds nothing dials.
struct Dialling<'a>(&'a Ring);

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        self.0.state.lock().dialling = false;
        self.0.changed.notify_waiters();
    }
}
