//! The descriptors of connections, for a child of this process that was forked and not replaced: it has copies of them, which keep a connection
//! open for the server when this process is long gone. Bindings close the copies; nothing here does.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// A process has a few; the copies of more stay open.
const MOST: usize = 1024;
const NONE: RawFd = -1;

/// Without a lock, for its holder may be gone in a child.
static OPEN: [AtomicI32; MOST] = [const { AtomicI32::new(NONE) }; MOST];

/// A descriptor that is in the list for as long as this lives, which is shorter than it is open.
pub(super) struct Listed(Option<&'static AtomicI32>);

impl Listed {
    pub(super) fn new(socket: &impl AsRawFd) -> Listed {
        let descriptor = socket.as_raw_fd();
        let is_taken = |place: &&AtomicI32| {
            let taken =
                place.compare_exchange(NONE, descriptor, Ordering::Relaxed, Ordering::Relaxed);
            taken.is_ok()
        };
        Listed(OPEN.iter().find(is_taken))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            place.store(NONE, Ordering::Relaxed);
        }
    }
}

/// Empties the list and tells what was in it: to be called in a child that has done nothing else yet, where these are the copies of its parent's. Takes no
/// memory and waits for nothing.
pub fn forget_descriptors(told: impl FnMut(RawFd)) {
    let listed = OPEN.iter().map(|place| place.swap(NONE, Ordering::Relaxed));
    listed
        .filter(|&descriptor| descriptor != NONE)
        .for_each(told);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_listed_while_it_is_open() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let descriptor = socket.as_raw_fd();
        let listed = || {
            let mut places = OPEN.iter();
            places.any(|place| place.load(Ordering::Relaxed) == descriptor)
        };
        let in_list = Listed::new(&socket);
        assert!(listed());
        drop(in_list);
        assert!(!listed());
    }
}
