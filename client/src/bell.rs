//! A descriptor that is readable once it was rung: what a thread or an event loop waits for beside other descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// A bell. Rung by anybody, heard by one.
#[derive(Debug)]
pub struct Bell {
    wire: Wire,
    /// It was rung, and not hushed since.
    rung: AtomicBool,
}

impl Bell {
    /// One that was not rung.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> io::Result<Bell> {
        Ok(Bell {
            wire: Wire::new()?,
            rung: AtomicBool::new(false),
        })
    }

    /// Makes the descriptor readable. Whoever has hushed it since sees what was done before the ring.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.wire.write();
        }
    }

    /// The descriptor is not readable then, until the next ring.
    pub fn hush(&self) {
        // Who has just rung may not have written yet: then it is readable later, and hushed then.
        if self.rung.load(Ordering::Acquire) && self.wire.read() {
            self.rung.swap(false, Ordering::AcqRel);
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}

/// Linux has a descriptor for this.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Wire(OwnedFd);

#[cfg(target_os = "linux")]
impl Wire {
    fn new() -> io::Result<Wire> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Wire(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    fn write(&self) {
        // It fails when it was written to 2^64 - 2 times unread.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// False when there is nothing.
    fn read(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }
}

#[cfg(target_os = "linux")]
impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Elsewhere it is a pipe.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Wire {
    heard: OwnedFd,
    rung: OwnedFd,
}

#[cfg(not(target_os = "linux"))]
impl Wire {
    fn new() -> io::Result<Wire> {
        use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
        let (heard, rung) = rustix::pipe::pipe()?;
        for end in [&heard, &rung] {
            fcntl_setfd(end, FdFlags::CLOEXEC)?;
            ioctl_fionbio(end, true)?;
        }
        Ok(Wire { heard, rung })
    }

    fn write(&self) {
        // It fails when the pipe is full: then it is readable.
        let _ = rustix::io::write(&self.rung, &[1]);
    }

    /// False when there is nothing.
    fn read(&self) -> bool {
        rustix::io::read(&self.heard, &mut [0; 8]).is_ok()
    }
}

#[cfg(not(target_os = "linux"))]
impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn who_waits_for_rings_of_many_threads_misses_none() {
        const EACH: usize = 5000;
        let bell = Bell::new().expect("there are descriptors");
        let done = AtomicUsize::new(0);
        thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    for _ in 0..EACH {
                        done.fetch_add(1, Ordering::Relaxed);
                        bell.ring();
                    }
                });
            }
            while done.load(Ordering::Relaxed) < 3 * EACH || bell.rung.load(Ordering::Relaxed) {
                let limit = Timespec {
                    tv_sec: 60,
                    tv_nsec: 0,
                };
                let mut awaited = [PollFd::new(&bell, PollFlags::IN)];
                let came = poll(&mut awaited, Some(&limit)).expect("it can be waited for");
                assert_eq!(came, 1, "a ring was lost");
                bell.hush();
            }
        });
        // Nor is it heard for ever.
        bell.hush();
        let mut awaited = [PollFd::new(&bell, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        assert_eq!(poll(&mut awaited, Some(&now)), Ok(0));
    }
}
