//! A file system with a volatile cache, for tests of what a power cut leaves behind.
//!
//! What is written stays in memory until its file is synced; names stay until their directory is. [`LossyFs::cut`] turns the power
//! off: of what was not synced a random part is kept, sector by sector, and the rest is as if it had never been. Mount it below a
//! server, kill the server, cut, mount again and see whether the server kept its word. It can also fail the k-th operation.

mod disk;
mod mount;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use disk::{Disk, Fault};
use parking_lot::Mutex;
use rand::Rng;

/// A disk that can be mounted, cut off and mounted again.
#[derive(Clone, Default)]
pub struct LossyFs {
    disk: Arc<Mutex<Disk>>,
}

/// A mounted [`LossyFs`]; dropping it unmounts. The kernel's cache of it goes with it.
pub struct Mounted {
    _session: fuser::BackgroundSession,
}

impl LossyFs {
    /// Mounts the disk on an existing empty directory.
    ///
    /// # Errors
    /// The system's own, where there is no FUSE or no right to mount: such a machine can't run these tests.
    pub fn mount(&self, at: &Path) -> io::Result<Mounted> {
        mount::mount(Arc::clone(&self.disk), at).map(|session| Mounted { _session: session })
    }

    /// Turns the power off and on. Nothing may be mounted or still writing.
    pub fn cut(&self, random: &mut impl Rng) {
        self.disk.lock().cut(random);
    }

    /// Makes one operation fail, counted from now; `None` takes that back.
    pub fn fail(&self, fault: Option<Fault>) {
        self.disk.lock().fail(fault);
    }

    /// Operations that a fault can hit, so far.
    pub fn operations(&self) -> u64 {
        self.disk.lock().operations()
    }

    /// Flips one bit of the file at `path`, counted from the root, durably. Returns false when there is no such file or offset.
    pub fn flip_bit(&self, path: &Path, offset: usize, bit: u8) -> bool {
        self.disk.lock().flip_bit(path, offset, bit)
    }
}
