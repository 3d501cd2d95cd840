//! A connection's socket: it counts what it hears, and writes all that h2 has said since the last flush at once. h2 by itself takes the
//! way around its own buffer for every message above 256 bytes, with a write for each; with a socket that can't gather it is one
//! above 1 KiB, and here its head and its payload leave together.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::descriptors::Listed;
use super::dial::Socket;
use super::keepalive::Pulse;

/// Bytes that wait for a flush at most.
const HELD_BYTES: usize = 64 << 10;
/// What an idle connection keeps of the buffer: as much as h2's own.
const KEPT_BYTES: usize = 16 << 10;

/// The socket as h2 sees it.
pub(super) struct Metered {
    /// Dropped before the socket: a descriptor is no longer listed when somebody else gets its number.
    _listed: Listed,
    socket: Box<dyn Socket>,
    pulse: Arc<Pulse>,
    /// Written by h2 and not by us, but for the first `sent` bytes.
    held: Vec<u8>,
    sent: usize,
}

impl Metered {
    pub(super) fn new(socket: Box<dyn Socket>, listed: Listed, pulse: Arc<Pulse>) -> Metered {
        Metered {
            _listed: listed,
            socket,
            pulse,
            held: Vec::new(),
            sent: 0,
        }
    }

    /// Ready when nothing is held any more.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            let unsent = &self.held[self.sent..];
            match ready!(Pin::new(&mut self.socket).poll_write(context, unsent))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.sent = 0;
        self.held.clear();
        self.held.shrink_to(KEPT_BYTES);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.pulse.hear();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.held.len() + bytes.len() > HELD_BYTES {
            ready!(self.poll_drain(context))?;
        }
        let taken = &bytes[..bytes.len().min(HELD_BYTES)];
        self.held.extend_from_slice(taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn what_is_written_leaves_whole_and_in_order_with_the_flush() {
        let (ours, mut theirs) = duplex(1000);
        let mut socket = Metered::new(Box::new(ours), Listed::new(&io::stdin()), Arc::default());
        socket.write_all(b"head ").await.expect("held");
        socket.write_all(b"payload").await.expect("held");
        assert_eq!(socket.held, b"head payload");
        socket.flush().await.expect("written");
        let mut read = [0; 12];
        theirs.read_exact(&mut read).await.expect("all of it");
        assert_eq!(&read, b"head payload");
    }

    #[tokio::test]
    async fn more_than_it_holds_passes_while_the_other_side_reads() {
        let (ours, mut theirs) = duplex(1000);
        let mut socket = Metered::new(Box::new(ours), Listed::new(&io::stdin()), Arc::default());
        let sent: Vec<u8> = (0..10 * HELD_BYTES).map(|byte| byte as u8).collect();
        let writing = async {
            for piece in sent.chunks(70_001) {
                socket.write_all(piece).await.expect("taken");
                assert!(socket.held.len() <= HELD_BYTES);
            }
            socket
                .shutdown()
                .await
                .expect("what was held, then the end");
        };
        let mut read = Vec::new();
        let (_, done) = tokio::join!(writing, theirs.read_to_end(&mut read));
        done.expect("until the end");
        assert!(read == sent, "in order");
    }
}
