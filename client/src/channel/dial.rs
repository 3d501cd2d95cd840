//! Makes one connection: resolve, connect, HTTP/2 handshake, and the server's first word. The ring calls it; it never
//! tries again by itself.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::address::{Address, Place};
use super::connection::Connection;
use super::descriptors::Listed;
use super::keepalive::{Driver, Keepalive, Pulse};
use super::lending::Lending;
use super::socket::Metered;
use super::tcp::{Tcp, Wire};
use super::tls::Encryption;
use crate::telemetry::{self, ConnectionEvent, Sink};

/// How much of one stream may be on its way to us unread: a stream that nobody reads holds that much.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// The same for all streams of a connection: so many can be full without stopping the others.
const CONNECTION_WINDOW_BYTES: u32 = 256 << 20;
/// Larger frames mean fewer wake-ups while a large answer comes.
const FRAME_BYTES: u32 = 256 << 10;

/// What a connection runs over.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Whether sockets can be lent (`lending.rs`): where that was measured and tested. Elsewhere, with TLS and with socket files all is done by the runtime.
const LENDS: bool = cfg!(target_os = "linux");

/// A socket that is connected.
struct Dialled {
    socket: Box<dyn Socket>,
    listed: Listed,
    /// The same, where it can be lent.
    tcp: Option<Arc<Tcp>>,
}

impl Dialled {
    /// One that can't be lent.
    fn new(socket: impl Socket + 'static, listed: Listed) -> Dialled {
        Dialled {
            socket: Box::new(socket),
            listed,
            tcp: None,
        }
    }
}

/// How connections are made.
pub(super) struct Dialler {
    /// How long one may take.
    pub limit: Duration,
    pub keepalive: Keepalive,
    pub encryption: Encryption,
    pub sink: Sink,
}

impl Dialler {
    /// Connects to `address` in time and gives the connection to a task that lives as long as it is used.
    ///
    /// # Errors
    /// What went wrong, for the user to read.
    pub(super) async fn dial(&self, address: &Address) -> Result<Connection, String> {
        let limit = self.limit;
        let why = match timeout(limit, self.connect(address)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => format!("connect to {address}: {error}"),
            Err(_) => format!("connect to {address}: no greeting within {limit:?}"),
        };
        let failed = ConnectionEvent::DialFailed;
        telemetry::connection(&self.sink, address.name(), failed, &why);
        Err(why)
    }

    async fn connect(&self, address: &Address) -> io::Result<Connection> {
        let dialled = self.socket(&address.place).await?;
        greet(dialled, address, self.keepalive, &self.sink).await
    }

    async fn socket(&self, place: &Place) -> io::Result<Dialled> {
        match place {
            Place::Unix(path) => {
                let socket = UnixStream::connect(path).await?;
                let listed = Listed::new(&socket);
                Ok(Dialled::new(socket, listed))
            }
            Place::Tcp {
                host,
                port,
                encrypted,
            } => {
                let resolved = lookup_host((host.as_str(), *port)).await?;
                let socket = first_that_answers(resolved).await?;
                let listed = Listed::new(&socket);
                if *encrypted {
                    let socket = self.encryption.wrap(host, socket).await?;
                    Ok(Dialled::new(socket, listed))
                } else if LENDS {
                    let tcp = Tcp::new(socket)?;
                    let socket = Wire(tcp.clone());
                    Ok(Dialled {
                        tcp: Some(tcp),
                        ..Dialled::new(socket, listed)
                    })
                } else {
                    Ok(Dialled::new(socket, listed))
                }
            }
        }
    }
}

async fn greet(
    dialled: Dialled,
    address: &Address,
    keepalive: Keepalive,
    sink: &Sink,
) -> io::Result<Connection> {
    let pulse = Arc::new(Pulse::default());
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .enable_push(false)
        .handshake(Metered::new(dialled.socket, dialled.listed, pulse.clone()))
        .await
        .map_err(io::Error::other)?;
    let mut driver = Driver::new(connection, dialled.tcp, pulse.clone(), keepalive);
    // A server that hangs accepts connections too: its kernel does. The first word must be its own.
    poll_fn(|context| match driver.poll_until_heard(context) {
        Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    driver.tell(sink, address.name());
    let (lending, driving) = Lending::new(Box::new(driver));
    tokio::spawn(driving);
    Ok(Connection::new(requests, lending, pulse, address))
}

/// A name may stand for several addresses, of which some may be dead.
async fn first_that_answers(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    /// With another address to try, none is waited for as long as the whole dial may take.
    const PATIENCE: Duration = Duration::from_millis(700);
    let mut addresses = addresses.peekable();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    while let Some(address) = addresses.next() {
        let attempt = TcpStream::connect(address);
        let connected = if addresses.peek().is_some() {
            timeout(PATIENCE, attempt)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        } else {
            attempt.await
        };
        match connected {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
