//! How the loops of this crate wait that have a thread of their own: they block it.
//!
//! The loops are async functions all the same, and every wait in them is one of these: so what a wait is, is decided here and
//! not in the loops. On its thread a loop runs from its begin to its end in one poll, and costs what a plain one would.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::{Condvar, Mutex, MutexGuard};

/// Runs a loop on the calling thread, to its end.
pub(crate) fn drive<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never()
        .expect("whatever it waits with blocks the thread")
}

/// Holds the loop for so long.
pub(crate) async fn sleep(duration: Duration) {
    thread::sleep(duration);
}

/// Tells loops that what a mutex holds has changed.
#[derive(Default)]
pub(crate) struct Bell(Condvar);

impl Bell {
    /// Wakes one that waits.
    pub(crate) fn ring(&self) {
        self.0.notify_one();
    }

    /// Wakes all that wait.
    pub(crate) fn ring_all(&self) {
        self.0.notify_all();
    }

    /// Waits until what is in `mutex` is not `idle` any more, and returns it locked.
    pub(crate) async fn wait_while<'m, T>(
        &self,
        mutex: &'m Mutex<T>,
        idle: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'m, T> {
        let mut held = mutex.lock();
        self.0.wait_while(&mut held, idle);
        held
    }

    /// The same, for no longer than `limit`.
    pub(crate) async fn wait_while_for<T>(
        &self,
        mutex: &Mutex<T>,
        limit: Duration,
        idle: impl FnMut(&mut T) -> bool,
    ) {
        self.0.wait_while_for(&mut mutex.lock(), idle, limit);
    }
}

/// A way to hand things to a loop.
pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel();
    (Sender(sender), Receiver(receiver))
}

/// The side of those who hand over.
pub(crate) struct Sender<T>(mpsc::Sender<T>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Sender<T> {
    /// Hands `thing` over; it is dropped where the loop has ended.
    pub(crate) fn send(&self, thing: T) {
        self.0.send(thing).ok();
    }
}

/// The loop's side.
pub(crate) struct Receiver<T>(mpsc::Receiver<T>);

impl<T> Receiver<T> {
    /// The next thing; none where nothing came within `limit`. The loop has a sender itself, so somebody always may.
    pub(crate) async fn receive(&self, limit: Duration) -> Option<T> {
        self.0.recv_timeout(limit).ok()
    }
}

/// Does what would hold a runtime up for long on another thread, and waits for it. What was begun is done, waited for or
/// not, unless the runtime stops.
///
/// # Errors
/// The runtime is stopping, or the work panicked.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<T> {
    let working = tokio::task::spawn_blocking(work);
    working.await.map_err(std::io::Error::other)
}
