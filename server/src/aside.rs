//! Work on the whole store, snapshots and hashes, on threads that give way to those that serve. Called by the services.

use std::panic::resume_unwind;
use std::thread;

use keystead_raft::give_way;
use tokio::task::{JoinHandle, spawn_blocking};

/// As tokio's `spawn_blocking`, which bounds and waits for it too. The work gets a thread of its own, for a thread that
/// gave way once always does.
pub(crate) fn spawn_aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    spawn_blocking(move || {
        let aside = thread::spawn(move || {
            give_way();
            work()
        });
        aside.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
