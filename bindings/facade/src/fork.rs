//! Forks. A child has none of its parent's threads, but all of its memory: what belongs to the parent's runtime may be in the
//! middle of a change there, and its descriptors are those of the parent's connections. So a child never touches it, not even to free it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

use arc_swap::ArcSwapOption;
use keystead_client as client;
use keystead_seeded::{Bug, planted};

static GENERATION: AtomicU64 = AtomicU64::new(0);

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    // Only the copies: the connections are the parent's, and hear nothing of it.
    client::forget_descriptors(|descriptor| {
        // SAFETY: the child has done nothing yet but fork, so the number is still that of the copy. Whoever holds it in memory is never touched again.
        unsafe { libc::close(descriptor) };
    });
}

/// How many forks lie between this process and the first that used this library: what another one made is not ours.
pub fn generation() -> u64 {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the handler changes atomic numbers and closes descriptors: a child may do that before anything else. It is never
        // unloaded before the process ends: libraries that have handlers are not.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    GENERATION.load(Ordering::Relaxed)
}

/// Something of this process, which its children can neither see nor drop.
pub(crate) struct Mine<T> {
    generation: u64,
    value: Option<T>,
}

impl<T> Mine<T> {
    pub(crate) fn new(value: T) -> Mine<T> {
        Mine {
            generation: generation(),
            value: Some(value),
        }
    }

    /// It; `None` in a child of the process that made it.
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.is_here())
    }

    /// The same for its only user.
    pub(crate) fn take(mut self) -> Option<T> {
        if self.is_here() {
            self.value.take()
        } else {
            None
        }
    }

    fn is_here(&self) -> bool {
        self.generation == generation()
    }
}

impl<T> Drop for Mine<T> {
    fn drop(&mut self) {
        if !self.is_here() && !planted(Bug::DropInChild) {
            std::mem::forget(self.value.take());
        }
    }
}

/// What a process has one of, made when it is asked for first: a child has another than its parent, whose locks may be held by threads that are no more.
pub(crate) struct OnePerProcess<T>(ArcSwapOption<Mine<T>>);

impl<T: Default> OnePerProcess<T> {
    pub(crate) const fn new() -> OnePerProcess<T> {
        OnePerProcess(ArcSwapOption::const_empty())
    }

    /// Does something with that of this process.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&T) -> R) -> R {
        loop {
            let known = self.0.load();
            if let Some(here) = known.as_ref().and_then(|it| it.get()) {
                return work(here);
            }
            let fresh = Arc::new(Mine::new(T::default()));
            // The parent's is dropped here, which does nothing.
            self.0.compare_and_swap(&known, Some(fresh));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::thread;
    use std::time::Duration;

    use keystead_client::locks::{Condvar, Mutex};

    use super::*;

    struct Tells(Arc<AtomicBool>);

    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// What `work` gives in a child, which has a minute for it.
    fn in_a_child(work: impl FnOnce() -> i32) -> i32 {
        // SAFETY: the child does what the children of this library's users do, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: nothing of the parent's is run at such an exit, nor by the signal.
            unsafe {
                libc::alarm(60);
                libc::_exit(catch_unwind(AssertUnwindSafe(work)).unwrap_or(101));
            }
        }
        let mut status = 0;
        // SAFETY: the child is ours, and `status` outlives the call.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert!(libc::WIFEXITED(status), "the child ended with {status}");
        libc::WEXITSTATUS(status)
    }

    #[test]
    fn a_child_neither_sees_nor_drops_what_is_its_parents() {
        let dropped = Arc::new(AtomicBool::new(false));
        let mine = Mine::new(Tells(dropped.clone()));
        let mut held = Some(mine);
        let status = in_a_child(|| {
            let mine = held.take().expect("it is there");
            let seen = mine.get().is_some();
            drop(mine);
            i32::from(seen) + 2 * i32::from(dropped.load(Ordering::Relaxed))
        });
        assert_eq!(status, 0, "1: it was seen, 2: it was dropped");
        let mine = held.expect("only the child took it");
        assert!(mine.get().is_some());
        drop(mine);
        assert!(dropped.load(Ordering::Relaxed));
    }

    /// Of a lock of its own, which nobody frees.
    fn wait(begun: &AtomicUsize, ready: &'static (Mutex<bool>, Condvar)) {
        let (lock, changed) = ready;
        let is_ready = lock.lock();
        begun.fetch_add(1, Ordering::Relaxed);
        drop(changed.wait_while(is_ready, |is_ready| !*is_ready));
    }

    #[test]
    fn threads_of_a_child_wait_though_those_of_its_parent_did() {
        const THREADS: usize = 8;
        static BEGUN: AtomicUsize = AtomicUsize::new(0);
        let new = || &*Box::leak(Box::<(Mutex<bool>, Condvar)>::default());
        let wake = |(lock, changed): &(Mutex<bool>, Condvar)| {
            *lock.lock() = true;
            changed.notify_one();
        };
        let waiting: Vec<_> = std::iter::repeat_with(new).take(THREADS).collect();
        for &ready in &waiting {
            thread::spawn(move || wait(&BEGUN, ready));
        }
        while BEGUN.load(Ordering::Relaxed) < THREADS {
            thread::yield_now();
        }
        let status = in_a_child(|| {
            for _ in 0..64 {
                let ready = new();
                let waits = thread::spawn(move || wait(&BEGUN, ready));
                // For it to wait.
                thread::sleep(Duration::from_micros(200));
                wake(ready);
                if waits.join().is_err() {
                    return 1;
                }
            }
            0
        });
        assert_eq!(status, 0);
        waiting.into_iter().for_each(wake);
    }
}
