//! Who drives a connection: its task, on the runtime, or for a moment the thread of the one call that is under way there (`borrower.rs`), which then
//! writes the request and reads the answer itself, so that no other thread is woken for them.
//!
//! ```text
//!           lend: to a call that is alone, by the thread that polls it
//!   Owned ─────────────────────────────────────────────────────────────► Lent
//!     ▲ ▲── give back: by the borrower, when the call is over or waits long ──┤
//!     └──── take back: by the task, when anybody but the borrower woke it ────┘
//!   any ──► Ended: the connection has ended, or its runtime
//! ```
//!
//! - One drives at a time: whoever does takes the driver out of its place, and no lock is held meanwhile. Nobody waits for who has it: the task is woken
//!   when it is back, and all others go without.
//! - Owned: the runtime's reactor watches the socket, and wakes the task. Lent: the reactor does not know the socket, and the borrower looks at it.
//!   So nobody reads a socket that is not his to read.
//! - What the borrower's thread wakes while it polls it drives itself. Every other wake is the task's (another call, a stream, a timer of the connection's own
//!   pings), and a task that runs takes back what is lent. A borrower that stands still holds nobody up.
//! - Either way back the reactor is told first, which says so if something has come already, and then the driver is polled: nothing is left unread or unsent.
//! - A thread that has borrowed is told of nothing. It finds out when it wants to drive that it has nothing any more, and waits for its answer as any call.
//!   An event loop may not look for long: whoever knows of its call is told, and sees to it.
//! - An event loop keeps what it was lent when its call is over (the loan rests), for the next call: until anybody else wants the connection, and no longer than
//!   the driver's timer, which wakes the task.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Handle;

use super::borrower;
use super::lookout::Lookout;
use super::tcp::Tcp;
use crate::locks::Mutex;

/// What is lent: it makes a connection go, and knows its socket.
pub(super) trait Drive: Send {
    /// Does what there is to do. Ready when the connection has ended.
    fn drive(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Has the reactor forget the socket, which is given, and an event loop wait for it. `None`: it can't be lent, or not to a loop now, and nothing has changed.
    fn unwatch(&mut self, lookout: Option<&Arc<Lookout>>) -> Option<Arc<Tcp>>;

    /// A timer wakes the task by itself, within a quarter of a second.
    fn looks_again(&self) -> bool;

    /// Has the reactor watch it again.
    ///
    /// # Errors
    /// It can't: the connection is of no more use.
    fn watch(&mut self) -> io::Result<()>;
}

/// A connection's driver, and whose it is.
pub(super) struct Lending {
    state: Mutex<State>,
    runtime: Handle,
}

struct State {
    driver: Place,
    /// The number of the loan, while there is one.
    loan: Option<u64>,
    /// How many there have been.
    loans: u64,
    /// Its borrower has no call under way.
    rests: bool,
    /// To be told when the task takes it back from a call.
    lost: Option<Waker>,
    task: Option<Waker>,
    /// The task is to be woken when the driver is back.
    awaited: bool,
}

enum Place {
    Here(Box<dyn Drive>),
    /// Somebody drives.
    Out,
    Ended,
}

impl Lending {
    /// A driver that its task owns, and the task. To be called on the runtime.
    pub(super) fn new(driver: Box<dyn Drive>) -> (Arc<Lending>, Driving) {
        let lending = Arc::new(Lending {
            state: Mutex::new(State {
                driver: Place::Here(driver),
                loan: None,
                loans: 0,
                rests: false,
                lost: None,
                task: None,
                awaited: false,
            }),
            runtime: Handle::current(),
        });
        (lending.clone(), Driving(lending))
    }

    /// Lends it. `None` when it is lent to another call, driven at this moment, or can't be lent.
    pub(super) fn lend(self: &Arc<Self>, to: Option<&LoopTerms>) -> Option<Loan> {
        let mut turn = self.turn(|state| state.loan.is_none() || state.rests)?;
        let lookout = to.map(|terms| &terms.lookout);
        let socket = turn.driver.as_mut()?.unwatch(lookout)?;
        let number = turn.lend(to);
        Some(Loan {
            lending: self.clone(),
            number,
            socket: Arc::downgrade(&socket),
        })
    }

    /// Wakes the task.
    pub(super) fn wake_task(&self) {
        let task = self.state.lock().task.clone();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Takes the driver out for whoever may have it. `None` when it is not his, or not there.
    fn turn(self: &Arc<Self>, is_his: impl FnOnce(&State) -> bool) -> Option<Turn<'_>> {
        let mut state = self.state.lock();
        if !is_his(&state) {
            return None;
        }
        self.take_out(&mut state)
    }

    /// Takes the driver out for the task, lent or not. Ready without one when the connection has ended; pending when somebody drives, who will wake
    /// the task.
    fn task_turn(self: &Arc<Self>, task: &Waker) -> Poll<Option<Turn<'_>>> {
        let mut state = self.state.lock();
        if !state
            .task
            .as_ref()
            .is_some_and(|known| known.will_wake(task))
        {
            state.task = Some(task.clone());
        }
        if matches!(state.driver, Place::Out) {
            state.awaited = true;
            return Poll::Pending;
        }
        Poll::Ready(self.take_out(&mut state))
    }

    fn take_out(self: &Arc<Self>, state: &mut State) -> Option<Turn<'_>> {
        match std::mem::replace(&mut state.driver, Place::Out) {
            Place::Here(driver) => Some(Turn {
                lending: self,
                driver: Some(driver),
                loan: state.loan,
            }),
            other => {
                state.driver = other;
                None
            }
        }
    }
}

impl Wake for Lending {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !borrower::drives_itself(self) {
            self.wake_task();
        }
    }
}

/// What an event loop borrows on.
pub(super) struct LoopTerms {
    /// Waits for the socket.
    pub(super) lookout: Arc<Lookout>,
    /// Told when it is taken back from a call.
    pub(super) lost: Waker,
}

/// Who has the driver, which is put back when this goes.
struct Turn<'a> {
    lending: &'a Arc<Lending>,
    /// `None` when the connection has ended, also by a panic.
    driver: Option<Box<dyn Drive>>,
    /// Whose it is when it is put back.
    loan: Option<u64>,
}

impl Turn<'_> {
    fn drive(&mut self) {
        let waker = Waker::from(self.lending.clone());
        let mut context = Context::from_waker(&waker);
        // Should it panic it is not put back.
        let driver = self.driver.take();
        self.driver = driver.and_then(|mut driver| {
            let ended = driver.drive(&mut context).is_ready();
            (!ended).then_some(driver)
        });
    }

    /// The next loan, by its number.
    fn lend(&mut self, to: Option<&LoopTerms>) -> u64 {
        let mut state = self.lending.state.lock();
        state.loans += 1;
        state.rests = false;
        state.lost = to.map(|terms| terms.lost.clone());
        self.loan = Some(state.loans);
        state.loans
    }

    /// It is the task's from now on, whoever's it was. Gives who is to be told, if that is not who gives it back.
    fn own(&mut self) -> Option<Waker> {
        self.loan.take()?;
        let lost = {
            let mut state = self.lending.state.lock();
            let lost = state.lost.take();
            lost.filter(|_| !std::mem::take(&mut state.rests))
        };
        if let Some(driver) = &mut self.driver
            && let Err(error) = driver.watch()
        {
            tracing::debug!(%error, "a connection can't be watched, and ends");
            self.driver = None;
        }
        lost
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut driver = self.driver.take();
        let mut state = self.lending.state.lock();
        if matches!(state.driver, Place::Out) {
            state.driver = driver.take().map_or(Place::Ended, Place::Here);
        }
        let has_ended = matches!(state.driver, Place::Ended);
        state.loan = self.loan.filter(|_| !has_ended);
        let awaited = std::mem::take(&mut state.awaited) || has_ended;
        drop(state);
        // Its task went meanwhile.
        drop(driver);
        if awaited {
            self.lending.wake_task();
        }
    }
}

/// A connection that was lent. It is given back when this is dropped.
pub(super) struct Loan {
    lending: Arc<Lending>,
    number: u64,
    /// What is to be waited for. Not kept open by it: who has lost the loan may not know for long.
    pub(super) socket: Weak<Tcp>,
}

impl Loan {
    /// False when there is nothing to drive any more: it was taken back, or has ended.
    pub(super) fn drive(&self) -> bool {
        let turn = self.turn();
        turn.map(|mut turn| turn.drive()).is_some()
    }

    fn turn(&self) -> Option<Turn<'_>> {
        self.lending.turn(|state| state.loan == Some(self.number))
    }

    /// The call is over, and the loan is kept for the next one. False when it is to be given back: it would be kept for ever.
    pub(super) fn rest(&self) -> bool {
        let Some(turn) = self.turn() else {
            return false;
        };
        let looks_again = turn.driver.as_ref().is_some_and(|it| it.looks_again());
        self.lending.state.lock().rests = looks_again;
        looks_again
    }

    /// The next call begins. False when it was taken back meanwhile.
    pub(super) fn resume(&self) -> bool {
        if let Some(socket) = self.socket.upgrade() {
            socket.begin();
        }
        let mut state = self.lending.state.lock();
        let is_there = state.loan == Some(self.number);
        if is_there {
            state.rests = false;
        }
        is_there
    }

    /// No write of the connection waits for room.
    pub(super) fn has_room(&self) -> bool {
        self.socket
            .upgrade()
            .is_some_and(|socket| !socket.is_full())
    }

    /// See [`Tcp::has_read_much`].
    pub(super) fn has_read_much(&self) -> bool {
        self.socket
            .upgrade()
            .is_some_and(|socket| socket.has_read_much())
    }

    /// Something may have come on the socket.
    pub(super) fn look(&self) {
        if let Some(socket) = self.socket.upgrade() {
            socket.came();
        }
    }

    pub(super) fn lending(&self) -> &Arc<Lending> {
        &self.lending
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(mut turn) = self.turn() else {
            // Who has it does not know what this thread has given it to do.
            return self.lending.wake_task();
        };
        let _entered = self.lending.runtime.enter();
        turn.own();
        turn.drive();
    }
}

/// The task of a connection. It ends with the driver, and the driver with it.
pub(super) struct Driving(Arc<Lending>);

impl Future for Driving {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let turn = match self.0.task_turn(context.waker()) {
            Poll::Ready(turn) => turn,
            Poll::Pending => return Poll::Pending,
        };
        let Some(mut turn) = turn else {
            return Poll::Ready(());
        };
        let lost = turn.own();
        turn.drive();
        let has_ended = turn.driver.is_none();
        drop(turn);
        if let Some(lost) = lost {
            lost.wake();
        }
        match has_ended {
            false => Poll::Pending,
            true => Poll::Ready(()),
        }
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        let driver = std::mem::replace(&mut state.driver, Place::Ended);
        state.loan = None;
        drop(state);
        // It tells of its end, and its wakers hold us.
        drop(driver);
    }
}

#[cfg(test)]
mod tests;
