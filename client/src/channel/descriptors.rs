//! The descriptors of connections, for a child of this process that was forked and not replaced: it has copies of them, which keep a connection
//! open for the server when this process is long gone. Bindings close the copies; nothing here does.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, RawFd};

use parking_lot::Mutex;

static OPEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// A descriptor that is in the list for as long as this lives, which is shorter than it is open.
pub(super) struct Listed(RawFd);

impl Listed {
    pub(super) fn new(socket: &impl AsRawFd) -> Listed {
        let descriptor = socket.as_raw_fd();
        OPEN.lock().insert(descriptor);
        Listed(descriptor)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        OPEN.lock().remove(&self.0);
    }
}

/// The descriptors of all connections of this process, or, in a child that has done nothing else yet, the copies of its parent's. Takes no memory and
/// waits for nothing: nobody is told of any when the list was being changed at the moment of the fork.
pub fn each_descriptor(told: impl FnMut(RawFd)) {
    if let Some(open) = OPEN.try_lock() {
        open.iter().copied().for_each(told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(descriptor: RawFd) -> bool {
        let mut found = false;
        each_descriptor(|each| found |= each == descriptor);
        found
    }

    #[test]
    fn a_descriptor_is_listed_while_it_is_open() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let in_list = Listed::new(&socket);
        assert!(listed(socket.as_raw_fd()));
        drop(in_list);
        assert!(!listed(socket.as_raw_fd()));
    }
}
