//! The request of an event loop that is alone. The loop's thread polls it when it is submitted, and when the loop's descriptor says that something has come, on
//! a connection that is lent to it for that; so neither the request nor its answer needs the I/O thread.
//!
//! A loop may be busy for as long as it likes, or never run again. What it has borrowed is taken back without it as soon as anybody else has a use for it, after a
//! quarter of a second at the latest, and its request is then one of the I/O thread's, like any other: `Lone` hands it over, and no request that is alone has
//! less than a connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::task::{Poll, Wake, Waker};

use keystead_client::{Borrower, Lookout};

use crate::alone::Request;
use crate::call::{Op, Work};
use crate::completions::{Completion, Completions};
use crate::error::Error;
use crate::runtime::{Inbox, Target};

/// Of one event loop.
#[derive(Default)]
pub(crate) struct Lone {
    /// Dropped before what it has borrowed.
    call: Option<LoneCall>,
    /// There since the first one was.
    borrower: Option<Borrower>,
}

struct LoneCall {
    work: Work,
    op: Op,
    token: u64,
    request: Request,
    inbox: Arc<Inbox>,
    of_loop: Weak<Completions>,
}

/// What came of a step.
pub(crate) enum Step {
    /// The call is over.
    Done(Completion),
    /// It is the I/O thread's, or waits for its answer, or there was none.
    Nothing,
    /// It is to be submitted like any other.
    Refused(Work),
}

impl Lone {
    /// Begins one, if it is alone. The descriptor of `lookout` says when to look after it.
    pub(crate) fn begin(
        &mut self,
        (of_loop, lookout): (&Arc<Completions>, &Arc<Lookout>),
        inbox: &Arc<Inbox>,
        work: Work,
        (op, token): (&Op, u64),
    ) -> Step {
        // With two under way there is none alone.
        if self.call.is_some() {
            return Step::Refused(work);
        }
        let Some(request) = inbox.alone.loop_seat(of_loop) else {
            return Step::Refused(work);
        };
        // Whoever cancels it finds it there: it is the lock that he waits for.
        let _ = op.0.of_loop.set(Arc::downgrade(of_loop));
        let borrower = self.borrower.get_or_insert_with(|| {
            let lost = Waker::from(Arc::new(Lost(Arc::downgrade(of_loop))));
            Borrower::for_loop(lookout.clone(), lost, inbox.tokio.clone())
        });
        borrower.next_call();
        self.call = Some(LoneCall {
            work,
            op: op.clone(),
            token,
            request,
            inbox: inbox.clone(),
            of_loop: Arc::downgrade(of_loop),
        });
        self.poll()
    }

    /// Looks after the call, or after what was kept since the last one: something has come, or the bell was rung.
    pub(crate) fn look(&mut self) -> Step {
        let Some(borrower) = &mut self.borrower else {
            return Step::Nothing;
        };
        if self.call.is_none() {
            borrower.drive();
            return Step::Nothing;
        }
        borrower.look();
        self.poll()
    }

    fn poll(&mut self) -> Step {
        let (Some(call), Some(borrower)) = (&mut self.call, &mut self.borrower) else {
            return Step::Nothing;
        };
        let result = loop {
            let polled = catch_unwind(AssertUnwindSafe(|| borrower.poll(call.work.as_mut())));
            match polled {
                Ok(Poll::Ready(result)) => break result,
                Ok(Poll::Pending) if !borrower.is_borrowing() => {
                    return self.hand_over().map_or(Step::Nothing, Step::Done);
                }
                Ok(Poll::Pending) if borrower.sleep() => return Step::Nothing,
                Ok(Poll::Pending) => {}
                Err(_) => break Err(Error::panicked()),
            }
        };
        let token = call.token;
        if !borrower.has_borrowed() {
            call.request.was_in_vain();
        }
        self.call = None;
        Step::Done(Completion { token, result })
    }

    /// What is under way is the I/O thread's from now on. It has failed where that has ended.
    pub(crate) fn hand_over(&mut self) -> Option<Completion> {
        let call = self.call.take()?;
        self.give_back();
        if self.borrower.as_ref().is_some_and(|it| !it.has_borrowed()) {
            call.request.was_in_vain();
        }
        let target = Target::Queue(call.of_loop.upgrade()?, call.token);
        let submitted = call
            .inbox
            .submit(call.work, Some(call.request), call.op, target);
        submitted.err().map(|error| Completion {
            token: call.token,
            result: Err(error),
        })
    }

    /// Has the call fail, if there is one.
    pub(crate) fn fail(&mut self, error: Error) -> Option<Completion> {
        let token = self.call.take()?.token;
        self.give_back();
        Some(Completion {
            token,
            result: Err(error),
        })
    }

    /// Drops the call, if it is this one.
    pub(crate) fn give_up(&mut self, op: &Op) {
        if self.call.as_ref().is_some_and(|call| call.op.is(op)) {
            self.call = None;
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some(borrower) = &mut self.borrower {
            borrower.give_back();
        }
    }
}

/// Hands over what is under way when its connection was taken back. Woken by the I/O thread.
struct Lost(Weak<Completions>);

impl Wake for Lost {
    fn wake(self: Arc<Self>) {
        if let Some(of_loop) = self.0.upgrade() {
            of_loop.hand_over();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::answer::Answer;
    use crate::call::Call;
    use crate::error::{ErrorKind, Result};

    /// No step may take longer.
    const LIMIT: Duration = Duration::from_secs(60);
    fn completions() -> Arc<Completions> {
        Arc::new(Completions::new().expect("there are descriptors"))
    }

    fn submit(
        of_loop: &Arc<Completions>,
        work: impl Future<Output = Result<Answer>> + Send + 'static,
    ) -> Op {
        let call = Call::new(work).request();
        call.submit(of_loop, 7).expect("it runs")
    }

    fn taken(of_loop: &Completions) -> Completion {
        let begin = Instant::now();
        loop {
            if let Some(done) = of_loop.take().pop() {
                return done;
            }
            assert!(begin.elapsed() < LIMIT, "nothing comes");
            thread::yield_now();
        }
    }

    #[test]
    fn a_request_that_can_borrow_nothing_ends_as_any_other() {
        let of_loop = completions();
        let (polled, polls) = mpsc::channel();
        submit(&of_loop, async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            polled
                .send(thread::current().id())
                .expect("it is asked for");
            Ok(Answer::Is(true))
        });
        let done = taken(&of_loop);
        assert!(matches!(
            (done.token, done.result),
            (7, Ok(Answer::Is(true)))
        ));
        assert_ne!(
            polls.recv(),
            Ok(thread::current().id()),
            "it was left to the I/O thread"
        );
        submit(&of_loop, ready(Ok(Answer::Done)));
        assert!(matches!(taken(&of_loop).result, Ok(Answer::Done)));
        submit(&of_loop, async { panic!("as a test does") });
        let error = taken(&of_loop).result.expect_err("it panicked");
        assert_eq!(error.kind, ErrorKind::Internal);
        // Nobody is told of what was cancelled.
        submit(&of_loop, pending()).cancel();
        submit(&of_loop, ready(Ok(Answer::Is(false))));
        assert!(matches!(taken(&of_loop).result, Ok(Answer::Is(false))));
        assert!(of_loop.take().is_empty());
    }
}
