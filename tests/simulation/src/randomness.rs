//! All random numbers of the process come from one seed, so that a seed is a run.
//!
//! The standard library takes the keys of its hash maps from `getrandom`, by a weak symbol that may be interposed; tokio and
//! futures seed the order in which their `select!` looks from such keys, and rand's generators of a thread, from which openraft has its
//! election timeouts, call the same function. So one definition of it here is enough for all of them, and no build with
//! other flags is needed. Each thread counts for itself: in what order threads ask does not matter.

use std::cell::Cell;
use std::ffi::c_uint;
use std::sync::atomic::{AtomicU64, Ordering};

static SEED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// Chooses the seed. To be called before anything else happens in the process.
pub fn seed(seed: u64) {
    SEED.store(seed, Ordering::Relaxed);
}

/// The next 64 bits of this thread: splitmix64.
fn next() -> u64 {
    let asked = ASKED.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    ASKED.set(asked);
    let mixed = SEED.load(Ordering::Relaxed).wrapping_add(asked);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// In the place of libc's.
///
/// # Safety
/// As for getrandom(2): `length` bytes at `buffer` may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: c_uint) -> isize {
    for at in 0..length {
        // SAFETY: `at` is less than the length, up to which the caller promises that it may be written.
        unsafe { buffer.add(at).write(next() as u8) };
    }
    length as isize
}
