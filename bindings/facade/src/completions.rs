//! What calls of an event loop have come to: a queue with a descriptor that is readable while something is in it, so that a loop wakes once
//! for all that came together. A request that is alone never comes into it: it is looked after when the loop takes (`lone.rs`).

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::sync::Arc;

use keystead_client::Lookout;
use keystead_client::locks::Mutex;

use crate::answer::Answer;
use crate::call::{Op, Work};
use crate::error::{Error, Result};
use crate::fork::Mine;
use crate::lone::{Lone, Step};
use crate::runtime::Inbox;

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
/// Its length is bounded by the calls under way. A loop that is busy, and takes nothing, holds up nobody but itself.
pub struct Completions {
    settled: Mutex<Vec<Completion>>,
    lookout: Arc<Lookout>,
    lone: Mine<Mutex<Lone>>,
}

impl Completions {
    /// An empty one.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> io::Result<Completions> {
        Ok(Completions {
            settled: Mutex::default(),
            lookout: Arc::new(Lookout::new()?),
            lone: Mine::new(Mutex::default()),
        })
    }

    /// The descriptor that is readable while something is to be taken. It is closed when this is dropped. On Linux it is an epoll set, of which a request that is
    /// alone needs the socket: wait for it by whatever can wait for descriptors, until it is readable, not for the next change, and don't read it.
    pub fn descriptor(&self) -> RawFd {
        self.lookout.as_fd().as_raw_fd()
    }

    /// Takes all that has come, which may be nothing: the descriptor is also readable while a part of an answer is to be read, and that is done here, by the
    /// thread that calls this. Waits for nothing. The descriptor is not readable then, until more comes.
    pub fn take(&self) -> Vec<Completion> {
        // In this order: what comes between the two rings again.
        self.lookout.hush();
        let lone = self.lone.get().map(|lone| lone.lock().look());
        let mut taken = std::mem::take(&mut *self.settled.lock());
        if let Some(Step::Done(done)) = lone {
            taken.push(done);
        }
        taken
    }

    /// Begins a request here, if it is alone. Gives it where it is to be submitted.
    pub(crate) fn begin(
        self: &Arc<Self>,
        inbox: &Arc<Inbox>,
        work: Work,
        op: &Op,
        token: u64,
    ) -> Option<Work> {
        // One of the parent's is nobody's here.
        let Some(lone) = self.lone.get() else {
            return Some(work);
        };
        let of_loop = (self, &self.lookout);
        let step = lone.lock().begin(of_loop, inbox, work, (op, token));
        match step {
            Step::Refused(work) => return Some(work),
            Step::Done(done) => self.settle(done),
            Step::Nothing => {}
        }
        None
    }

    /// The connection of the request that is alone was taken back.
    pub(crate) fn hand_over(&self) {
        self.with_lone(Lone::hand_over);
    }

    /// The runtime has ended.
    pub(crate) fn end(&self) {
        self.with_lone(|lone| lone.fail(Error::closed()));
    }

    /// Nobody wants this request any more, if it is the one that is alone.
    pub(crate) fn give_up(&self, op: &Op) {
        self.with_lone(|lone| {
            lone.give_up(op);
            None
        });
    }

    fn with_lone(&self, work: impl FnOnce(&mut Lone) -> Option<Completion>) {
        let done = self.lone.get().and_then(|lone| work(&mut lone.lock()));
        if let Some(done) = done {
            self.settle(done);
        }
    }

    fn settle(&self, done: Completion) {
        if self.push(done) {
            self.ring();
        }
    }

    /// Puts one in; true when it is the first since the last time something was taken.
    pub(crate) fn push(&self, completion: Completion) -> bool {
        let mut settled = self.settled.lock();
        settled.push(completion);
        settled.len() == 1
    }

    /// Makes the descriptor readable.
    pub(crate) fn ring(&self) {
        self.lookout.ring();
    }
}

impl fmt::Debug for Completions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Completions")
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
