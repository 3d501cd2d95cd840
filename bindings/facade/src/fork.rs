//! Forks. A child has none of its parent's threads, but all of its memory: what belongs to the parent's runtime may be in the
//! middle of a change there, and its descriptors are those of the parent's connections. So a child never touches it, not even to free it.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use keystead_client as client;
use keystead_seeded::{Bug, planted};

static GENERATION: AtomicU64 = AtomicU64::new(0);

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    // Only the copies: the connections are the parent's, and hear nothing of it.
    client::each_descriptor(|descriptor| {
        // SAFETY: the child has done nothing yet but fork, so the number is still that of the copy. Whoever holds it in memory is never touched again.
        unsafe { libc::close(descriptor) };
    });
}

/// How many forks lie between this process and the first that used this library: what another one made is not ours.
pub fn generation() -> u64 {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the handler adds to an atomic number, looks at a lock without waiting and closes descriptors: a child may do that before
        // anything else. It is never unloaded before the process ends: libraries that have handlers are not.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    struct Tells(Arc<AtomicBool>);

    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_child_neither_sees_nor_drops_what_is_its_parents() {
        let dropped = Arc::new(AtomicBool::new(false));
        let mine = Mine::new(Tells(dropped.clone()));
        // SAFETY: the child looks at its memory and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let seen = mine.get().is_some();
            drop(mine);
            let status = i32::from(seen) + 2 * i32::from(dropped.load(Ordering::Relaxed));
            // SAFETY: nothing of the parent's is run at such an exit.
            unsafe { libc::_exit(status) };
        }
        let mut status = 0;
        // SAFETY: the child is ours, and `status` outlives the call.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert!(libc::WIFEXITED(status), "the child ended with {status}");
        assert_eq!(
            libc::WEXITSTATUS(status),
            0,
            "1: it was seen, 2: it was dropped"
        );
        assert!(mine.get().is_some());
        drop(mine);
        assert!(dropped.load(Ordering::Relaxed));
    }
}
