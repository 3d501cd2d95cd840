//! A driver that is a fake, and who drives it.

use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// What is seen of a driver from outside.
#[derive(Default)]
struct Seen {
    drives: AtomicUsize,
    driving: AtomicBool,
    unwatched: AtomicBool,
    /// What it has to do, which is done when it is driven.
    to_do: AtomicUsize,
    ends: AtomicBool,
    panics: AtomicBool,
    looks_again: AtomicBool,
    gone: AtomicBool,
    /// Polled in the middle of a drive.
    task: Mutex<Option<(Driving, Arc<Rung>)>>,
}

struct Fake {
    seen: Arc<Seen>,
    socket: Arc<Tcp>,
}

impl Drive for Fake {
    fn drive(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let seen = &self.seen;
        assert!(!seen.driving.swap(true, Ordering::SeqCst), "two drive");
        seen.drives.fetch_add(1, Ordering::SeqCst);
        assert!(!seen.panics.load(Ordering::SeqCst), "as a test does");
        if let Some((task, rung)) = &mut *seen.task.lock() {
            assert!(poll(task, rung).is_pending());
        }
        if seen.to_do.swap(0, Ordering::SeqCst) % 7 == 1 {
            context.waker().wake_by_ref();
        }
        seen.driving.store(false, Ordering::SeqCst);
        match seen.ends.load(Ordering::SeqCst) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn unwatch(&mut self, lookout: Option<&Arc<Lookout>>) -> Option<Arc<Tcp>> {
        self.seen.unwatched.store(true, Ordering::SeqCst);
        assert!(self.socket.unwatch(lookout));
        Some(self.socket.clone())
    }

    fn looks_again(&self) -> bool {
        self.seen.looks_again.load(Ordering::SeqCst)
    }

    fn watch(&mut self) -> io::Result<()> {
        assert!(self.seen.unwatched.swap(false, Ordering::SeqCst));
        self.socket.watch()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.seen.gone.store(true, Ordering::SeqCst);
    }
}

/// Whether the task was woken.
#[derive(Default)]
struct Rung(AtomicBool);

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn poll(task: &mut Driving, rung: &Arc<Rung>) -> Poll<()> {
    rung.0.store(false, Ordering::SeqCst);
    let waker = Waker::from(rung.clone());
    Pin::new(task).poll(&mut Context::from_waker(&waker))
}

async fn fake() -> (Arc<Seen>, Arc<Lending>, Driving) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let socket = tokio::net::TcpStream::connect(address).await;
    let socket = Tcp::new(socket.expect("it listens")).expect("it can be watched");
    let seen = Arc::new(Seen::default());
    let driver = Fake {
        seen: seen.clone(),
        socket,
    };
    let (lending, task) = Lending::new(Box::new(driver));
    (seen, lending, task)
}

impl Seen {
    fn drives(&self) -> usize {
        self.drives.load(Ordering::SeqCst)
    }

    fn is_watched(&self) -> bool {
        !self.unwatched.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn what_is_given_back_is_watched_and_driven_and_can_be_lent_again() {
    let (seen, lending, mut task) = fake().await;
    let rung = Arc::new(Rung::default());
    assert!(poll(&mut task, &rung).is_pending());
    for round in 0..3 {
        let loan = lending.lend(None).expect("nobody has it");
        assert!(!seen.is_watched());
        assert!(lending.lend(None).is_none(), "it is lent");
        assert!(loan.drive());
        assert_eq!(seen.drives(), 2 * (round + 1));
        drop(loan);
        assert!(seen.is_watched());
        assert_eq!(seen.drives(), 2 * (round + 1) + 1);
    }
    assert!(!rung.0.load(Ordering::SeqCst), "nobody woke the task");
}

#[tokio::test]
async fn the_task_takes_back_at_once_and_the_borrower_finds_nothing() {
    let (seen, lending, mut task) = fake().await;
    let rung = Arc::new(Rung::default());
    assert!(poll(&mut task, &rung).is_pending());
    let first = lending.lend(None).expect("nobody has it");
    Waker::from(lending.clone()).wake();
    assert!(rung.0.load(Ordering::SeqCst));
    assert!(poll(&mut task, &rung).is_pending());
    assert!(seen.is_watched());
    assert!(!first.drive());
    // Nor does it disturb the next one.
    let second = lending.lend(None).expect("it was taken back");
    let drives = seen.drives();
    drop(first);
    assert!(!seen.is_watched());
    assert_eq!(seen.drives(), drives);
    assert!(second.drive());
}

#[tokio::test]
async fn a_task_that_comes_while_the_borrower_drives_is_woken_when_it_has() {
    let (seen, lending, mut task) = fake().await;
    let rung = Arc::new(Rung::default());
    assert!(poll(&mut task, &rung).is_pending());
    let loan = lending.lend(None).expect("nobody has it");
    *seen.task.lock() = Some((task, rung.clone()));
    assert!(loan.drive());
    assert!(rung.0.load(Ordering::SeqCst));
    let (mut task, rung) = seen.task.lock().take().expect("it was put there");
    assert!(poll(&mut task, &rung).is_pending());
    assert!(!loan.drive(), "it was taken back");
}

#[tokio::test]
async fn what_a_loop_has_kept_goes_to_the_next_one_and_what_it_loses_is_told_to_it() {
    let (seen, lending, mut task) = fake().await;
    let rung = Arc::new(Rung::default());
    assert!(poll(&mut task, &rung).is_pending());
    let told = Arc::new(Rung::default());
    let terms = LoopTerms {
        lookout: Arc::new(Lookout::new().expect("there are descriptors")),
        lost: Waker::from(told.clone()),
    };
    let loan = lending.lend(Some(&terms)).expect("nobody has it");
    assert!(!loan.rest(), "it would be kept for ever");
    seen.looks_again.store(true, Ordering::SeqCst);
    assert!(lending.lend(None).is_none(), "a call goes by it");
    assert!(loan.rest());
    assert!(loan.resume());
    assert!(lending.lend(None).is_none(), "a call goes by it");
    assert!(loan.rest());
    let other = lending.lend(None).expect("it rests");
    assert!(!loan.resume());
    assert!(!loan.drive());
    drop(loan);
    assert!(!seen.is_watched());
    drop(other);
    assert!(seen.is_watched());
    for rests in [true, false] {
        let loan = lending.lend(Some(&terms)).expect("nobody has it");
        if rests {
            assert!(loan.rest());
        }
        Waker::from(lending.clone()).wake();
        assert!(poll(&mut task, &rung).is_pending());
        assert!(seen.is_watched());
        assert_eq!(told.0.load(Ordering::SeqCst), !rests);
    }
    // Who gives back knows.
    told.0.store(false, Ordering::SeqCst);
    drop(lending.lend(Some(&terms)));
    assert!(!told.0.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_connection_that_ends_with_its_borrower_ends_its_task() {
    for panics in [false, true] {
        let (seen, lending, mut task) = fake().await;
        let rung = Arc::new(Rung::default());
        assert!(poll(&mut task, &rung).is_pending());
        let loan = lending.lend(None).expect("nobody has it");
        seen.ends.store(true, Ordering::SeqCst);
        seen.panics.store(panics, Ordering::SeqCst);
        let driven = catch_unwind(AssertUnwindSafe(|| loan.drive()));
        assert_eq!(driven.is_err(), panics);
        assert!(seen.gone.load(Ordering::SeqCst));
        assert!(!loan.drive());
        assert!(rung.0.load(Ordering::SeqCst));
        assert!(poll(&mut task, &rung).is_ready());
        assert!(lending.lend(None).is_none());
    }
}

#[tokio::test]
async fn a_task_that_is_dropped_takes_the_driver_with_it_lent_or_not() {
    for lent in [false, true] {
        let (seen, lending, task) = fake().await;
        let loan = lending.lend(None).filter(|_| lent);
        drop(task);
        assert!(seen.gone.load(Ordering::SeqCst));
        assert!(loan.is_none_or(|loan| !loan.drive()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_drives_does_it_alone_and_no_wake_is_lost() {
    const THREADS: usize = 3;
    const ROUNDS: usize = 3000;
    let (seen, lending, task) = fake().await;
    let task = tokio::spawn(task);
    let handle = Handle::current();
    let threads = (0..THREADS).map(|_| {
        let (seen, lending, handle) = (seen.clone(), lending.clone(), handle.clone());
        thread::spawn(move || {
            let _entered = handle.enter();
            for round in 0..ROUNDS {
                let loan = lending.lend(None);
                seen.to_do.fetch_add(1, Ordering::SeqCst);
                match (&loan, round % 3) {
                    (Some(loan), 0) if loan.drive() => {}
                    // Given back undone.
                    (Some(_), 1) => {}
                    _ => lending.wake_task(),
                }
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    for thread in threads {
        thread.join().expect("nothing it saw was wrong");
    }
    let begin = Instant::now();
    while seen.to_do.load(Ordering::SeqCst) > 0 {
        assert!(begin.elapsed() < Duration::from_secs(60), "a wake was lost");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(seen.is_watched());
    seen.ends.store(true, Ordering::SeqCst);
    lending.wake_task();
    task.await.expect("it saw nothing wrong");
}
