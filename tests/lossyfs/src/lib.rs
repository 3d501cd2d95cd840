//! A file system with a volatile cache, for tests of what a power cut leaves behind.
//!
//! What is written stays in memory until its file is synced; names stay until their directory is. [`LossyFs::cut`] turns the power
//! off: of what was not synced a random part is kept, sector by sector, and the rest is as if it had never been. Mount it below a
//! server, kill the server, cut, mount again and see whether the server kept its word. It can also fail the k-th operation, or be slow.

mod disk;
mod mount;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use disk::{Disk, Fault};
pub use fuser::Errno;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustix::mount::{UnmountFlags, unmount};

/// A disk that can be mounted, cut off and mounted again.
#[derive(Clone, Default)]
pub struct LossyFs {
    disk: Arc<Mutex<Disk>>,
    sync_millis: Arc<AtomicU64>,
}

/// A mounted [`LossyFs`]; dropping it unmounts. The kernel's cache of it goes with it.
pub struct Mounted {
    session: fuser::BackgroundSession,
    at: PathBuf,
}

impl Mounted {
    /// Unmounts, and waits until nothing has a file of it open any more: a process that was just forked may for a moment.
    ///
    /// # Errors
    /// The system's own.
    pub fn unmount(self) -> io::Result<()> {
        unmount(&self.at, UnmountFlags::DETACH)?;
        match self.session.join() {
            // The thread was reading the next request when the mount went.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
            ended => ended,
        }
    }
}

impl LossyFs {
    /// Mounts the disk on an existing empty directory.
    ///
    /// # Errors
    /// The system's own, where there is no FUSE or no right to mount: such a machine can't run these tests.
    pub fn mount(&self, at: &Path) -> io::Result<Mounted> {
        let (disk, sync_millis) = (Arc::clone(&self.disk), Arc::clone(&self.sync_millis));
        mount::mount(disk, sync_millis, at).map(|session| Mounted {
            session,
            at: at.to_owned(),
        })
    }

    /// Turns the power off and on; `seed` chooses what is kept. Nothing may be mounted or still writing.
    pub fn cut(&self, seed: u64) {
        self.disk.lock().cut(&mut SmallRng::seed_from_u64(seed));
    }

    /// Makes one operation fail, counted from now; `None` takes that back.
    pub fn fail(&self, fault: Option<Fault>) {
        self.disk.lock().fail(fault);
    }

    /// Makes every sync take so long from now on; whatever else is asked of the disk meanwhile is done at once.
    pub fn slow_syncs(&self, delay: Duration) {
        self.sync_millis
            .store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    /// Operations that a fault can hit, so far.
    pub fn operations(&self) -> u64 {
        self.disk.lock().operations()
    }
}
