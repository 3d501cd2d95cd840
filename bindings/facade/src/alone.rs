//! The request that is alone. While no other is under way, the thread that waits for it polls it itself, and the client lends it the connection: the request
//! leaves from that thread, the answer is read there, and the I/O thread is not woken for either. An event loop does the same on other terms (`lone.rs`), for
//! it may be busy with other things while its connection wants to be looked after.
//!
//! What takes long, or has a large answer, goes on at the I/O thread. A request that comes meanwhile goes there, too, and the I/O thread takes the
//! connection back and keeps it. Then threads have company, and to borrow for nothing costs more than to ask the I/O thread; so for a while no
//! request counts as alone. The same follows a large answer, and when there was nothing to borrow.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use keystead_client::locks::{Condvar, Mutex};
use keystead_client::{Borrower, WakeBell};
use tokio::runtime::Handle;

use crate::answer::Answer;
use crate::call::Work;
use crate::completions::Completions;
use crate::error::{Error, Result};

/// So many requests in a row find no other under way before the next one is polled by its thread.
const QUIET_REQUESTS: u32 = 16;

/// Who knows how many requests are under way in a runtime.
pub(crate) struct Alone {
    state: Mutex<State>,
    left: Condvar,
    tokio: Handle,
}

#[derive(Default)]
struct State {
    /// Wherever they are polled.
    requests: usize,
    /// How many began in a row that found no other; counted up to where it matters.
    quiet: u32,
    /// One of them is polled by the thread that waits for it.
    seated: bool,
    /// There since the first one was.
    bell: Option<Arc<WakeBell>>,
    /// The event loop that was the last one alone.
    of_loop: Weak<Completions>,
    ended: bool,
}

impl State {
    fn is_free(&self) -> bool {
        self.requests == 0 && self.quiet >= QUIET_REQUESTS && !self.ended
    }
}

impl Alone {
    pub(crate) fn new(tokio: Handle) -> Arc<Alone> {
        Arc::new(Alone {
            state: Mutex::new(State {
                quiet: QUIET_REQUESTS,
                ..State::default()
            }),
            left: Condvar::default(),
            tokio,
        })
    }

    /// Counts a request that the I/O thread polls, until the result is dropped.
    pub(crate) fn beside(self: &Arc<Self>) -> Request {
        let mut state = self.state.lock();
        if state.requests > 0 {
            state.quiet = 0;
        } else if state.quiet < QUIET_REQUESTS {
            state.quiet += 1;
        }
        state.requests += 1;
        Request(self.clone())
    }

    /// The place of the one that is alone. `None` while others are under way, or were just now.
    pub(crate) fn seat(self: &Arc<Self>) -> Option<Seat> {
        let mut state = self.state.lock();
        if !state.is_free() {
            return None;
        }
        let bell = match &state.bell {
            Some(bell) => bell.clone(),
            // Without a descriptor it goes as any other.
            None => state.bell.insert(WakeBell::new().ok()?).clone(),
        };
        state.requests = 1;
        state.seated = true;
        drop(state);
        Some(Seat {
            bell,
            request: Request(self.clone()),
        })
    }

    /// The same for a request of an event loop, which polls it when its descriptor says so.
    pub(crate) fn loop_seat(self: &Arc<Self>, of_loop: &Arc<Completions>) -> Option<Request> {
        let mut state = self.state.lock();
        if !state.is_free() {
            return None;
        }
        state.requests = 1;
        if !std::ptr::eq(state.of_loop.as_ptr(), Arc::as_ptr(of_loop)) {
            state.of_loop = Arc::downgrade(of_loop);
        }
        drop(state);
        Some(Request(self.clone()))
    }

    /// Has the one that is alone fail with `Closed`, and waits until it has, but for `limit` at most: after that it polls nothing any more.
    pub(crate) fn end(&self, limit: Duration) {
        let mut state = self.state.lock();
        state.ended = true;
        if let Some(bell) = &state.bell {
            bell.ring();
        }
        let of_loop = state.of_loop.upgrade();
        let state = self.left.wait_while_for(state, |state| state.seated, limit);
        drop(state);
        // Whoever begins one now finds that all has ended.
        if let Some(of_loop) = of_loop {
            of_loop.end();
        }
    }

    /// It could not borrow, as with TLS it never can, or its answer was large. The I/O thread does such for less, and more of the kind may follow.
    fn was_in_vain(&self) {
        self.state.lock().quiet = 0;
    }

    fn has_ended(&self) -> bool {
        self.state.lock().ended
    }
}

/// Counts as a request under way until it is dropped.
pub(crate) struct Request(Arc<Alone>);

impl Request {
    /// See [`Alone::was_in_vain`].
    pub(crate) fn was_in_vain(&self) {
        self.0.was_in_vain();
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.state.lock().requests -= 1;
    }
}

/// See [`Alone::seat`].
pub(crate) struct Seat {
    bell: Arc<WakeBell>,
    request: Request,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let alone = &self.request.0;
        alone.state.lock().seated = false;
        alone.left.notify_all();
    }
}

/// How far a thread came with its request.
pub(crate) enum Went {
    Over(Result<Answer>),
    /// It goes on at the I/O thread.
    On(Work),
}

impl Seat {
    /// Polls `work` on this thread until it is over, but not for longer than about `limit`, nor when its answer is large or a signal came: who waits for
    /// long has to ask the host for signals, and that may take long, too.
    pub(crate) fn wait(self, mut work: Work, limit: Duration) -> Went {
        let alone = &self.request.0;
        let mut borrower = Borrower::new(self.bell.clone(), alone.tokio.clone());
        let began = Instant::now();
        let went = loop {
            if alone.has_ended() {
                break Went::Over(Err(Error::closed()));
            }
            match catch_unwind(AssertUnwindSafe(|| borrower.poll(work.as_mut()))) {
                Ok(Poll::Ready(result)) => break Went::Over(result),
                Ok(Poll::Pending) => {}
                Err(_) => break Went::Over(Err(Error::panicked())),
            }
            let rest = limit.saturating_sub(began.elapsed());
            if borrower.found_much() || rest.is_zero() || !borrower.wait(rest) {
                break Went::On(work);
            }
        };
        if borrower.found_much() || !borrower.has_borrowed() {
            alone.was_in_vain();
        }
        went
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::thread;

    use super::*;
    use crate::error::ErrorKind;

    const LIMIT: Duration = Duration::from_secs(60);

    fn runtime() -> tokio::runtime::Runtime {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        runtime.expect("there are threads")
    }

    fn seat(alone: &Arc<Alone>) -> Seat {
        alone.seat().expect("it is alone")
    }

    fn done() -> Work {
        Box::pin(ready(Ok(Answer::Done)))
    }

    fn kind(result: Result<Answer>) -> ErrorKind {
        result.expect_err("it fails").kind
    }

    fn over(went: Went) -> Result<Answer> {
        match went {
            Went::Over(result) => result,
            Went::On(_) => panic!("it is not over"),
        }
    }

    #[test]
    fn it_is_polled_by_the_thread_that_waits_and_ends_as_any_other() {
        let tokio = runtime();
        let wait = |work| {
            let alone = Alone::new(tokio.handle().clone());
            over(seat(&alone).wait(work, LIMIT))
        };
        let here = thread::current().id();
        let answer = wait(Box::pin(async move {
            // Woken by the runtime.
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(Answer::Is(thread::current().id() == here))
        }));
        assert!(matches!(answer, Ok(Answer::Is(true))));
        let panics = wait(Box::pin(async { panic!("as a test does") }));
        assert_eq!(kind(panics), ErrorKind::Internal);
        assert!(matches!(wait(done()), Ok(Answer::Done)));
    }

    #[test]
    fn where_nothing_can_be_borrowed_it_is_tried_now_and_then() {
        let tokio = runtime();
        let alone = Alone::new(tokio.handle().clone());
        for _ in 0..3 {
            let answer = over(seat(&alone).wait(done(), LIMIT));
            assert!(matches!(answer, Ok(Answer::Done)));
            for _ in 0..QUIET_REQUESTS {
                assert!(alone.seat().is_none());
                drop(alone.beside());
            }
        }
    }

    #[test]
    fn one_that_takes_long_goes_on_elsewhere_still_or_not() {
        let tokio = runtime();
        for still in [false, true] {
            let alone = Alone::new(tokio.handle().clone());
            let work = Box::pin(poll_fn(move |context| {
                if !still {
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }));
            let went = seat(&alone).wait(work, Duration::from_millis(20));
            assert!(matches!(went, Went::On(_)));
            // It left its place.
            drop(alone.beside());
        }
    }

    #[test]
    fn nobody_is_alone_beside_another_or_shortly_after() {
        let tokio = runtime();
        let alone = Alone::new(tokio.handle().clone());
        let other = alone.beside();
        assert!(alone.seat().is_none());
        drop(other);
        let first = seat(&alone);
        assert!(alone.seat().is_none());
        let other = alone.beside();
        drop(first);
        assert!(alone.seat().is_none());
        drop(other);
        for _ in 0..QUIET_REQUESTS {
            assert!(alone.seat().is_none());
            drop(alone.beside());
        }
        drop(seat(&alone));
        drop(seat(&alone));
    }

    #[test]
    fn the_end_has_it_fail_and_waits_until_it_has() {
        let tokio = runtime();
        let alone = Alone::new(tokio.handle().clone());
        let held = Arc::new(());
        let (seat, work) = (seat(&alone), {
            let held = held.clone();
            Box::pin(async move {
                let _held = held;
                pending().await
            })
        });
        let waits = thread::spawn(move || kind(over(seat.wait(work, Duration::from_secs(3600)))));
        alone.end(Duration::from_secs(60));
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(waits.join().expect("it ends"), ErrorKind::Closed);
        assert!(alone.seat().is_none());
        // With none there is nothing to wait for.
        let begin = Instant::now();
        alone.end(Duration::from_secs(60));
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}
