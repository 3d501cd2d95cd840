//! What happens within a client, for who counts or traces it: plain structs handed to one object of the user. Without one it costs a test of a
//! pointer: nothing is allocated and no clock is read for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Kind, Outcome};
use crate::session::tenure::SessionState;

/// Is told what happens, at the moment it does and on the task that it happens to: it must neither block nor panic, and must
/// not call the client. Whatever it does not care for it leaves to the default, which does nothing.
///
/// ```
/// # use std::sync::atomic::{AtomicU64, Ordering};
/// # use keystead_client::{Call, ConnectOptions, Telemetry, TelemetrySink};
/// #[derive(Default)]
/// struct Slow(AtomicU64);
///
/// impl Telemetry for Slow {
///     fn call(&self, call: &Call<'_>) {
///         if call.duration.as_millis() > 100 {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let options = ConnectOptions {
///     telemetry: Some(TelemetrySink::new(Slow::default())),
///     ..ConnectOptions::new(["http://127.0.0.1:2379"])
/// };
/// ```
pub trait Telemetry: Send + Sync + 'static {
    /// A call with one answer has ended.
    fn call(&self, _: &Call<'_>) {}
    /// One attempt at such a call has ended. A call that a deadline cut off has one more attempt than is told here.
    fn attempt(&self, _: &Attempt<'_>) {}
    /// A connection came or went, or could not be made.
    fn connection(&self, _: &ConnectionChange<'_>) {}
    /// The stream that watches share was cut off, or is back.
    fn watch(&self, _: &WatchChange<'_>) {}
    /// A session is worth more or less than before.
    fn session(&self, _: &SessionChange) {}
}

/// A call that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The RPC, as gRPC has it: `/etcdserverpb.KV/Put`.
    pub rpc: &'a str,
    /// Which endpoint had the last attempt; empty when none was reached.
    pub endpoint: &'a str,
    /// How many attempts there were.
    pub attempts: u32,
    /// From the call to its end, waits included.
    pub duration: Duration,
    /// Why it failed, if it did.
    pub failure: Option<Failed>,
}

/// An attempt that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// The RPC, as gRPC has it.
    pub rpc: &'a str,
    /// The endpoint.
    pub endpoint: &'a str,
    /// The first one of a call is 1.
    pub number: u32,
    /// From the sending to the end.
    pub duration: Duration,
    /// Why it failed, if it did.
    pub failure: Option<Failed>,
}

/// How a call or an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What it was.
    pub kind: Kind,
    /// Whether it changed anything.
    pub outcome: Outcome,
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionChange<'a> {
    /// The endpoint.
    pub endpoint: &'a str,
    /// What.
    pub event: ConnectionEvent,
    /// Why, for people; empty where there is nothing to say.
    pub reason: &'a str,
}

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// It was made.
    Up,
    /// It has ended.
    Down,
    /// It could not be made.
    DialFailed,
    /// Its endpoint is left for a while: it failed a call.
    Ejected,
}

/// What became of the stream that watches share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchChange<'a> {
    /// What.
    pub event: WatchEvent,
    /// How many watches it is about.
    pub watches: usize,
    /// Why it was cut off, for people; empty when it is back.
    pub reason: &'a str,
}

/// What becomes of the stream that watches share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WatchEvent {
    /// It ended, and is opened again.
    Disconnected,
    /// A member has taken the first watch on another one. Whether a watch missed history is told to its watcher.
    Resumed,
}

/// A session that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionChange {
    /// Its lease.
    pub lease: i64,
    /// What it is worth now. It begins as `Active`, which is told too.
    pub state: SessionState,
}

/// A [`Telemetry`] to connect with. A clone is the same one.
#[derive(Clone)]
pub struct TelemetrySink(Arc<dyn Telemetry>);

impl TelemetrySink {
    /// Tells `telemetry`.
    pub fn new(telemetry: impl Telemetry) -> TelemetrySink {
        TelemetrySink(Arc::new(telemetry))
    }

    pub(crate) fn get(&self) -> &dyn Telemetry {
        &*self.0
    }
}

impl fmt::Debug for TelemetrySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TelemetrySink")
    }
}

/// The same object.
impl PartialEq for TelemetrySink {
    fn eq(&self, other: &TelemetrySink) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for TelemetrySink {}

/// The telemetry of a client, if it has one.
pub(crate) type Sink = Option<TelemetrySink>;

/// Tells of a connection, where anybody wants to know.
pub(crate) fn connection(sink: &Sink, endpoint: &str, event: ConnectionEvent, reason: &str) {
    if let Some(sink) = sink {
        sink.get().connection(&ConnectionChange {
            endpoint,
            event,
            reason,
        });
    }
}
