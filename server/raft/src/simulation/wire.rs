//! A connection between simulated hosts of which the simulation decides what becomes of the bytes: turmoil's own breaks whole
//! links, and real ones lose parts, stall and end on a link that holds.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use turmoil::net::TcpStream;

thread_local! {
    static WIRE: RefCell<Option<Rc<dyn Wire>>> = const { RefCell::new(None) };
}

/// The hosts that a connection is between: whose end it is, and the other.
pub type Ends = (IpAddr, IpAddr);

/// What becomes of what is about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes.
    Sent,
    /// A part is lost and sent again: it and all behind it on this connection come so much later.
    Late(Duration),
    /// So many bytes go, then the connection breaks.
    Cut(usize),
    /// It and all behind it in this direction are lost, and the connection holds.
    Swallowed,
}

/// Decides for all connections of a thread.
pub trait Wire {
    /// What becomes of the next `bytes`, of which there is at least one.
    fn fate(&self, ends: Ends, bytes: usize) -> Fate;

    /// How many bytes are taken from what has come, at most; at least one.
    fn piece(&self, ends: Ends) -> usize;
}

/// From now on `wire` decides.
pub fn wire(wire: Rc<dyn Wire>) {
    WIRE.set(Some(wire));
}

fn with_wire<T>(sound: T, ask: impl FnOnce(&dyn Wire) -> T) -> T {
    let wire = WIRE.with_borrow(Clone::clone);
    wire.map_or(sound, |wire| ask(&*wire))
}

enum Way {
    Open,
    /// Once this is over, what waits goes.
    Stalled(Pin<Box<Sleep>>),
    Swallows,
    Broken,
}

/// See the file's head.
pub(crate) struct Connection {
    stream: TcpStream,
    ends: Ends,
    way: Way,
}

impl Connection {
    /// # Errors
    /// The stream has no ends any more.
    pub(crate) fn over(stream: TcpStream) -> io::Result<Self> {
        let ends = (stream.local_addr()?.ip(), stream.peer_addr()?.ip());
        Ok(Self {
            stream,
            ends,
            way: Way::Open,
        })
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let ends = self.ends;
        let most = with_wire(usize::MAX, |wire| wire.piece(ends));
        if most >= buf.remaining() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let mut bytes = vec![0; most.max(1)];
        let mut piece = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
        buf.put_slice(piece.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Way::Open = self.way
            && !bytes.is_empty()
        {
            let ends = self.ends;
            match with_wire(Fate::Sent, |wire| wire.fate(ends, bytes.len())) {
                Fate::Sent => {}
                Fate::Late(by) => self.way = Way::Stalled(Box::pin(sleep(by))),
                Fate::Swallowed => self.way = Way::Swallows,
                Fate::Cut(after) => {
                    self.way = Way::Broken;
                    let part = &bytes[..after.min(bytes.len())];
                    if !part.is_empty() {
                        return Pin::new(&mut self.stream).poll_write(cx, part);
                    }
                }
            }
        }
        match &mut self.way {
            Way::Open => {}
            Way::Stalled(over) => {
                ready!(over.as_mut().poll(cx));
                self.way = Way::Open;
            }
            Way::Swallows => return Poll::Ready(Ok(bytes.len())),
            Way::Broken => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
