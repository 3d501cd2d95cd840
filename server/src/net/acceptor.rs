//! Takes connections on every listener and hands them to the shards in turn.
//! SO_REUSEPORT would let the kernel choose by hash, which is unfair when a few connections carry all the load.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

use super::shard::Sockets;

/// Connections that the kernel keeps for us until we take them.
const BACKLOG: i32 = 1024;
/// How long a socket is silent before the kernel asks whether the peer is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// The pause when no connection can be taken, because files or memory have run out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Listeners that are bound and not yet served.
pub struct Bound {
    listeners: Vec<StdListener>,
    addresses: Vec<SocketAddr>,
}

impl Bound {
    /// Where clients are listened for, with the ports that were chosen for port 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// Binds every address.
///
/// # Errors
/// The first address that cannot be listened on, and why.
pub fn bind(addresses: &[SocketAddr]) -> Result<Bound, (SocketAddr, io::Error)> {
    let mut bound = Bound {
        listeners: Vec::new(),
        addresses: Vec::new(),
    };
    for address in addresses {
        let (listener, local) = listen(*address).map_err(|error| (*address, error))?;
        bound.listeners.push(listener);
        bound.addresses.push(local);
    }
    Ok(bound)
}

/// Takes connections for ever and closes them at once: there is nobody to talk to on these ports yet.
pub async fn turn_away(bound: Bound) {
    let mut tasks = JoinSet::new();
    for listener in bound.listeners {
        tasks.spawn(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                if let Err(error) = listener.accept().await
                    && !is_the_clients(&error)
                {
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        let ended: Result<io::Result<()>, _> = ended;
        tracing::error!(?ended, "a peer port is no longer served");
    }
}

/// Starts the thread that takes connections until the member stops.
pub(super) fn start(
    bound: Bound,
    shards: Vec<Sockets>,
    stopping: watch::Receiver<bool>,
) -> io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name("acceptor".into())
        .spawn(move || {
            LocalSet::new().block_on(&runtime, accept_all(bound, shards, stopping));
        })
}

async fn accept_all(bound: Bound, shards: Vec<Sockets>, mut stopping: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    for (index, listener) in bound.listeners.into_iter().enumerate() {
        tasks.spawn_local(accept(listener, shards.clone(), index));
    }
    drop(shards);
    let _stopped = stopping.wait_for(|stop| *stop).await;
    tasks.shutdown().await;
}

/// Takes connections for ever. `turn` is the shard of the first: listeners begin at different ones.
async fn accept(listener: StdListener, shards: Vec<Sockets>, mut turn: usize) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a listener cannot be polled"),
    };
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                turn = (turn + 1) % shards.len();
                hand_over(socket, &shards[turn]);
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken for now");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn hand_over(socket: TcpStream, shard: &Sockets) {
    let prepared = socket.set_nodelay(true).and_then(|()| {
        let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE);
        SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
        socket.into_std()
    });
    match prepared {
        // Refused only by a shard that has stopped.
        Ok(socket) => drop(shard.send(socket)),
        Err(error) => tracing::debug!(%error, "a connection ended before it was served"),
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

fn listen(address: SocketAddr) -> io::Result<(StdListener, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restarted member takes its port while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = StdListener::from(socket);
    let local = listener.local_addr()?;
    Ok((listener, local))
}
