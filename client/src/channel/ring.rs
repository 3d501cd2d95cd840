//! Which endpoint is used. A client holds one connection, to an endpoint it chose by chance, and stays with it: its load is one
//! connection, its reads are those of one member. When that endpoint fails, it is ejected for a while and the next one is
//! taken; an endpoint whose time is over is on probation: one more failure ejects it for twice as long, one answer clears it.
//! With nothing but ejected endpoints the one whose time ends first is waited for, so a client of one endpoint never gives up on it.
//!
//! The endpoints are those that the user named, and what DNS says for the names of services among them. Once the members have said where they are,
//! those are used instead, and when all of them fail, the others as well: so whatever is learned, there is a way back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::address::Address;
use super::connection::Connection;
use super::dial::Dialler;
use super::failure::Failure;
use super::srv::Srv;
use crate::backoff::ATTEMPTS;
use crate::locks::Mutex;
use crate::telemetry::{self, ConnectionEvent};

/// The endpoints and the connection in use.
pub(super) struct Ring {
    state: Mutex<State>,
    /// The connection was made, or a dial failed.
    changed: Notify,
    /// Calls without a connection: while there are any, it is dialled.
    waiting: AtomicUsize,
    dialler: Dialler,
    given: Given,
}

/// What the user named.
pub(super) struct Given {
    pub addresses: Vec<Address>,
    pub services: Vec<Srv>,
    /// Who is asked for services.
    pub nameservers: Vec<SocketAddr>,
}

struct State {
    /// None until DNS has said where they are, where services alone were named.
    endpoints: Vec<Endpoint>,
    /// The members have said where they are.
    learned: bool,
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
    fn new(address: Address) -> Endpoint {
        Endpoint {
            address,
            failures: 0,
            ejected_until: None,
        }
    }

    fn eject(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.ejected_until = Some(now + ATTEMPTS.after(self.failures));
    }
}

impl Ring {
    /// Endpoints of which none was tried; one address or service at least is given.
    pub(super) fn new(given: Given, dialler: Dialler) -> Ring {
        let mut state = State {
            endpoints: Vec::new(),
            learned: false,
            current: 0,
            connection: None,
            dialling: false,
            failed_dials: 0,
            last_failure: None,
            closed: false,
        };
        state.replace(given.addresses.clone());
        Ring {
            state: Mutex::new(state),
            changed: Notify::new(),
            waiting: AtomicUsize::new(0),
            dialler,
            given,
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
                && state.all_failed()
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
            drop(state);
            tracing::info!(endpoint = connection.name(), "the endpoint is ejected");
            let (sink, ejected) = (&self.dialler.sink, ConnectionEvent::Ejected);
            telemetry::connection(sink, connection.name(), ejected, "");
        }
    }

    /// The members are at `addresses`: what is dialled from now on is one of these. None of them changes nothing.
    pub(super) fn learn(&self, addresses: Vec<Address>) {
        let mut state = self.state.lock();
        if !addresses.is_empty() {
            state.learned = true;
            state.replace(addresses);
        }
    }

    /// Those that are used, as they are called.
    pub(super) fn names(&self) -> Vec<String> {
        let state = self.state.lock();
        let names = state.endpoints.iter();
        names.map(|endpoint| endpoint.address.to_string()).collect()
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

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
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
            self.look_up().await;
            let (chosen, failed_dials) = {
                let state = self.state.lock();
                if state.closed {
                    return;
                }
                (state.choose(Instant::now()), state.failed_dials)
            };
            let Some((address, when)) = chosen else {
                let failed_dials = u32::try_from(failed_dials).unwrap_or(u32::MAX);
                sleep(ATTEMPTS.after(failed_dials)).await;
                continue;
            };
            if let Some(when) = when {
                sleep_until(when).await;
            }
            match self.dialler.dial(&address).await {
                Ok(connection) => {
                    tracing::debug!(endpoint = %address, "connected");
                    let mut state = self.state.lock();
                    state.connected(&address, connection);
                    break;
                }
                Err(text) => {
                    tracing::debug!(%text, "a dial failed");
                    self.state.lock().failed(Some(&address), text);
                    self.changed.notify_waiters();
                }
            }
        }
        drop(dialling);
    }

    /// Asks DNS where the services are by now. What it says takes the place of what it said before; where the members have said it themselves, it is
    /// asked only when none of them could be reached.
    async fn look_up(&self) {
        let learned = {
            let state = self.state.lock();
            if state.learned && !state.all_failed() {
                return;
            }
            state.learned
        };
        if self.given.services.is_empty() && !learned {
            return;
        }
        let mut found = self.given.addresses.clone();
        let mut failure = None;
        for service in &self.given.services {
            // The other half is for the dial.
            let limit = self.dialler.limit / 2;
            match service.look_up(&self.given.nameservers, limit).await {
                Ok(addresses) => found.extend(addresses),
                Err(text) => {
                    tracing::debug!(%text, "a service was not found");
                    failure = Some(text);
                }
            }
        }
        let mut state = self.state.lock();
        if learned {
            let known = state.endpoints.iter();
            let known = known.map(|endpoint| endpoint.address.clone());
            found.splice(0..0, known.collect::<Vec<_>>());
            state.replace(found);
        } else if failure.is_none() {
            state.replace(found);
        } else if let Some(text) = failure.filter(|_| state.endpoints.is_empty()) {
            state.failed(None, text);
            drop(state);
            self.changed.notify_waiters();
        }
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

    /// The endpoint to dial, and when it may be; `None` while there is none.
    fn choose(&self, now: Instant) -> Option<(Address, Option<Instant>)> {
        let count = self.endpoints.len();
        let in_order = (0..count).map(|step| (self.current + step) % count);
        let index = in_order.min_by_key(|&index| {
            self.endpoints[index]
                .ejected_until
                .filter(|&until| until > now)
        })?;
        let endpoint = &self.endpoints[index];
        Some((endpoint.address.clone(), endpoint.ejected_until))
    }

    /// Every endpoint was dialled in vain since there was a connection.
    fn all_failed(&self) -> bool {
        self.failed_dials > 0 && self.failed_dials >= self.endpoints.len()
    }

    /// These are the endpoints from now on. What is known of those that stay is kept; a connection to one that goes is of no more use,
    /// but the streams on it live on.
    fn replace(&mut self, addresses: Vec<Address>) {
        let mut before = std::mem::take(&mut self.endpoints);
        let current = before.get(self.current);
        let current = current.map(|endpoint| endpoint.address.clone());
        for address in addresses {
            if self.place(&address).is_some() {
                continue;
            }
            let known = before.iter().position(|known| known.address == address);
            self.endpoints.push(match known {
                Some(index) => before.swap_remove(index),
                None => Endpoint::new(address),
            });
        }
        let stays = current.and_then(|address| self.place(&address));
        if stays.is_none() {
            self.connection = None;
        }
        self.current = stays.unwrap_or_else(|| match self.endpoints.len() {
            0 => 0,
            count => fastrand::usize(..count),
        });
    }

    fn place(&self, address: &Address) -> Option<usize> {
        let mut endpoints = self.endpoints.iter();
        endpoints.position(|endpoint| endpoint.address == *address)
    }

    fn connected(&mut self, address: &Address, connection: Connection) {
        self.failed_dials = 0;
        self.last_failure = None;
        // One that went meanwhile is not used: whoever waits has another one dialled.
        let Some(index) = self.place(address) else {
            return;
        };
        self.current = index;
        self.endpoints[index].ejected_until = None;
        if !self.closed {
            self.connection = Some(Arc::new(connection));
        }
    }

    /// A dial failed, or there was nothing to dial.
    fn failed(&mut self, address: Option<&Address>, text: String) {
        if let Some(index) = address.and_then(|address| self.place(address)) {
            self.endpoints[index].eject(Instant::now());
        }
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
