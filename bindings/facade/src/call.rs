//! A call: what a verb makes, and its two ways to be run. Nothing is sent before that.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use futures::task::AtomicWaker;
use parking_lot::Mutex;

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
pub struct Call(Mine<Work>);

impl Call {
    pub(crate) fn new(work: impl Future<Output = Result<Answer>> + Send + 'static) -> Call {
        Call(Mine::new(Box::pin(work)))
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
        let Some(work) = self.0.take() else {
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
    /// The call's own. `Interrupted`: it may have been done, if it writes.
    pub fn wait(self, mut interrupted: impl FnMut() -> bool) -> Result<Answer> {
        let waiter = Arc::new(Waiter {
            result: Mutex::new(None),
            thread: thread::current(),
        });
        let op = self.run(Target::Waiter(waiter.clone()))?;
        loop {
            if let Some(result) = waiter.result.lock().take() {
                return result;
            }
            let began = std::time::Instant::now();
            thread::park_timeout(TICK);
            if began.elapsed() >= TICK && interrupted() {
                op.cancel();
                return Err(Error::interrupted());
            }
        }
    }

    /// Runs it; the answer comes to `completions` with this token, unless the operation is cancelled before.
    ///
    /// # Errors
    /// `Closed`: the process is about to end. `Forked`: the call was made by its parent.
    pub fn submit(self, completions: &Arc<Completions>, token: u64) -> Result<Op> {
        self.run(Target::Queue(completions.clone(), token))
    }

    fn run(self, target: Target) -> Result<Op> {
        let work = self.0.take().ok_or_else(Error::forked)?;
        let op = Op(Arc::default());
        runtime::current()?.submit(work, op.clone(), target)?;
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
}

impl Op {
    /// Gives the call up. If it writes, it may have been done, or may yet be. Its answer may have come already.
    pub fn cancel(&self) {
        self.0.wanted.store(true, Ordering::Release);
        self.0.waker.wake();
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
