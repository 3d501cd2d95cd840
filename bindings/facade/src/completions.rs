//! What calls of an event loop have come to: a queue with a descriptor that is readable while something is in it, so that a loop wakes once
//! for all that came together.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use parking_lot::Mutex;

use crate::answer::Answer;
use crate::error::Result;

/// The end of one call.
#[derive(Debug)]
pub struct Completion {
    /// As it was submitted with.
    pub token: u64,
    /// What came of it.
    pub result: Result<Answer>,
}

/// The ends of calls, for one event loop.
///
/// Its length is bounded by the calls under way.
#[derive(Debug)]
pub struct Completions {
    settled: Mutex<Vec<Completion>>,
    bell: Bell,
}

impl Completions {
    /// An empty one.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> io::Result<Completions> {
        Ok(Completions {
            settled: Mutex::default(),
            bell: Bell::new()?,
        })
    }

    /// The descriptor that is readable while there is something to take. It is closed when this is dropped.
    pub fn descriptor(&self) -> RawFd {
        self.bell.descriptor()
    }

    /// Takes all that has come. The descriptor is not readable then, until more comes.
    pub fn take(&self) -> Vec<Completion> {
        // In this order: what comes between the two rings again.
        self.bell.hush();
        std::mem::take(&mut self.settled.lock())
    }

    /// Puts one in; true when it is the first since the last time something was taken.
    pub(crate) fn push(&self, completion: Completion) -> bool {
        let mut settled = self.settled.lock();
        settled.push(completion);
        settled.len() == 1
    }

    /// Makes the descriptor readable.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }
}

/// Linux has a descriptor for this.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Bell(OwnedFd);

#[cfg(target_os = "linux")]
impl Bell {
    fn new() -> io::Result<Bell> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Bell(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn ring(&self) {
        // It fails when it has been rung 2^64 - 2 times unheard.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    fn hush(&self) {
        // It fails when it was not rung.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

/// Elsewhere it is a pipe.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Bell {
    heard: OwnedFd,
    rung: OwnedFd,
}

#[cfg(not(target_os = "linux"))]
impl Bell {
    fn new() -> io::Result<Bell> {
        use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
        let (heard, rung) = rustix::pipe::pipe()?;
        for end in [&heard, &rung] {
            fcntl_setfd(end, FdFlags::CLOEXEC)?;
            ioctl_fionbio(end, true)?;
        }
        Ok(Bell { heard, rung })
    }

    fn descriptor(&self) -> RawFd {
        self.heard.as_raw_fd()
    }

    fn ring(&self) {
        // It fails when the pipe is full: then it was rung.
        let _ = rustix::io::write(&self.rung, &[1]);
    }

    fn hush(&self) {
        // It fails when it is empty. A ring is a byte, and there is at most one since the last time, or two.
        let _ = rustix::io::read(&self.heard, &mut [0; 64]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(completions: &Completions) -> bool {
        use rustix::event::{PollFd, PollFlags, poll};
        // SAFETY: `completions` keeps it open.
        let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(completions.descriptor()) };
        let mut asked = [PollFd::new(&descriptor, PollFlags::IN)];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut asked, Some(&now)).expect("it can be asked") == 1
    }

    #[test]
    fn the_descriptor_is_readable_while_something_waits() {
        let completions = Completions::new().expect("there are descriptors");
        assert!(!is_readable(&completions));
        for token in 0..3 {
            let first = completions.push(Completion {
                token,
                result: Ok(Answer::Done),
            });
            assert_eq!(first, token == 0);
        }
        completions.ring();
        assert!(is_readable(&completions));
        let tokens: Vec<u64> = completions.take().iter().map(|done| done.token).collect();
        assert_eq!(tokens, [0, 1, 2]);
        assert!(!is_readable(&completions));
        assert!(completions.take().is_empty());
    }
}
