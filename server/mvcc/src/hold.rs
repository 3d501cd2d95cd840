//! Holding physical compaction while an export, a hash or a copy needs rows to stay.
//!
//! A hold is a promise with a bound: when too many revisions wait for compaction, the flusher breaks the holds, and
//! whoever held one is told at its next step.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

/// Who holds physical compaction now.
#[derive(Default)]
pub(crate) struct Holds {
    book: Mutex<Book>,
    /// Locked while rows are being removed.
    removing: Mutex<()>,
}

#[derive(Default)]
struct Book {
    active: usize,
    /// Raised when holds are broken; a hold of an earlier epoch holds nothing.
    epoch: u64,
}

impl Holds {
    /// Holds physical compaction until the hold is dropped or broken. Waits for a step that is under way.
    pub(crate) fn hold(self: &Arc<Self>) -> Hold {
        let epoch = {
            let mut book = self.book.lock();
            book.active += 1;
            book.epoch
        };
        drop(self.removing.lock());
        Hold {
            holds: self.clone(),
            epoch,
        }
    }

    /// The leave to remove rows, unless somebody holds them. Holds taken meanwhile wait for it.
    pub(crate) fn leave_to_remove(&self) -> Option<MutexGuard<'_, ()>> {
        let leave = self.removing.lock();
        (self.book.lock().active == 0).then_some(leave)
    }

    /// Ends all holds.
    pub(crate) fn break_all(&self) {
        let mut book = self.book.lock();
        book.active = 0;
        book.epoch += 1;
    }
}

/// While this lives and is not broken, physical compaction removes no row.
pub(crate) struct Hold {
    holds: Arc<Holds>,
    epoch: u64,
}

impl Hold {
    /// Whether rows may have gone since the hold was taken.
    pub(crate) fn is_broken(&self) -> bool {
        self.holds.book.lock().epoch != self.epoch
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut book = self.holds.book.lock();
        if book.epoch == self.epoch {
            book.active -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_hold_says_so_and_releases_nobody_elses() {
        let holds = Arc::new(Holds::default());
        let free = || holds.leave_to_remove().is_some();
        let old = holds.hold();
        assert!(!free());
        holds.break_all();
        assert!(free() && old.is_broken());
        let new = holds.hold();
        drop(old);
        assert!(!free() && !new.is_broken());
        drop(new);
        assert!(free());
    }
}
