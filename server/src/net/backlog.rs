//! How many bytes of answers one connection's client has asked for and gives no window to send.
//! While it is too many, the connection takes no further call, so that a client that asks and never reads costs a
//! bounded amount of memory.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use tokio::sync::Notify;

/// Unsent bytes at which a connection takes no further call: a few of the largest answers in common use.
const LIMIT_BYTES: usize = 64 << 20;

/// The count, shared by a connection and the answers being sent on it.
#[derive(Default)]
pub(super) struct Backlog {
    bytes: Cell<usize>,
    /// The connection, while it waits for the count to fall.
    connection: RefCell<Option<Waker>>,
    /// Calls that wait for it, whose requests were still arriving when they were taken.
    calls: Notify,
}

/// Some bytes that are counted until they are dropped.
pub(super) struct Held {
    backlog: Rc<Backlog>,
    bytes: usize,
}

impl Backlog {
    /// Counts `bytes` until the result is dropped.
    pub(super) fn hold(self: &Rc<Self>, bytes: usize) -> Held {
        self.bytes.set(self.bytes.get() + bytes);
        Held {
            backlog: self.clone(),
            bytes,
        }
    }

    /// Whether another call may be taken; if not, the connection's task is woken when it may.
    pub(super) fn has_room(&self, cx: &Context<'_>) -> bool {
        let room = self.bytes.get() < LIMIT_BYTES;
        if !room {
            *self.connection.borrow_mut() = Some(cx.waker().clone());
        }
        room
    }

    /// Waits until another call may be answered.
    pub(super) async fn room(&self) {
        while self.bytes.get() >= LIMIT_BYTES {
            self.calls.notified().await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let left = self.backlog.bytes.get() - self.bytes;
        self.backlog.bytes.set(left);
        if left >= LIMIT_BYTES {
            return;
        }
        self.backlog.calls.notify_waiters();
        if let Some(waker) = self.backlog.connection.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_comes_back_when_what_was_held_is_dropped() {
        let backlog = Rc::new(Backlog::default());
        let cx = Context::from_waker(Waker::noop());
        let held = backlog.hold(LIMIT_BYTES);
        assert!(!backlog.has_room(&cx));
        drop(held);
        assert!(backlog.has_room(&cx));
    }
}
