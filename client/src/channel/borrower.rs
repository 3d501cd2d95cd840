//! The thread of a call that is alone: it polls the call itself, and while the connection is lent to it (`lending.rs`) it drives that, too. Bindings use it for
//! threads that wait until their call is over and do nothing else meanwhile. What it waits for is a bell, which whatever wakes the call rings, and the
//! socket that it has borrowed.
//!
//! Event loops borrow on other terms, for they do other things meanwhile. They wait for their `lookout.rs`, are lent only what nothing else uses, and keep it
//! from one call to the next.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::runtime::Handle;

use super::lending::{Lending, Loan, LoopTerms};
use super::lookout::Lookout;
use crate::bell::Bell;

thread_local! {
    static HERE: Here = const {
        Here {
            borrows: Cell::new(false),
            terms: RefCell::new(None),
            lending: Cell::new(ptr::null()),
            woken: Cell::new(false),
            loan: RefCell::new(None),
            has_it: Cell::new(false),
        }
    };
}

/// What a thread is about while it polls as a borrower.
struct Here {
    /// A connection may be lent to it.
    borrows: Cell<bool>,
    /// Those of an event loop.
    terms: RefCell<Option<Arc<LoopTerms>>>,
    /// What it has borrowed; only compared.
    lending: Cell<*const Lending>,
    /// That has something to do.
    woken: Cell<bool>,
    /// What it was lent just now.
    loan: RefCell<Option<Loan>>,
    /// The call goes by what is lent.
    has_it: Cell<bool>,
}

/// Lends the connection to the call that is being polled, if its thread has a use for that.
pub(super) fn offer(lending: &Arc<Lending>) {
    let _ = HERE.try_with(|here| {
        if ptr::eq(here.lending.get(), Arc::as_ptr(lending)) {
            here.has_it.set(true);
        } else if here.borrows.get()
            && let Some(loan) = lending.lend(here.terms.borrow().as_deref())
        {
            here.borrows.set(false);
            here.lending.set(Arc::as_ptr(lending));
            // What came before is its to read.
            here.woken.set(true);
            here.loan.replace(Some(loan));
            here.has_it.set(true);
        }
    });
}

/// Whether this thread has borrowed it and is polling, and so sees to it that it is driven.
pub(super) fn drives_itself(lending: &Arc<Lending>) -> bool {
    let here = HERE.try_with(|here| {
        let is_it = ptr::eq(here.lending.get(), Arc::as_ptr(lending));
        if is_it {
            here.woken.set(true);
        }
        is_it
    });
    // A thread that is about to end borrows nothing.
    here.unwrap_or(false)
}

/// Wakes the thread of a call that is alone. One thread at a time can use it.
pub struct WakeBell {
    state: AtomicU8,
    pub(super) bell: Bell,
}

/// The call need not be polled, and its thread is about to find out.
const AWAKE: u8 = 0;
/// The thread waits.
const ASLEEP: u8 = 1;
/// The call is to be polled.
const WOKEN: u8 = 2;

impl WakeBell {
    /// One that nobody waits for.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> io::Result<Arc<WakeBell>> {
        Ok(Arc::new(WakeBell {
            state: AtomicU8::new(AWAKE),
            bell: Bell::new()?,
        }))
    }

    /// Has the call polled again.
    pub fn ring(&self) {
        if self.state.swap(WOKEN, Ordering::SeqCst) == ASLEEP {
            self.bell.ring();
        }
    }

    /// Whether the call is to be polled.
    fn rise(&self) -> bool {
        self.state.swap(AWAKE, Ordering::SeqCst) == WOKEN
    }

    /// False when there is no time for that.
    fn sleep(&self) -> bool {
        let slept = self
            .state
            .compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst);
        slept != Err(WOKEN)
    }
}

impl Wake for WakeBell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// A call that its own thread polls, and what was lent to it.
///
/// Between two polls the thread is to do nothing but [`wait`](Borrower::wait), or it [gives back](Borrower::give_back) before what it has borrowed. An event
/// loop may do what it likes.
pub struct Borrower {
    bell: Arc<WakeBell>,
    runtime: Handle,
    loan: Option<Loan>,
    has_borrowed: bool,
    found_much: bool,
    /// Of an event loop.
    terms: Option<Arc<LoopTerms>>,
}

impl Borrower {
    /// For one call, on the runtime of its client.
    pub fn new(bell: Arc<WakeBell>, runtime: Handle) -> Borrower {
        bell.ring();
        Borrower {
            bell,
            runtime,
            loan: None,
            has_borrowed: false,
            found_much: false,
            terms: None,
        }
    }

    /// For the calls of an event loop, one after the other, on the runtime of their clients. `lost` is woken, on the runtime, when the connection is taken back
    /// from a call; it is not to wait for one who polls it there.
    pub fn for_loop(lookout: Arc<Lookout>, lost: Waker, runtime: Handle) -> Borrower {
        Borrower {
            terms: Some(Arc::new(LoopTerms {
                lookout: lookout.clone(),
                lost,
            })),
            ..Borrower::new(lookout.wake_bell().clone(), runtime)
        }
    }

    /// The next call of an event loop begins. What is left from the last one is kept, if nobody has taken it.
    pub fn next_call(&mut self) {
        self.bell.ring();
        if self.loan.as_ref().is_some_and(|loan| !loan.resume()) {
            self.loan = None;
        }
        self.has_borrowed = false;
        self.found_much = false;
    }

    /// Something may have come for an event loop: it is read with the next poll.
    pub fn look(&self) {
        if let Some(loan) = &self.loan {
            loan.look();
        }
    }

    /// An event loop has nothing to do until its descriptor is readable. False when the call is to be polled at once.
    pub fn sleep(&self) -> bool {
        self.bell.sleep()
    }

    /// Whether the call's connection is borrowed, as far as is known, and takes what is written. An event loop leaves other calls to the runtime.
    pub fn is_borrowing(&self) -> bool {
        self.has_borrowed && self.loan.as_ref().is_some_and(Loan::has_room)
    }

    /// Drives what an event loop has kept, if it has: something may have come though nothing was asked.
    pub fn drive(&mut self) {
        let Some(loan) = self.loan.take() else { return };
        loan.look();
        let _entered = self.runtime.enter();
        let mut borrowing = Borrowing::begin(Some(loan), self.terms.clone());
        self.loan = borrowing.keep();
    }

    /// Polls the call as far as it gets. When it is ready a thread has nothing borrowed any more; an event loop may have kept it.
    pub fn poll<F: Future + ?Sized>(&mut self, mut call: Pin<&mut F>) -> Poll<F::Output> {
        let _entered = self.runtime.enter();
        let mut borrowing = Borrowing::begin(self.loan.take(), self.terms.clone());
        let waker = Waker::from(self.bell.clone());
        let mut context = Context::from_waker(&waker);
        loop {
            if self.bell.rise() {
                let polled = call.as_mut().poll(&mut context);
                self.has_borrowed |= borrowing.take_offered();
                if polled.is_ready() {
                    if self.terms.is_some() {
                        self.loan = borrowing.keep();
                    }
                    return polled;
                }
            }
            if !borrowing.drive() {
                self.found_much |= borrowing.found_much;
                self.loan = borrowing.loan.take();
                return Poll::Pending;
            }
        }
    }

    /// Waits until the call is to be polled. False when `limit` passed, or a signal came.
    pub fn wait(&self, limit: Duration) -> bool {
        if !self.bell.sleep() {
            return true;
        }
        let limit = Timespec::try_from(limit).ok();
        let bell = self.bell.bell.as_fd();
        let mut awaited = [
            PollFd::from_borrowed_fd(bell, PollFlags::IN),
            // Nothing but the bell, where there is no socket.
            PollFd::from_borrowed_fd(bell, PollFlags::empty()),
        ];
        let socket = self.loan.as_ref().and_then(|loan| loan.socket.upgrade());
        if let Some(socket) = &socket {
            awaited[1] = PollFd::from_borrowed_fd(socket.as_fd(), socket.awaited());
        }
        let came = poll(&mut awaited, limit.as_ref()).is_ok_and(|came| came > 0);
        if !awaited[0].revents().is_empty() {
            self.bell.bell.hush();
        }
        if let Some(socket) = &socket
            && !awaited[1].revents().is_empty()
        {
            socket.came();
        }
        came
    }

    /// Whether the connection was lent to it. One with TLS is not, nor one to a socket file, nor any elsewhere than on Linux.
    pub fn has_borrowed(&self) -> bool {
        self.has_borrowed
    }

    /// Whether the answer is a large one. It was given back then, and the runtime, which reads it, polls the call for less.
    pub fn found_much(&self) -> bool {
        self.found_much
    }

    /// Gives back what was lent: a call that waits for long gains nothing by it, and its thread has other things to look at.
    pub fn give_back(&mut self) {
        self.loan = None;
    }
}

/// Makes this thread one that borrows, until it is dropped, and gives back what it has by then.
struct Borrowing {
    loan: Option<Loan>,
    /// It was given back because so much came.
    found_much: bool,
}

impl Borrowing {
    /// What it has borrowed is driven at once: its socket may be what was waited for.
    fn begin(loan: Option<Loan>, terms: Option<Arc<LoopTerms>>) -> Borrowing {
        HERE.with(|here| {
            // The next call of a loop may be on another connection.
            here.borrows.set(loan.is_none() || terms.is_some());
            here.terms.replace(terms);
            here.woken.set(loan.is_some());
            let lending = loan.as_ref().map(|loan| Arc::as_ptr(loan.lending()));
            here.lending.set(lending.unwrap_or(ptr::null()));
        });
        Borrowing {
            loan,
            found_much: false,
        }
    }

    /// Takes what was lent to the call in its last poll. False when it does not go by what is lent.
    fn take_offered(&mut self) -> bool {
        if let Some(offered) = HERE.with(|here| here.loan.take()) {
            // What a loop has kept of another connection is given back.
            self.loan = Some(offered);
        }
        HERE.with(|here| here.has_it.take())
    }

    /// Gives what an event loop keeps when its call is over, with nothing left to do. The rest is given back with this.
    fn keep(&mut self) -> Option<Loan> {
        while self.drive() {}
        if self.loan.as_ref().is_some_and(Loan::rest) {
            self.loan.take()
        } else {
            None
        }
    }

    /// Drives what is borrowed, if it has something to do. False when it has not.
    fn drive(&mut self) -> bool {
        if !HERE.with(|here| here.woken.replace(false)) {
            return false;
        }
        let Some(loan) = &self.loan else { return true };
        let is_there = loan.drive();
        let much = is_there && loan.has_read_much();
        if much || !is_there {
            self.found_much |= much;
            HERE.with(|here| here.lending.set(ptr::null()));
            self.loan = None;
        }
        true
    }
}

impl Drop for Borrowing {
    fn drop(&mut self) {
        // A call that panicked leaves it there.
        self.take_offered();
        let lending = self.loan.as_ref().map(|loan| loan.lending().clone());
        HERE.with(|here| here.woken.set(false));
        // Given back while this thread drives still, so that what the end of the call has to say wakes nobody.
        self.loan = None;
        let woken = HERE.with(|here| {
            here.borrows.set(false);
            here.terms.replace(None);
            here.lending.set(ptr::null());
            here.woken.replace(false)
        });
        if let Some(lending) = lending.filter(|_| woken) {
            lending.wake_task();
        }
    }
}
