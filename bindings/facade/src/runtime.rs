//! The one runtime of the process: an I/O thread with a resident task, which polls every call under way. A language's threads only put
//! calls into its inbox; for all that are put while it works it is woken once. A request that is alone does not come here (`alone.rs`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use futures::task::AtomicWaker;
use keystead_client as client;
use keystead_client::locks::Mutex;
use tokio::runtime::{Builder, Handle, Runtime as Tokio};

use crate::alone::{Alone, Request};
use crate::answer::Answer;
use crate::call::{Op, Waiter, Work};
use crate::completions::{Completion, Completions};
use crate::error::{Error, Result};
use crate::fork::{Mine, OnePerProcess};

/// How long what clients leave behind, such as the lease of a lock, may take to be given back when the process ends.
const FAREWELL: Duration = Duration::from_secs(1);

static CURRENT: OnePerProcess<Current> = OnePerProcess::new();
/// How many threads the next runtime gets.
static THREADS: AtomicUsize = AtomicUsize::new(1);
/// The process is about to end: whoever asks for a runtime is refused.
static ENDED: AtomicBool = AtomicBool::new(false);

/// The runtime of this process, once there is one.
#[derive(Default)]
struct Current {
    runtime: OnceLock<Runtime>,
    /// Held by the thread that makes it.
    making: Mutex<()>,
}

/// Has the runtime use so many threads, one at least; one until this is called. It holds for the runtime that the first call makes, and
/// for those of the children of the process. False when there is one already, which keeps what it has.
pub fn set_threads(threads: usize) -> bool {
    THREADS.store(threads.max(1), Ordering::Relaxed);
    CURRENT.with(|current| current.runtime.get().is_none())
}

/// Ends the runtime, for good: calls under way fail with `Closed`, and so does every later one. Waits, for about a second at most, until
/// leases were given back. To be called before the interpreter goes.
pub fn shut_down() {
    ENDED.store(true, Ordering::Relaxed);
    CURRENT.with(|current| {
        // One that is being made is ended, too.
        let _making = current.making.lock();
        if let Some(runtime) = current.runtime.get() {
            runtime.end();
        }
    });
}

/// The runtime of this process, which is made when there is none: in a child, another one than its parent's.
pub(crate) fn current() -> Result<Arc<Inbox>> {
    if ENDED.load(Ordering::Relaxed) {
        return Err(Error::closed());
    }
    CURRENT.with(|current| {
        if let Some(runtime) = current.runtime.get() {
            return Ok(runtime.inbox.clone());
        }
        let _making = current.making.lock();
        let runtime = match current.runtime.get() {
            Some(runtime) => runtime,
            None if ENDED.load(Ordering::Relaxed) => return Err(Error::closed()),
            None => {
                let runtime = Runtime::start(THREADS.load(Ordering::Relaxed))?;
                current.runtime.get_or_init(|| runtime)
            }
        };
        Ok(runtime.inbox.clone())
    })
}

/// Where the answer of a call goes.
pub(crate) enum Target {
    /// To the thread that waits for it.
    Waiter(Arc<Waiter>),
    /// To an event loop, with a token.
    Queue(Arc<Completions>, u64),
}

/// What was submitted and not begun, and how to wake who begins it.
pub(crate) struct Inbox {
    pub(crate) alone: Arc<Alone>,
    pub(crate) tokio: Handle,
    submitted: Mutex<Submitted>,
    waker: AtomicWaker,
    /// What may have sessions when the runtime ends. Those that are gone are forgotten whenever one is added.
    clients: Mutex<Vec<Weak<Mine<client::Client>>>>,
}

#[derive(Default)]
struct Submitted {
    calls: Vec<Running>,
    ended: bool,
}

impl Inbox {
    /// # Errors
    /// `Closed`: the runtime has ended.
    pub(crate) fn submit(
        &self,
        work: Work,
        request: Option<Request>,
        op: Op,
        target: Target,
    ) -> Result<()> {
        let mut submitted = self.submitted.lock();
        if submitted.ended {
            return Err(Error::closed());
        }
        submitted.calls.push(Running {
            work,
            op,
            target: Some(target),
            _request: request,
        });
        let first = submitted.calls.len() == 1;
        drop(submitted);
        // Whoever put something in before has woken it, and it takes all there is.
        if first {
            self.waker.wake();
        }
        Ok(())
    }

    /// All that was put in, and whether nothing more will be.
    fn take(&self) -> (Vec<Running>, bool) {
        let mut submitted = self.submitted.lock();
        (std::mem::take(&mut submitted.calls), submitted.ended)
    }

    /// Has the sessions of a client ended when the runtime ends, if it is still there then.
    pub(crate) fn remember(&self, client: &Arc<Mine<client::Client>>) {
        let mut clients = self.clients.lock();
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(client));
    }

    /// Gives back the leases of all clients.
    async fn farewell(&self) {
        let clients = std::mem::take(&mut *self.clients.lock());
        let clients = clients.iter().filter_map(Weak::upgrade);
        let ends = clients.map(|client| async move {
            if let Some(client) = client.get() {
                // A lease that can't be given back ends by itself.
                let _ = client.end_sessions().await;
            }
        });
        let all: FuturesUnordered<_> = ends.collect();
        let _ = tokio::time::timeout(FAREWELL, all.collect::<Vec<()>>()).await;
    }
}

struct Runtime {
    inbox: Arc<Inbox>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Runtime {
    fn start(threads: usize) -> Result<Runtime> {
        let tokio = match threads {
            1 => Builder::new_current_thread(),
            _ => {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(threads);
                builder
            }
        }
        .enable_all()
        .thread_name("keystead-io")
        .build()
        .map_err(|error| Error::no_runtime(&error))?;
        let inbox = Arc::new(Inbox {
            alone: Alone::new(tokio.handle().clone()),
            tokio: tokio.handle().clone(),
            submitted: Mutex::default(),
            waker: AtomicWaker::new(),
            clients: Mutex::default(),
        });
        let resident = Resident {
            inbox: inbox.clone(),
            running: FuturesUnordered::new(),
            rung: Vec::new(),
        };
        let thread = without_signals(|| {
            std::thread::Builder::new()
                .name("keystead-io".into())
                .spawn(move || run(tokio, resident))
        })
        .map_err(|error| Error::no_runtime(&error))?;
        Ok(Runtime {
            inbox,
            thread: Mutex::new(Some(thread)),
        })
    }

    fn end(&self) {
        self.inbox.alone.end(FAREWELL);
        self.inbox.submitted.lock().ended = true;
        self.inbox.waker.wake();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

/// Threads inherit what their maker blocks, so all threads of the runtime block every signal: they are for the threads of the host, whose
/// handlers may expect to run there.
fn without_signals<T>(spawn: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are valid for the calls and outlive them, and the mask that was is put back on the same thread.
    unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let spawned = spawn();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        spawned
    }
}

/// The I/O thread.
fn run(tokio: Tokio, resident: Resident) {
    let clients = resident.inbox.clone();
    tokio.block_on(async {
        resident.await;
        clients.farewell().await;
    });
    // A name that is being resolved is not waited for.
    tokio.shutdown_background();
}

/// The task that polls every call. Ends when the runtime does; then every call under way has failed.
struct Resident {
    inbox: Arc<Inbox>,
    running: FuturesUnordered<Running>,
    /// Who has to be woken at the end of this turn.
    rung: Vec<Arc<Completions>>,
}

impl Future for Resident {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.inbox.waker.register(context.waker());
        let ended = loop {
            let (calls, ended) = this.inbox.take();
            this.running.extend(calls);
            if ended {
                break true;
            }
            match this.running.poll_next_unpin(context) {
                Poll::Ready(Some((target, result))) => this.settle(target, result),
                Poll::Ready(None) | Poll::Pending => break false,
            }
        };
        if ended {
            for call in std::mem::take(&mut this.running) {
                this.settle(call.target, Err(Error::closed()));
            }
        }
        for completions in this.rung.drain(..) {
            completions.ring();
        }
        if ended {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Resident {
    fn settle(&mut self, target: Option<Target>, result: Result<Answer>) {
        match target {
            Some(Target::Waiter(waiter)) => waiter.settle(result),
            Some(Target::Queue(completions, token)) => {
                let first = completions.push(Completion { token, result });
                self.rung.extend(first.then_some(completions));
            }
            None => {}
        }
    }
}

/// One call under way.
struct Running {
    work: Work,
    op: Op,
    /// Until it has ended.
    target: Option<Target>,
    _request: Option<Request>,
}

impl Future for Running {
    /// Nobody is told of what was cancelled.
    type Output = (Option<Target>, Result<Answer>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.op.0.waker.register(context.waker());
        if this.op.is_cancelled() {
            this.target = None;
            return Poll::Ready((None, Err(Error::interrupted())));
        }
        let polled = catch_unwind(AssertUnwindSafe(|| this.work.as_mut().poll(context)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready((this.target.take(), result)),
            Err(_) => Poll::Ready((this.target.take(), Err(Error::panicked()))),
        }
    }
}
