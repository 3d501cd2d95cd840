//! A client's watch stream, as the service that serves it holds it.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::create::Create;
use super::history::History;
use super::hub::Hub;

/// A stream of watchers. Dropping it cancels them and drops what was not taken.
pub struct Stream<H: History> {
    hub: Rc<Hub<H>>,
    slot: u32,
}

impl<H: History> Stream<H> {
    pub(super) fn new(hub: Rc<Hub<H>>, slot: u32) -> Self {
        Stream { hub, slot }
    }

    /// Creates a watcher. The answer, also a refusal, is a message of the stream.
    pub async fn create(&self, create: &Create<'_>) {
        self.hub.settle().await;
        self.hub.core.borrow_mut().create(self.slot, create);
    }

    /// Answers the creation of a watcher that is not to be.
    pub async fn refuse(&self, reason: &'static str) {
        self.hub.settle().await;
        self.hub.core.borrow_mut().refuse(self.slot, reason);
    }

    /// Cancels a watcher; an unknown id is not answered.
    pub async fn cancel(&self, id: i64) {
        self.hub.settle().await;
        self.hub.core.borrow_mut().cancel(self.slot, id);
    }

    /// Tells progress if it can be told.
    pub async fn progress(&self) {
        self.hub.settle().await;
        self.hub.core.borrow_mut().progress(self.slot);
    }

    /// Tells progress to the watchers that asked for it at intervals.
    pub fn tick(&self) {
        self.hub.core.borrow_mut().tick(self.slot);
    }

    /// Whether the stream has room for the answer to another request. A client that does not read is
    /// not read either.
    pub fn is_roomy(&self) -> bool {
        self.hub.core.borrow().is_roomy(self.slot)
    }

    /// Takes the next messages, each with gRPC's prefix. When there are none, one round of history is
    /// read for watchers that are behind; with none of those the task sleeps.
    pub fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let mut core = self.hub.core.borrow_mut();
        if let Some(messages) = core.take(self.slot) {
            return Poll::Ready(messages);
        }
        core.catch_up(self.slot);
        if let Some(messages) = core.take(self.slot) {
            return Poll::Ready(messages);
        }
        let stream = &mut core.streams[self.slot as usize];
        if stream.behind.is_empty() {
            match &mut stream.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        } else {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Waits for the next messages.
    pub async fn take(&self) -> Bytes {
        std::future::poll_fn(|cx| self.poll_take(cx)).await
    }
}

impl<H: History> Drop for Stream<H> {
    fn drop(&mut self) {
        self.hub.core.borrow_mut().close(self.slot);
    }
}
