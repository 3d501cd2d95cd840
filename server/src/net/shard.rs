//! The shards: one thread each, with a current-thread runtime and a `LocalSet`, serving the connections given to it.
//! Nothing is shared between shards but what the handler shares. The node starts and stops them.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

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
    /// Makes the handler of the shard of a number.
    pub handler: F,
    /// Turns true when no further connection is to be taken and the open ones are to end.
    pub stopping: watch::Receiver<bool>,
}

/// A shard's end of the acceptor: each socket goes to one shard.
pub(super) type Sockets = mpsc::UnboundedSender<std::net::TcpStream>;

impl<F, H> StartShards<F>
where
    F: Fn(usize) -> H + Send + Sync + 'static,
    H: Handler,
{
    /// Starts the threads; calls arrive from now on.
    ///
    /// # Errors
    /// A thread or a runtime could not be made.
    pub fn start(self, bound: acceptor::Bound) -> io::Result<Shards> {
        let handler = Arc::new(self.handler);
        let mut threads = Vec::with_capacity(self.count + 1);
        let mut senders = Vec::with_capacity(self.count);
        for index in 0..self.count {
            // Unbounded: the process's limit on open files bounds it.
            let (sender, sockets) = mpsc::unbounded_channel();
            senders.push(sender);
            let (limits, handler, stopping) =
                (self.limits.clone(), handler.clone(), self.stopping.clone());
            let runtime = Builder::new_current_thread().enable_all().build()?;
            threads.push(
                thread::Builder::new()
                    .name(format!("shard-{index}"))
                    .spawn(move || {
                        let local = LocalSet::new();
                        local.block_on(&runtime, async move {
                            serve(sockets, limits, Rc::new(handler(index)), stopping).await
                        });
                    })?,
            );
        }
        threads.push(acceptor::start(bound, senders, self.stopping)?);
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

async fn serve(
    mut sockets: mpsc::UnboundedReceiver<std::net::TcpStream>,
    limits: ConnectionLimits,
    handler: Rc<impl Handler>,
    stopping: watch::Receiver<bool>,
) {
    let limits = Rc::new(limits);
    let mut connections = JoinSet::new();
    // The acceptor drops its end when the member stops.
    loop {
        tokio::select! {
            socket = sockets.recv() => match socket.map(TcpStream::from_std) {
                Some(Ok(socket)) => {
                    let served = connection::serve(socket, limits.clone(), handler.clone(), stopping.clone());
                    connections.spawn_local(served);
                }
                Some(Err(error)) => tracing::warn!(%error, "a connection was dropped: it could not be polled"),
                None => break,
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}
