//! Forks. A child has none of its parent's threads, but all of its memory: what belongs to the parent's runtime may be in the
//! middle of a change there, and its descriptors are those of the parent's connections. So a child never touches it, not even to free it.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use keystead_client as client;

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
        if !self.is_here() {
            std::mem::forget(self.value.take());
        }
    }
}
