//! What clients and members connect to, ports and socket files, and the connections taken there. The node binds them, the
//! acceptor polls them, the shards serve what was taken. Nothing here reads or writes a connection.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, TcpStream as StdTcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keystead_raft::PeerListener;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::config::ListenAddress;

/// Connections that the kernel keeps for us until we take them.
const BACKLOG: i32 = 1024;
/// How long a socket is silent before the kernel asks whether the peer is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Listeners that are bound and not yet served. Dropping them removes their socket files.
pub struct Bound {
    pub(super) listeners: Vec<Listener>,
    addresses: Vec<ListenAddress>,
}

impl Bound {
    /// Where it is listened, with the ports that were chosen for port 0.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }
}

/// The socket files of listeners that others serve. Dropping them removes the files.
pub struct SocketFiles {
    _files: Vec<SocketFile>,
}

impl Bound {
    /// The listeners, for the one who serves members. The files are to outlive them.
    pub fn for_peers(self) -> (Vec<PeerListener>, SocketFiles) {
        let mut files = Vec::new();
        let listeners = self.listeners.into_iter().map(|listener| match listener {
            Listener::Tcp(listener) => PeerListener::Tcp(listener),
            Listener::Unix(file, listener) => {
                files.push(file);
                PeerListener::Unix(listener)
            }
        });
        let listeners = listeners.collect();
        (listeners, SocketFiles { _files: files })
    }
}

/// Binds every address. A socket file that nobody listens on is what a killed member left, and is replaced.
///
/// # Errors
/// The first address that cannot be listened on, and why.
pub fn bind(addresses: &[ListenAddress]) -> Result<Bound, (ListenAddress, io::Error)> {
    let mut bound = Bound {
        listeners: Vec::new(),
        addresses: Vec::new(),
    };
    for address in addresses {
        let (listener, local) = listen(address).map_err(|error| (address.clone(), error))?;
        bound.listeners.push(listener);
        bound.addresses.push(local);
    }
    Ok(bound)
}

/// One bound address.
pub(super) enum Listener {
    Tcp(StdTcpListener),
    Unix(SocketFile, StdUnixListener),
}

/// The same, polled by the runtime that made it.
pub(super) enum Polled {
    Tcp(TcpListener),
    /// The file goes first, so that nobody finds it with no one behind it.
    Unix {
        _file: SocketFile,
        listener: UnixListener,
    },
}

/// A connection on its way to the runtime that will poll it.
pub(super) enum Taken {
    Tcp(StdTcpStream),
    Unix(StdUnixStream),
}

impl Listener {
    /// To be called within the runtime that is to poll it.
    pub(super) fn polled(self) -> io::Result<Polled> {
        Ok(match self {
            Self::Tcp(listener) => Polled::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(file, listener) => Polled::Unix {
                _file: file,
                listener: UnixListener::from_std(listener)?,
            },
        })
    }
}

impl Polled {
    /// Takes the next connection.
    pub(super) async fn accept(&self) -> io::Result<Taken> {
        match self {
            Self::Tcp(listener) => prepared(listener.accept().await?.0).map(Taken::Tcp),
            Self::Unix { listener, .. } => listener.accept().await?.0.into_std().map(Taken::Unix),
        }
    }
}

/// The name of a bound socket in the file system, removed when dropped.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.0.display(), "a socket file could not be removed");
        }
    }
}

fn prepared(socket: TcpStream) -> io::Result<StdTcpStream> {
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    socket.into_std()
}

fn listen(address: &ListenAddress) -> io::Result<(Listener, ListenAddress)> {
    match address {
        ListenAddress::Tcp(address) => {
            let listener = listen_tcp(*address)?;
            let local = ListenAddress::Tcp(listener.local_addr()?);
            Ok((Listener::Tcp(listener), local))
        }
        ListenAddress::Unix(path) => {
            remove_stale(path)?;
            let listener = listen_unix(path)?;
            let file = SocketFile(path.clone());
            Ok((Listener::Unix(file, listener), address.clone()))
        }
    }
}

fn listen_tcp(address: SocketAddr) -> io::Result<StdTcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // A restarted member takes its port while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn listen_unix(path: &Path) -> io::Result<StdUnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Removes a socket file that nobody listens on. etcd removes whatever has the name, a running member's socket too.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file of that name that is not a socket",
        )),
        Ok(_) if is_listened_on(path)? => Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_listened_on(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Else a listener whose queue is full would hold us up.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_a_directory() -> (tempfile::TempDir, ListenAddress) {
        let dir = tempfile::tempdir().expect("a directory");
        let address = ListenAddress::Unix(dir.path().join("localhost:2379"));
        (dir, address)
    }

    fn exists(address: &ListenAddress) -> bool {
        Path::new(&address.to_string()).exists()
    }

    #[test]
    fn a_socket_file_goes_with_its_listener() {
        let (_dir, address) = in_a_directory();
        let bound = bind(std::slice::from_ref(&address)).expect("bound");
        assert!(exists(&address));
        drop(bound);
        assert!(!exists(&address));
    }

    #[test]
    fn a_socket_file_that_nobody_listens_on_is_replaced() {
        let (_dir, address) = in_a_directory();
        drop(StdUnixListener::bind(address.to_string()).expect("bound"));
        assert!(exists(&address), "the standard listener leaves its file");
        bind(&[address]).expect("bound again");
    }

    #[test]
    fn a_socket_file_in_use_and_a_file_of_another_kind_are_left_alone() {
        let (dir, address) = in_a_directory();
        let _in_use = bind(std::slice::from_ref(&address)).expect("bound");
        let refused = bind(std::slice::from_ref(&address)).err().expect("refused");
        assert_eq!(refused.1.kind(), io::ErrorKind::AddrInUse);
        assert!(exists(&address));
        let file = dir.path().join("notes");
        fs::write(&file, "mine").expect("written");
        let refused = bind(&[ListenAddress::Unix(file.clone())]).err();
        assert_eq!(
            refused.expect("refused").1.kind(),
            io::ErrorKind::AlreadyExists
        );
        assert!(file.exists());
    }
}
