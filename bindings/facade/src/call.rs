//! A call: what a verb makes, and its two ways to be run. Nothing is sent before that.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use futures::task::AtomicWaker;
use keystead_client::locks::Mutex;

use crate::alone::Went;
use crate::answer::Answer;
use crate::completions::Completions;
use crate::error::{Error, Result};
use crate::fork::Mine;
use crate::runtime::{self, Target};

pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

/// How often a thread that waits looks whether it was interrupted. Twice within the fifty milliseconds that we promise.
const TICK: Duration = Duration::from_millis(20);

/// One call, not begun. Dropping it does nothing.
#[must_use = "a call does nothing until it is run"]
pub struct Call {
    work: Mine<Work>,
    is_request: bool,
}

impl Call {
    pub(crate) fn new(work: impl Future<Output = Result<Answer>> + Send + 'static) -> Call {
        Call {
            work: Mine::new(Box::pin(work)),
            is_request: false,
        }
    }

    /// The same, known to ask its server at once and to be over when that has answered.
    pub(crate) fn request(self) -> Call {
        Call {
            is_request: true,
            ..self
        }
    }

    /// A call whose answer is known to be an error.
    pub(crate) fn failed(error: Error) -> Call {
        Call::new(async { Err(error) })
    }

    /// The same, given up after `limit`.
    pub(crate) fn within(
        self,
        limit: Option<Duration>,
        late: impl FnOnce(Duration) -> Error + Send + 'static,
    ) -> Call {
        let Some(limit) = limit else { return self };
        let Some(work) = self.work.take() else {
            return Call::failed(Error::forked());
        };
        Call::new(async move {
            let done = tokio::time::timeout(limit, work).await;
            done.unwrap_or_else(|_| Err(late(limit)))
        })
    }

    /// Runs it and waits. `interrupted` is asked about every 20 ms, on this thread; when it says yes the call is given up.
    ///
    /// # Errors
    /// The call's own. `Interrupted`: it may have been done, if it writes. `Forked`: this is a child that was forked while `interrupted` was asked.
    pub fn wait(self, mut interrupted: impl FnMut() -> bool) -> Result<Answer> {
        let mut work = self.work.take().ok_or_else(Error::forked)?;
        let inbox = runtime::current()?;
        if self.is_request
            && let Some(seat) = inbox.alone.seat()
        {
            match seat.wait(work, TICK) {
                Went::Over(result) => return result,
                Went::On(rest) => {
                    // The host may fork while it is asked, and the rest is the parent's.
                    let rest = Mine::new(rest);
                    if interrupted() {
                        return Err(Error::interrupted());
                    }
                    work = rest.take().ok_or_else(Error::forked)?;
                }
            }
        }
        let waiter = Arc::new(Waiter {
            result: Mutex::new(None),
            thread: thread::current(),
        });
        let op = Op(Arc::default());
        let target = Target::Waiter(waiter.clone());
        let request = self.is_request.then(|| inbox.alone.beside());
        inbox.submit(work, request, op.clone(), target)?;
        let here = Mine::new(());
        loop {
            if let Some(result) = waiter.result.lock().take() {
                return result;
            }
            let began = std::time::Instant::now();
            thread::park_timeout(TICK);
            if began.elapsed() < TICK {
                continue;
            }
            let interrupted = interrupted();
            // A child that the host forked while it was asked has nobody who would settle this.
            if here.get().is_none() {
                return Err(Error::forked());
            }
            if interrupted {
                op.cancel();
                return Err(Error::interrupted());
            }
        }
    }

    /// Runs it; the answer comes to `completions` with this token, unless the operation is cancelled before. A request that is alone is sent by the thread that
    /// calls this, which waits for nothing.
    ///
    /// # Errors
    /// `Closed`: the process is about to end. `Forked`: the call was made by its parent.
    pub fn submit(self, completions: &Arc<Completions>, token: u64) -> Result<Op> {
        let work = self.work.take().ok_or_else(Error::forked)?;
        let inbox = runtime::current()?;
        let op = Op(Arc::default());
        let work = if self.is_request {
            match completions.begin(&inbox, work, &op, token) {
                Some(work) => work,
                None => return Ok(op),
            }
        } else {
            work
        };
        let request = self.is_request.then(|| inbox.alone.beside());
        let target = Target::Queue(completions.clone(), token);
        inbox.submit(work, request, op.clone(), target)?;
        Ok(op)
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}

/// A call under way.
#[derive(Clone, Debug)]
pub struct Op(pub(crate) Arc<Cancel>);

#[derive(Debug, Default)]
pub(crate) struct Cancel {
    wanted: AtomicBool,
    pub(crate) waker: AtomicWaker,
    /// Who polls it, if that is not the I/O thread.
    pub(crate) of_loop: OnceLock<Weak<Completions>>,
}

impl Op {
    /// Gives the call up. If it writes, it may have been done, or may yet be. Its answer may have come already.
    pub fn cancel(&self) {
        self.0.wanted.store(true, Ordering::Release);
        self.0.waker.wake();
        let of_loop = self.0.of_loop.get().and_then(Weak::upgrade);
        if let Some(of_loop) = of_loop {
            of_loop.give_up(self);
        }
    }

    pub(crate) fn is(&self, other: &Op) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.wanted.load(Ordering::Acquire)
    }
}

/// A thread that waits for one call.
pub(crate) struct Waiter {
    result: Mutex<Option<Result<Answer>>>,
    thread: Thread,
}

impl Waiter {
    pub(crate) fn settle(&self, result: Result<Answer>) {
        *self.result.lock() = Some(result);
        self.thread.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::error::ErrorKind;

    fn done() -> Call {
        Call::new(async { Ok(Answer::Done) })
    }

    fn kind(result: Result<Answer>) -> ErrorKind {
        result.expect_err("it fails").kind
    }

    #[test]
    fn a_thread_waits_for_its_answer() {
        let call = Call::new(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(Answer::Is(true))
        });
        assert!(matches!(call.wait(|| false), Ok(Answer::Is(true))));
    }

    #[test]
    fn a_thread_that_is_interrupted_waits_no_longer() {
        let dropped = Arc::new(());
        let held = dropped.clone();
        let call = Call::new(async move {
            let _held = held;
            pending().await
        });
        assert_eq!(kind(call.wait(|| true)), ErrorKind::Interrupted);
        // What the call held is let go by the I/O thread.
        while Arc::strong_count(&dropped) > 1 {
            thread::yield_now();
        }
    }

    #[test]
    fn a_request_that_takes_long_is_interrupted_or_goes_on() {
        for interrupts in [false, true] {
            let request = Call::new(async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(Answer::Done)
            });
            let mut asked = 0;
            let answer = request.request().wait(|| {
                asked += 1;
                interrupts
            });
            if interrupts {
                assert_eq!((kind(answer), asked), (ErrorKind::Interrupted, 1));
            } else {
                assert!(matches!(answer, Ok(Answer::Done)));
                assert!(asked > 1);
            }
        }
    }

    /// What a child that is forked while a thread waits for `call`, and the parent, come to.
    fn forks_while_it_waits(call: impl FnOnce(Call) -> Call) {
        let held = Arc::new(());
        let waits = Call::new({
            let held = held.clone();
            async move {
                let _held = held;
                pending().await
            }
        });
        let mut child = -1;
        let answer = call(waits).wait(|| {
            // SAFETY: the child looks at its memory and ends.
            child = unsafe { libc::fork() };
            child != 0
        });
        if child == 0 {
            let left_alone = Arc::strong_count(&held) == 2;
            let forked = answer.is_err_and(|error| error.kind == ErrorKind::Forked);
            // SAFETY: nothing of the parent's is run at such an exit.
            unsafe { libc::_exit(i32::from(!left_alone) + 2 * i32::from(!forked)) };
        }
        let mut status = 0;
        // SAFETY: the child is ours, and `status` outlives the call.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert!(libc::WIFEXITED(status), "the child ended with {status}");
        let told = libc::WEXITSTATUS(status);
        assert_eq!(told, 0, "1: it was dropped, 2: it was not told");
        assert_eq!(kind(answer), ErrorKind::Interrupted);
    }

    #[test]
    fn a_handler_that_forks_leaves_the_call_to_the_parent() {
        forks_while_it_waits(|call| call);
    }

    #[test]
    fn a_handler_that_forks_leaves_the_request_to_the_parent() {
        // Alone or not: another test may have that place.
        forks_while_it_waits(Call::request);
    }

    #[test]
    fn a_call_that_panics_harms_no_other() {
        let call = Call::new(async { panic!("as a test does") });
        assert_eq!(kind(call.wait(|| false)), ErrorKind::Internal);
        assert!(matches!(done().wait(|| false), Ok(Answer::Done)));
    }

    #[test]
    fn a_call_is_given_up_when_its_time_is_over() {
        let call = Call::new(pending()).within(Some(Duration::from_millis(1)), |_| {
            Error::not_in_time("late")
        });
        assert_eq!(kind(call.wait(|| false)), ErrorKind::DeadlineExceeded);
        assert!(
            done()
                .within(None, |_| Error::forked())
                .wait(|| false)
                .is_ok()
        );
    }

    #[test]
    fn the_ends_of_many_calls_come_to_one_queue() {
        let completions = Arc::new(Completions::new().expect("there are descriptors"));
        for token in 0..100 {
            done().submit(&completions, token).expect("it runs");
        }
        let cancelled = Call::new(pending()).submit(&completions, 100);
        cancelled.expect("it runs").cancel();
        let mut tokens = Vec::new();
        while tokens.len() < 100 {
            tokens.extend(completions.take().into_iter().map(|done| done.token));
            thread::yield_now();
        }
        tokens.sort_unstable();
        assert_eq!(tokens, (0..100).collect::<Vec<u64>>());
    }
}
