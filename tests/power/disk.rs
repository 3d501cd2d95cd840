//! A member whose data directory lies on a disk that can be cut off. `cuts`, `faults` and `chaos` drive it; it judges nothing.

use std::path::PathBuf;

use keystead_lossyfs::{LossyFs, Mounted};
use keystead_tests::Server;
use tempfile::TempDir;

/// A directory on such a disk. The fields are dropped in their order: the mount, the directory.
pub struct LossyDirectory {
    mounted: Option<Mounted>,
    pub disk: LossyFs,
    at: TempDir,
}

impl LossyDirectory {
    /// An empty disk; `None`, and a word about it, where nothing can be mounted.
    pub fn mount() -> Option<LossyDirectory> {
        let at = tempfile::Builder::new()
            .prefix("keystead-disk-")
            .tempdir()
            .expect("a temporary directory");
        let disk = LossyFs::default();
        let mounted = match disk.mount(at.path()) {
            Ok(mounted) => mounted,
            Err(error) => {
                println!("skipped: this machine mounts no FUSE file system: {error}");
                return None;
            }
        };
        Some(LossyDirectory {
            mounted: Some(mounted),
            disk,
            at,
        })
    }

    /// The data directory. Not the mount itself, so that the directory's own name is at stake too.
    pub fn data(&self) -> PathBuf {
        self.at.path().join("member/data")
    }

    /// Turns the power off and on again, once the member is dead: the disk keeps what was synced, and of the rest what the seed
    /// chooses.
    pub fn cut(&mut self, seed: u64) {
        let mounted = self.mounted.take().expect("it was mounted");
        mounted.unmount().expect("nothing uses the disk any more");
        self.disk.cut(seed);
        let mounted = self.disk.mount(self.at.path());
        self.mounted = Some(mounted.expect("what was mounted once can be mounted again"));
    }
}

/// The member and its disk. The fields are dropped in their order: the process, the disk.
pub struct OnLossyDisk {
    pub server: Server,
    pub directory: LossyDirectory,
}

impl OnLossyDisk {
    /// A member that was not started yet, on an empty disk; `None`, and a word about it, where nothing can be mounted.
    pub fn prepare(arguments: &[&str]) -> Option<OnLossyDisk> {
        let directory = LossyDirectory::mount()?;
        let server = Server::keystead_at(&directory.data(), arguments);
        Some(OnLossyDisk { server, directory })
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.data()
    }

    /// Turns the power off and on again: the member dies, and its disk keeps what was synced, and of the rest what the
    /// seed chooses.
    pub fn cut(&mut self, seed: u64) {
        self.server.kill();
        self.directory.cut(seed);
    }
}
