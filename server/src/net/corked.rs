//! A connection's socket, which holds back what is written while its task runs: all of it leaves in one write at the
//! end of the turn. h2 by itself writes every frame of some hundred bytes with a call of its own, and such a call costs
//! more than all else that a read costs.
//!
//! h2 has the [`Corked`] end, the connection's task the [`Cork`]. Uncorked it is a buffered socket like any other.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are held back at most, some of the largest frames in common use: beyond them a turn's answers leave in
/// several writes, and a client that does not read costs no more.
const HELD_BYTES: usize = 64 << 10;
/// What an idle connection keeps of the buffer: the answers of a usual turn.
const KEPT_BYTES: usize = 4 << 10;

/// The socket as h2 sees it.
pub(super) struct Corked<S>(Rc<RefCell<Socket<S>>>);

/// What holds the socket's writes back, and lets them go.
pub(super) struct Cork<S>(Rc<RefCell<Socket<S>>>);

struct Socket<S> {
    stream: S,
    /// Written by h2 and not by us, but for the first `sent` bytes.
    held: Vec<u8>,
    sent: usize,
    corked: bool,
}

/// The two ends of a socket, uncorked.
pub(super) fn corked<S>(stream: S) -> (Corked<S>, Cork<S>) {
    let socket = Rc::new(RefCell::new(Socket {
        stream,
        held: Vec::new(),
        sent: 0,
        corked: false,
    }));
    (Corked(socket.clone()), Cork(socket))
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    /// From now on a flush does nothing.
    pub(super) fn hold(&self) {
        self.0.borrow_mut().corked = true;
    }

    /// Uncorks the socket and writes what was held. Pending while the client takes no more; flushing goes on then.
    pub(super) fn poll_release(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.0.borrow_mut();
        socket.corked = false;
        socket.poll_drain(cx)
    }
}

impl<S: AsyncWrite + Unpin> Socket<S> {
    /// Ready when nothing is held any more.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            let unsent = &self.held[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, unsent))? {
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

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = self.0.borrow_mut();
        if socket.held.len() + bytes.len() > HELD_BYTES {
            ready!(socket.poll_drain(cx))?;
        }
        let taken = &bytes[..bytes.len().min(HELD_BYTES)];
        socket.held.extend_from_slice(taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.0.borrow_mut();
        if socket.corked {
            return Poll::Ready(Ok(()));
        }
        socket.poll_drain(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.0.borrow_mut();
        ready!(socket.poll_drain(cx))?;
        Pin::new(&mut socket.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (Corked<TcpStream>, Cork<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (corked, cork) = corked(accepted.expect("a connection").0);
        (corked, cork, client.expect("a connection"))
    }

    #[tokio::test]
    async fn what_is_written_while_the_socket_is_corked_leaves_when_it_is_released() {
        let (mut corked, cork, mut client) = pair().await;
        cork.hold();
        for piece in [&b"one "[..], b"two ", b"three"] {
            corked.write_all(piece).await.expect("held");
            corked.flush().await.expect("nothing to do");
        }
        assert_eq!(corked.0.borrow().held[..], b"one two three"[..]);
        poll_fn(|cx| cork.poll_release(cx)).await.expect("written");
        assert!(corked.0.borrow().held.is_empty());
        let mut read = [0; 13];
        client.read_exact(&mut read).await.expect("all of it");
        assert_eq!(read, *b"one two three");
        corked.write_all(b"!").await.expect("buffered");
        corked.flush().await.expect("written");
        assert_eq!(client.read_u8().await.expect("flushed"), b'!');
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_written_for_within_a_bound_and_gets_it_all_later() {
        let (mut corked, cork, mut client) = pair().await;
        let piece = |number: u32| number.to_be_bytes().repeat(4096);
        let mut pieces = 0;
        cork.hold();
        // The kernel's own buffers take some megabytes before a write has to wait.
        while let Poll::Ready(written) =
            poll_once(|cx| Pin::new(&mut corked).poll_write(cx, &piece(pieces))).await
        {
            assert_eq!(written.expect("the client is there"), 16 << 10);
            assert!(corked.0.borrow().held.len() <= HELD_BYTES);
            pieces += 1;
        }
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.expect("until the end");
            read
        });
        corked
            .shutdown()
            .await
            .expect("what was held, then the end");
        let read = reading.await.expect("no panic");
        let expected: Vec<u8> = (0..pieces).flat_map(piece).collect();
        assert!(read == expected, "{pieces} pieces in their order");
    }

    async fn poll_once<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        poll_fn(|cx| Poll::Ready(poll(cx))).await
    }
}
