//! How the loops of this crate wait that have a thread of their own: they block it.
//!
//! The loops are async functions all the same, and every wait in them is one of these: so what a wait is, is decided here and
//! not in the loops. On its thread a loop runs from its begin to its end in one poll, and costs what a plain one would.
//! In a simulated host ([`simulated`], which is a constant `false` in every build but that of tests/simulation) a loop is
//! a task, and waits in simulated time.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::wal::File;

#[cfg(feature = "simulation")]
pub(crate) use crate::simulation::simulated;
#[cfg(not(feature = "simulation"))]
use no_tasks::Tasks;
#[cfg(feature = "simulation")]
use tokio::sync::Notify as Tasks;

/// Whether the caller runs in a simulated host.
#[cfg(not(feature = "simulation"))]
pub(crate) const fn simulated() -> bool {
    false
}

/// Runs a loop on the calling thread, to its end.
pub(crate) fn drive<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never()
        .expect("whatever it waits with blocks the thread")
}

/// Starts a loop on a thread of its own.
///
/// # Errors
/// The system has no thread to give.
pub(crate) fn start<W: Future<Output = ()> + 'static>(
    name: &str,
    work: impl FnOnce() -> W + Send + 'static,
) -> io::Result<Loop> {
    #[cfg(feature = "simulation")]
    if simulated() {
        return Ok(Loop::Task(tokio::task::spawn_local(work())));
    }
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || drive(work())).map(Loop::Thread)
}

/// A loop that was started.
pub(crate) enum Loop {
    /// It has a thread.
    Thread(JoinHandle<()>),
    /// It is a task of a simulated host, and ends with that.
    #[cfg(feature = "simulation")]
    Task(tokio::task::JoinHandle<()>),
}

impl Loop {
    /// Waits for its end. Says whether that was as it should be, and no panic.
    pub(crate) async fn ended(self) -> bool {
        match self {
            Self::Thread(thread) => thread.join().is_ok(),
            #[cfg(feature = "simulation")]
            Self::Task(task) => task.await.is_ok(),
        }
    }

    /// The same from a runtime that is not to be held up.
    pub(crate) async fn ended_aside(self) -> bool {
        match self {
            Self::Thread(thread) => {
                let joined = tokio::task::spawn_blocking(move || thread.join().is_ok());
                joined.await.unwrap_or(false)
            }
            #[cfg(feature = "simulation")]
            Self::Task(task) => task.await.is_ok(),
        }
    }

    /// The same for who drops it: nobody waits for themselves, nor in simulated time.
    pub(crate) fn join(self) -> bool {
        match self {
            Self::Thread(thread) if thread.thread().id() == thread::current().id() => true,
            Self::Thread(thread) => thread.join().is_ok(),
            #[cfg(feature = "simulation")]
            Self::Task(_) => true,
        }
    }
}

/// Holds the loop for so long.
pub(crate) async fn sleep(duration: Duration) {
    if simulated() {
        tokio::time::sleep(duration).await;
    } else {
        thread::sleep(duration);
    }
}

/// Waits for an answer that comes once.
pub(crate) async fn heard<T>(answer: oneshot::Receiver<T>) -> Result<T, oneshot::error::RecvError> {
    if simulated() {
        answer.await
    } else {
        answer.blocking_recv()
    }
}

/// Makes a file's contents durable.
pub(crate) async fn sync(file: &dyn File) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if simulated() {
        tokio::time::sleep(file.sync_takes()).await;
    }
    file.sync_data()
}

/// Tells loops that what a mutex holds has changed.
#[derive(Default)]
pub(crate) struct Bell {
    threads: Condvar,
    tasks: Tasks,
}

impl Bell {
    /// Wakes one that waits. Not to be called with the mutex locked: the lock may then be given to who waits, and is theirs for as long
    /// as they take to wake up.
    pub(crate) fn ring(&self) {
        self.threads.notify_one();
        self.tasks.notify_waiters();
    }

    /// Wakes all that wait, as [`Bell::ring`] does.
    pub(crate) fn ring_all(&self) {
        self.threads.notify_all();
        self.tasks.notify_waiters();
    }

    /// Waits until what is in `mutex` is not `idle` any more, and returns it locked.
    pub(crate) async fn wait_while<'m, T>(
        &self,
        mutex: &'m Mutex<T>,
        mut idle: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'m, T> {
        while simulated() && idle(&mut mutex.lock()) {
            self.tasks.notified().await;
        }
        let mut held = mutex.lock();
        self.threads.wait_while(&mut held, idle);
        held
    }

    /// The same, for no longer than `limit`.
    pub(crate) async fn wait_while_for<T>(
        &self,
        mutex: &Mutex<T>,
        limit: Duration,
        idle: impl FnMut(&mut T) -> bool,
    ) {
        if simulated() {
            drop(tokio::time::timeout(limit, self.wait_while(mutex, idle)).await);
        } else {
            let mut held = mutex.lock();
            self.threads.wait_while_for(&mut held, idle, limit);
        }
    }
}

/// A way to hand things to a loop.
pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, things) = mpsc::channel();
    let tasks = Arc::new(Tasks::default());
    let receiver = Receiver {
        things,
        tasks: Arc::clone(&tasks),
    };
    (Sender(sender, tasks), receiver)
}

/// The side of those who hand over.
pub(crate) struct Sender<T>(mpsc::Sender<T>, Arc<Tasks>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), self.1.clone())
    }
}

impl<T> Sender<T> {
    /// Hands `thing` over; it is dropped where the loop has ended.
    pub(crate) fn send(&self, thing: T) {
        self.0.send(thing).ok();
        self.1.notify_waiters();
    }
}

/// The loop's side.
pub(crate) struct Receiver<T> {
    things: mpsc::Receiver<T>,
    tasks: Arc<Tasks>,
}

impl<T> Receiver<T> {
    /// The next thing; none where nothing came within `limit`. The loop has a sender itself, so somebody always may.
    pub(crate) async fn receive(&self, limit: Duration) -> Option<T> {
        if !simulated() {
            return self.things.recv_timeout(limit).ok();
        }
        let next = async {
            loop {
                if let Ok(thing) = self.things.try_recv() {
                    break thing;
                }
                self.tasks.notified().await;
            }
        };
        tokio::time::timeout(limit, next).await.ok()
    }
}

/// How long in simulated time what is done aside keeps others waiting.
const ASIDE: Duration = Duration::from_millis(1);

/// Does what would hold a runtime up for long on another thread, and waits for it. What was begun is done, waited for or
/// not, unless the runtime stops.
///
/// # Errors
/// The runtime is stopping, or the work panicked.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    if simulated() {
        tokio::time::sleep(ASIDE).await;
        return Ok(work());
    }
    let working = tokio::task::spawn_blocking(work);
    working.await.map_err(io::Error::other)
}

/// Drops what takes long to drop, on another thread.
pub(crate) fn drop_aside<T: Send + 'static>(thing: T) {
    if !simulated() {
        drop(tokio::task::spawn_blocking(move || drop(thing)));
    }
}

/// What tasks are woken with, where there are none.
#[cfg(not(feature = "simulation"))]
mod no_tasks {
    #[derive(Default)]
    pub(super) struct Tasks(());

    impl Tasks {
        pub(super) fn notify_waiters(&self) {}

        pub(super) async fn notified(&self) {}
    }
}
