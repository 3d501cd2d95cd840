//! Where the members are dialled: at the peer URLs that the membership in force names for them. Looked up for every dial,
//! and so are the names in the URLs.

use std::collections::BTreeMap;
use std::io;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

#[cfg(feature = "simulation")]
use crate::blocking::simulated;
use crate::type_config::Membership;

/// The members' peer URLs, by id.
#[derive(Default)]
pub(crate) struct Addresses(Mutex<BTreeMap<u64, Vec<String>>>);

impl Addresses {
    /// Takes over what a membership says of its members. Those that are not in it stay: it may be taken back.
    pub(crate) fn learn(&self, membership: &Membership) {
        let nodes = membership.nodes();
        self.0
            .lock()
            .extend(nodes.map(|(id, node)| (*id, node.peer_urls.clone())));
    }

    /// The peer URLs of a member; none of one that is unknown.
    pub(crate) fn of(&self, id: u64) -> Vec<String> {
        self.0.lock().get(&id).cloned().unwrap_or_default()
    }
}

/// A connection of any kind.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Connects to a peer URL.
pub(crate) async fn connect(url: &str) -> io::Result<Box<dyn Socket>> {
    let unusable = |why: &str| io::Error::new(io::ErrorKind::Unsupported, format!("{url}: {why}"));
    match url.split_once("://") {
        #[cfg(feature = "simulation")]
        Some(("http", authority)) if simulated() => {
            let stream = turmoil::net::TcpStream::connect(authority).await?;
            Ok(Box::new(crate::simulation::Connection::over(stream)?))
        }
        Some(("http", authority)) => {
            let socket = TcpStream::connect(authority).await?;
            socket.set_nodelay(true)?;
            Ok(Box::new(socket))
        }
        Some(("unix", path)) => Ok(Box::new(UnixStream::connect(path).await?)),
        Some(("https", _)) => Err(unusable("this release has no TLS between members")),
        _ => Err(unusable("not a peer URL")),
    }
}
