//! What an event loop waits for: one descriptor that is readable once its bell was rung, or something has come on the connection that it has borrowed
//! (`borrower.rs`). The loop knows it from the first call to the last, and nothing has to be changed in it for a call.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::borrower::WakeBell;

/// The descriptor of one event loop. It may be polled, selected and put into other sets, and is not to be read.
pub struct Lookout {
    bell: Arc<WakeBell>,
    set: Set,
}

impl Lookout {
    /// One with a bell that was not rung.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> io::Result<Lookout> {
        let bell = WakeBell::new()?;
        Ok(Lookout {
            set: Set::of(&bell)?,
            bell,
        })
    }

    /// Makes the descriptor readable.
    pub fn ring(&self) {
        self.bell.bell.ring();
    }

    /// The descriptor is not readable then for what was rung before.
    pub fn hush(&self) {
        self.bell.bell.hush();
    }

    pub(super) fn wake_bell(&self) -> &Arc<WakeBell> {
        &self.bell
    }

    /// What comes on the socket makes the descriptor readable, until [`leave`](Lookout::leave).
    ///
    /// # Errors
    /// It can't.
    pub(super) fn enter(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.set.enter(socket)
    }

    pub(super) fn leave(&self, socket: BorrowedFd<'_>) {
        self.set.leave(socket);
    }
}

impl AsFd for Lookout {
    fn as_fd(&self) -> BorrowedFd<'_> {
        #[cfg(target_os = "linux")]
        return self.set.0.as_fd();
        #[cfg(not(target_os = "linux"))]
        return self.bell.bell.as_fd();
    }
}

/// The bell, and the socket while it is borrowed. One that has been read empty is no longer readable, without being told.
#[cfg(target_os = "linux")]
struct Set(std::os::fd::OwnedFd);

#[cfg(target_os = "linux")]
impl Set {
    fn of(bell: &WakeBell) -> io::Result<Set> {
        use rustix::event::epoll;
        let set = Set(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        set.enter(bell.bell.as_fd())?;
        Ok(set)
    }

    fn enter(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        use rustix::event::epoll;
        let data = epoll::EventData::new_u64(0);
        Ok(epoll::add(
            &self.0,
            descriptor,
            data,
            epoll::EventFlags::IN,
        )?)
    }

    fn leave(&self, descriptor: BorrowedFd<'_>) {
        // It fails when it is not there.
        let _ = rustix::event::epoll::delete(&self.0, descriptor);
    }
}

/// Elsewhere nothing is lent.
#[cfg(not(target_os = "linux"))]
struct Set;

#[cfg(not(target_os = "linux"))]
impl Set {
    fn of(_: &WakeBell) -> io::Result<Set> {
        Ok(Set)
    }

    fn enter(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn leave(&self, _: BorrowedFd<'_>) {}
}
