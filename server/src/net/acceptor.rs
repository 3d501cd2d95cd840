//! Takes connections on every listener and hands them to the shards in turn.
//! SO_REUSEPORT would let the kernel choose by hash, which is unfair when a few connections carry all the load.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::listener::{Bound, Listener};
use super::shard::{self, Connections};

/// The pause when no connection can be taken, because files or memory have run out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Starts the thread that takes connections until the member stops.
pub(super) fn start(
    bound: Bound,
    shards: Vec<Connections>,
    connections: usize,
    stopping: watch::Receiver<bool>,
) -> io::Result<JoinHandle<()>> {
    let places = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
    shard::spawn("acceptor".to_owned(), move |runtime| {
        runtime.block_on(accept_all(bound, shards, places, stopping));
    })
}

async fn accept_all(
    bound: Bound,
    shards: Vec<Connections>,
    places: Arc<Semaphore>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    for (index, listener) in bound.listeners.into_iter().enumerate() {
        tasks.spawn_local(accept(listener, shards.clone(), places.clone(), index));
    }
    drop(shards);
    let _stopped = stopping.wait_for(|stop| *stop).await;
    tasks.shutdown().await;
}

/// Takes connections for ever. `turn` is the shard of the first: listeners begin at different ones.
async fn accept(
    listener: Listener,
    shards: Vec<Connections>,
    places: Arc<Semaphore>,
    mut turn: usize,
) {
    let listener = match listener.polled() {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a listener cannot be polled"),
    };
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok(connection) => {
                turn = (turn + 1) % shards.len();
                // Refused only by a shard that has stopped.
                drop(shards[turn].send((connection, place)));
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken for now");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// Whether only this one connection failed.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
