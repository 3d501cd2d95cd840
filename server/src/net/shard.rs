//! The shards: one thread each, with a runtime that runs local tasks and nothing else, serving the connections given to it.
//! Nothing is shared between shards but what the handler shares. The node starts and stops them.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinSet;

use super::listener::{Bound, Taken};
use super::{ConnectionLimits, Handler, acceptor, connection};

/// The running shards and the acceptor that feeds them.
pub struct Shards {
    threads: Vec<JoinHandle<()>>,
}

/// How shards are started: the handler of a shard is made on its thread.
pub struct StartShards<F> {
    /// How many.
    pub count: usize,
    /// What connections may do.
    pub limits: ConnectionLimits,
    /// Most connections that are open at once. Others wait in the kernel's queue until one ends.
    pub connections: usize,
    /// Makes the handler of the shard of a number.
    pub handler: F,
    /// Turns true when no further connection is to be taken and the open ones are to end.
    pub stopping: watch::Receiver<bool>,
}

/// The acceptor's way to one shard.
pub(super) type Connections = mpsc::UnboundedSender<Placed>;

/// A connection, and its place among those that may be open.
pub(super) type Placed = (Taken, OwnedSemaphorePermit);

impl<F, H> StartShards<F>
where
    F: Fn(usize) -> H + Send + Sync + 'static,
    H: Handler,
{
    /// Starts the threads; calls arrive from now on.
    ///
    /// # Errors
    /// A thread or a runtime could not be made.
    pub fn start(self, bound: Bound) -> io::Result<Shards> {
        let handler = Arc::new(self.handler);
        let mut threads = Vec::with_capacity(self.count + 1);
        let mut senders = Vec::with_capacity(self.count);
        for index in 0..self.count {
            // Unbounded: what is in it has a place among the connections.
            let (sender, taken) = mpsc::unbounded_channel();
            senders.push(sender);
            let (limits, handler, stopping) =
                (self.limits.clone(), handler.clone(), self.stopping.clone());
            threads.push(spawn(format!("shard-{index}"), move |runtime| {
                runtime.block_on(async move {
                    serve(taken, limits, Rc::new(handler(index)), stopping).await
                });
            })?);
        }
        threads.push(acceptor::start(
            bound,
            senders,
            self.connections,
            self.stopping,
        )?);
        Ok(Shards { threads })
    }
}

impl Shards {
    /// Waits for the threads to end, which they do some time after `stopping` turned true.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a network thread ended in a panic");
            }
        }
    }
}

/// Starts a thread with a runtime of its own. The runtime never leaves the thread, so that it takes local tasks as they
/// are, and has no `LocalSet` with a second scheduler within.
pub(super) fn spawn(
    name: String,
    run: impl FnOnce(LocalRuntime) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (built, outcome) = std::sync::mpsc::channel();
    let thread = thread::Builder::new().name(name).spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        match runtime {
            // Nobody listens when the starting thread was ended.
            Ok(runtime) if built.send(Ok(())).is_ok() => run(runtime),
            Ok(_) => {}
            Err(error) => drop(built.send(Err(error))),
        }
    })?;
    let started = outcome.recv().map_err(io::Error::other)?;
    started.map(|()| thread)
}

async fn serve(
    mut taken: mpsc::UnboundedReceiver<Placed>,
    limits: ConnectionLimits,
    handler: Rc<impl Handler>,
    stopping: watch::Receiver<bool>,
) {
    let limits = Rc::new(limits);
    let mut connections = JoinSet::new();
    // The acceptor drops its end when the member stops.
    loop {
        tokio::select! {
            connection = taken.recv() => {
                let Some((connection, place)) = connection else { break };
                let (limits, handler, stopping) = (limits.clone(), handler.clone(), stopping.clone());
                connections.spawn_local(async move {
                    let served = connection::serve(connection, limits, handler, stopping);
                    if let Err(error) = served.await {
                        tracing::warn!(%error, "a connection was dropped: it could not be polled");
                    }
                    drop(place);
                });
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}
