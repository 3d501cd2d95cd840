//! A TCP socket that the runtime's reactor watches, or does not know, while its connection is lent (`lending.rs`). Who borrows it waits for it by its
//! descriptor; what it reads and writes goes the same way in both cases, without a wait where it is not watched.

use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use rustix::event::PollFlags;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::lookout::Lookout;
use crate::locks::Mutex;

/// So much is read at a time while it is not watched. Whoever borrows has memory of its own, of which it may have to get that for large answers again
/// and again: Python's first thread read a quarter as fast as the runtime's.
const MUCH_BYTES: usize = 64 << 10;

/// The socket. Only who drives its connection reads, writes and changes whether it is watched, so the lock is always free.
pub(super) struct Tcp {
    socket: Arc<TcpStream>,
    watched: Mutex<Option<Watched>>,
    /// The event loop that waits for it while it is not watched.
    lookout: Mutex<Option<Arc<Lookout>>>,
    /// A write found no room while it was not watched.
    full: AtomicBool,
    /// It is not watched, and something has come since it was read empty.
    came: AtomicBool,
    /// Bytes that were read while it is not watched.
    read: AtomicUsize,
}

struct Watched {
    ready: AsyncFd<Arc<TcpStream>>,
    /// For room to write, too. After a loan only once there was none: a socket has room, so the reactor would wake its thread at once, to say it.
    for_room: bool,
}

impl Tcp {
    /// One that is watched.
    ///
    /// # Errors
    /// It can't be watched.
    pub(super) fn new(socket: tokio::net::TcpStream) -> io::Result<Arc<Tcp>> {
        let socket = Arc::new(socket.into_std()?);
        Ok(Arc::new(Tcp {
            watched: Mutex::new(Some(Watched::new(&socket, true)?)),
            lookout: Mutex::new(None),
            socket,
            full: AtomicBool::new(false),
            came: AtomicBool::new(false),
            read: AtomicUsize::new(0),
        }))
    }

    /// Has the reactor of the current runtime watch it. What has come before is said as well.
    ///
    /// # Errors
    /// It can't.
    pub(super) fn watch(&self) -> io::Result<()> {
        self.leave();
        let for_room = self.full.swap(false, Ordering::Relaxed);
        *self.watched.lock() = Some(Watched::new(&self.socket, for_room)?);
        Ok(())
    }

    /// Has the reactor forget it, and an event loop wait for it instead, if one is given. Nothing is read then before [`came`](Tcp::came). False, and
    /// nothing has changed, when it can't.
    pub(super) fn unwatch(&self, lookout: Option<&Arc<Lookout>>) -> bool {
        if let Some(lookout) = lookout
            && lookout.enter(self.socket.as_fd()).is_err()
        {
            return false;
        }
        self.leave();
        *self.lookout.lock() = lookout.cloned();
        *self.watched.lock() = None;
        self.came.store(false, Ordering::Relaxed);
        self.read.store(0, Ordering::Relaxed);
        true
    }

    /// No event loop waits for it any more.
    fn leave(&self) {
        if let Some(lookout) = self.lookout.lock().take() {
            lookout.leave(self.socket.as_fd());
        }
    }

    /// What was read for the call before does not count.
    pub(super) fn begin(&self) {
        self.read.store(0, Ordering::Relaxed);
    }

    /// So much was read while it is not watched that it has to be watched again before there is more.
    pub(super) fn has_read_much(&self) -> bool {
        self.read.load(Ordering::Relaxed) >= MUCH_BYTES
    }

    /// A write waits for room.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Something has come, says who waits for it while it is not watched. So no read is in vain.
    pub(super) fn came(&self) {
        self.came.store(true, Ordering::Relaxed);
    }

    /// What is to be waited for while it is not watched.
    pub(super) fn awaited(&self) -> PollFlags {
        if self.is_full() {
            PollFlags::IN | PollFlags::OUT
        } else {
            PollFlags::IN
        }
    }

    fn read_what_came(&self, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.came.load(Ordering::Relaxed) || self.has_read_much() {
            return Poll::Pending;
        }
        let room = buffer.remaining();
        let read = read(&self.socket, buffer);
        if let Ok(bytes) = read {
            self.read.fetch_add(bytes, Ordering::Relaxed);
        }
        let blocks = matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        if blocks || matches!(read, Ok(bytes) if was_all(bytes, room)) {
            self.came.store(false, Ordering::Relaxed);
        }
        if blocks {
            return Poll::Pending;
        }
        Poll::Ready(read.map(drop))
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        // A child of this process may have it open for longer.
        self.leave();
    }
}

impl AsFd for Tcp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Watched {
    fn new(socket: &Arc<TcpStream>, for_room: bool) -> io::Result<Watched> {
        let mut interest = Interest::READABLE;
        if for_room {
            interest |= Interest::WRITABLE;
        }
        // SAFETY: what is registered has a share of the socket, which so stays open under its one number until it is registered no more. Children of the
        // process, where the number is closed, never touch it (the facade's `fork.rs`).
        let ready = unsafe { AsyncFd::register_with_interest(socket.clone(), interest) };
        let ready = ready.map_err(|refused| refused.into_parts().1)?;
        Ok(Watched { ready, for_room })
    }
}

/// The socket as its connection uses it.
pub(super) struct Wire(pub(super) Arc<Tcp>);

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let tcp = &*self.0;
        let watched = tcp.watched.lock();
        let Some(watched) = &*watched else {
            return tcp.read_what_came(buffer);
        };
        loop {
            let mut ready = ready!(watched.ready.poll_read_ready(context))?;
            let room = buffer.remaining();
            match read(&tcp.socket, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
                Ok(bytes) => {
                    // There was no more: the reactor will say when there is, and the next read is spared.
                    if was_all(bytes, room) {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let tcp = &*self.0;
        let mut watched = tcp.watched.lock();
        loop {
            let mut ready = match &*watched {
                Some(watched) if watched.for_room => {
                    Some(ready!(watched.ready.poll_write_ready(context))?)
                }
                _ => None,
            };
            match (&*tcp.socket).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                done => {
                    if watched.is_none() {
                        tcp.full.store(false, Ordering::Relaxed);
                    }
                    return Poll::Ready(done);
                }
            }
            if let Some(ready) = &mut ready {
                ready.clear_ready();
            } else if watched.is_some() {
                // Forgotten first: the reactor knows a socket once.
                *watched = None;
                *watched = Some(Watched::new(&tcp.socket, true)?);
                // It is not waited for what comes any more: the next read does that.
                context.waker().wake_by_ref();
            } else {
                tcp.full.store(true, Ordering::Relaxed);
                return Poll::Pending;
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.socket.shutdown(Shutdown::Write))
    }
}

/// Whether a read has left nothing behind. The end of the stream is not left behind, but read again.
fn was_all(bytes: usize, room: usize) -> bool {
    (1..room).contains(&bytes)
}

/// Reads what has come, and says how much. None of it is the end.
fn read(socket: &TcpStream, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
    let bytes = rustix::io::retry_on_intr(|| {
        // SAFETY: nothing is made uninitialized that was not: the kernel only writes to it.
        let room: &mut [MaybeUninit<u8>] = unsafe { buffer.unfilled_mut() };
        rustix::io::read(socket, room).map(|(read, _)| read.len())
    })?;
    // SAFETY: the kernel has written so many, at the beginning of what was unfilled, and nothing was filled since.
    unsafe { buffer.assume_init(bytes) };
    buffer.advance(bytes);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, Timespec, poll};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// More than the buffers of both sides hold.
    const MUCH_BYTES: usize = 32 << 20;

    async fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let ours = tokio::net::TcpStream::connect(address).await;
        let tcp = Tcp::new(ours.expect("it listens")).expect("it can be watched");
        let (theirs, _) = listener.accept().expect("we connected");
        (Wire(tcp), theirs)
    }

    fn comes(tcp: &Tcp) -> PollFlags {
        let mut awaited = [PollFd::new(tcp, tcp.awaited())];
        let limit = Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        poll(&mut awaited, Some(&limit)).expect("it can be waited for");
        awaited[0].revents()
    }

    #[tokio::test]
    async fn what_came_while_it_was_not_watched_is_told_when_it_is() {
        let (mut wire, mut theirs) = pair().await;
        let mut byte = [0];
        for round in 0..3 {
            assert!(wire.0.unwatch(None));
            theirs.write_all(&[round]).expect("there is room");
            if round == 1 {
                // Read by who borrowed it.
                assert_eq!(comes(&wire.0), PollFlags::IN);
                wire.0.came();
                wire.read_exact(&mut byte).await.expect("it has come");
                assert_eq!(byte, [round]);
                theirs.write_all(&[round]).expect("there is room");
            }
            wire.0.watch().expect("it can be watched");
            wire.read_exact(&mut byte).await.expect("it has come");
            assert_eq!(byte, [round]);
        }
        assert!(wire.0.unwatch(None));
        drop(theirs);
        wire.0.watch().expect("it can be watched");
        assert_eq!(wire.read(&mut byte).await.expect("the end"), 0);
    }

    #[tokio::test]
    async fn what_is_left_of_much_is_read_by_who_watches() {
        let (mut wire, mut theirs) = pair().await;
        assert!(wire.0.unwatch(None));
        let sent = vec![7; 4 * MUCH_BYTES];
        let size = sent.len();
        let writing = thread::spawn(move || theirs.write_all(&sent).map(|()| theirs));
        let mut piece = vec![0; MUCH_BYTES / 3];
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut read = 0;
        loop {
            assert_eq!(comes(&wire.0), PollFlags::IN);
            wire.0.came();
            let mut buffer = ReadBuf::new(&mut piece);
            match Pin::new(&mut wire).poll_read(&mut context, &mut buffer) {
                Poll::Ready(done) => done.expect("it has come"),
                Poll::Pending => break,
            }
            read += buffer.filled().len();
        }
        assert!(wire.0.has_read_much() && read < 2 * MUCH_BYTES);
        wire.0.watch().expect("it can be watched");
        let mut rest = vec![0; size - read];
        wire.read_exact(&mut rest).await.expect("it comes");
        assert!(wire.0.unwatch(None));
        assert!(!wire.0.has_read_much());
        writing.join().expect("it is read").expect("all of it");
    }

    #[tokio::test]
    async fn more_than_there_is_room_for_is_written_watched_or_not() {
        for (unwatched, loans) in [(false, 0), (false, 1), (true, 1)] {
            let (mut wire, mut theirs) = pair().await;
            for _ in 0..loans {
                assert!(wire.0.unwatch(None));
                wire.0.watch().expect("it can be watched");
            }
            let writing = thread::spawn(move || {
                let mut read = Vec::new();
                // Late, so that there is no room for a while.
                thread::sleep(Duration::from_millis(50));
                theirs.read_to_end(&mut read).map(|_| read)
            });
            let sent = Vec::from_iter(0..=250_u8).repeat(MUCH_BYTES / 251);
            if unwatched {
                assert!(wire.0.unwatch(None));
                let mut rest = &sent[..];
                let begin = Instant::now();
                while !rest.is_empty() {
                    let mut context = Context::from_waker(std::task::Waker::noop());
                    match Pin::new(&mut wire).poll_write(&mut context, rest) {
                        Poll::Ready(written) => rest = &rest[written.expect("it reads")..],
                        Poll::Pending => assert!(comes(&wire.0).contains(PollFlags::OUT)),
                    }
                    assert!(begin.elapsed() < Duration::from_secs(60));
                }
            } else {
                wire.write_all(&sent).await.expect("it reads");
            }
            wire.shutdown().await.expect("it is open");
            let read = writing.join().expect("it reads").expect("until the end");
            assert!(read == sent, "all of it, in order");
        }
    }

    #[tokio::test]
    async fn a_write_that_waits_for_room_does_not_forget_who_waits_for_an_answer() {
        let (wire, mut theirs) = pair().await;
        assert!(wire.0.unwatch(None));
        wire.0.watch().expect("it can be watched");
        let (full, waits) = tokio::sync::oneshot::channel();
        let mut full = Some(full);
        // Both by one task, as a connection is driven.
        let reading = tokio::spawn(async move {
            let mut wire = wire;
            poll_fn(move |context| {
                let mut byte = [0];
                let mut buffer = ReadBuf::new(&mut byte);
                if let Poll::Ready(read) = Pin::new(&mut wire).poll_read(context, &mut buffer) {
                    read.expect("it is open");
                    return Poll::Ready(buffer.filled().to_vec());
                }
                while let Poll::Ready(written) =
                    Pin::new(&mut wire).poll_write(context, &[1; 64 << 10])
                {
                    written.expect("it is open");
                }
                if let Some(full) = full.take() {
                    full.send(()).expect("it is waited for");
                }
                Poll::Pending
            })
            .await
        });
        waits.await.expect("there is no room any more");
        theirs.write_all(&[7]).expect("there is room");
        let read = tokio::time::timeout(Duration::from_secs(60), reading).await;
        assert_eq!(read.expect("it is told").expect("it reads"), [7]);
    }
}
