//! The disk as a FUSE file system. Each request takes the disk's lock, asks it and answers; nothing is decided here.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

use crate::disk::{Dir, Disk, File, Node};

/// How long the kernel may trust names and attributes: for the life of the mount, for nobody else changes them.
const TTL: Duration = Duration::from_secs(3600);

const BLOCK_BYTES: u32 = 4096;

pub(crate) fn mount(
    disk: Arc<Mutex<Disk>>,
    sync_millis: Arc<AtomicU64>,
    at: &Path,
) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("lossyfs".to_owned())];
    fuser::spawn_mount(Lossy { disk, sync_millis }, at, &config)
}

struct Lossy {
    disk: Arc<Mutex<Disk>>,
    /// How long a sync takes.
    sync_millis: Arc<AtomicU64>,
}

impl Lossy {
    fn sync(&self, ino: INodeNo, reply: ReplyEmpty) {
        let delay = Duration::from_millis(self.sync_millis.load(Ordering::Relaxed));
        if delay.is_zero() {
            return done(reply, self.disk.lock().sync(ino.0));
        }
        let disk = Arc::clone(&self.disk);
        thread::spawn(move || {
            thread::sleep(delay);
            done(reply, disk.lock().sync(ino.0));
        });
    }

    fn attributes(&self, ino: u64) -> Result<FileAttr, Errno> {
        let disk = self.disk.lock();
        let (kind, size) = match disk.node(ino)? {
            Node::File(file) => (FileType::RegularFile, file.content.len() as u64),
            Node::Dir(_) => (FileType::Directory, u64::from(BLOCK_BYTES)),
        };
        Ok(FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        })
    }

    fn make(&self, parent: INodeNo, name: &OsStr, node: Node) -> Result<FileAttr, Errno> {
        let ino = self.disk.lock().create(parent.0, name, node)?;
        self.attributes(ino)
    }
}

/// Answers with the attributes or the error.
fn entry(reply: ReplyEntry, made: Result<FileAttr, Errno>) {
    match made {
        Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn done(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Lossy {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let ino = self.disk.lock().lookup(parent.0, name);
        entry(reply, ino.and_then(|ino| self.attributes(ino)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino.0) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let resized = size.map_or(Ok(()), |size| {
            self.disk
                .lock()
                .file(ino.0)
                .map(|file| file.resize(size as usize))
        });
        match resized.and_then(|()| self.attributes(ino.0)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        entry(reply, self.make(parent, name, Node::Dir(Dir::default())));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.make(parent, name, Node::File(File::default())) {
            Ok(attributes) => reply.created(
                &TTL,
                &attributes,
                Generation(0),
                FileHandle(0),
                FopenFlags::empty(),
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.disk.lock().remove(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.disk.lock().remove(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        done(
            reply,
            self.disk
                .lock()
                .rename(parent.0, name, new_parent.0, new_name),
        );
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk.lock().file(ino.0) {
            Ok(file) => {
                let from = (offset as usize).min(file.content.len());
                let to = (from + size as usize).min(file.content.len());
                reply.data(&file.content[from..to]);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // O_SYNC is O_DSYNC and one bit more.
        const O_DSYNC: i32 = 0o10000;
        let synced = flags.0 & O_DSYNC != 0;
        match self.disk.lock().write(ino.0, offset as usize, data, synced) {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(ino, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(ino, reply);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let end = (offset + length) as usize;
        let grown = self.disk.lock().file(ino.0).map(|file| {
            if file.content.len() < end {
                file.resize(end);
            }
        });
        done(reply, grown);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut disk = self.disk.lock();
        let entries = match disk.dir(ino.0) {
            Ok(dir) => dir.entries.clone(),
            Err(errno) => return reply.error(errno),
        };
        for (at, (name, child)) in entries.iter().enumerate().skip(offset as usize) {
            let kind = match disk.node(*child) {
                Ok(Node::Dir(_)) => FileType::Directory,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(*child), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let blocks = 1 << 24;
        reply.statfs(
            blocks,
            blocks,
            blocks,
            1 << 20,
            1 << 20,
            BLOCK_BYTES,
            255,
            BLOCK_BYTES,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use crate::LossyFs;

    #[test]
    fn a_mounted_disk_forgets_what_was_not_synced() {
        if !std::path::Path::new("/dev/fuse").exists() {
            eprintln!("skipped: this machine has no /dev/fuse");
            return;
        }
        let at = std::env::temp_dir().join(format!("lossyfs-{}", std::process::id()));
        fs::create_dir_all(&at).expect("a temporary directory");
        let disk = LossyFs::default();
        {
            let _mounted = disk.mount(&at).expect("mounted");
            let mut file = fs::File::create(at.join("kept")).expect("created");
            file.write_all(b"synced").expect("written");
            file.sync_all().expect("synced");
            fs::File::open(&at)
                .and_then(|dir| dir.sync_all())
                .expect("directory synced");
            fs::write(at.join("lost"), b"never synced").expect("written");
            let mut direct = OpenOptions::new()
                .append(true)
                .open(at.join("kept"))
                .expect("opened");
            direct.write_all(b" and not").expect("written");
        }
        let lost = (0..20).filter(|seed| {
            let copy = disk.clone();
            copy.cut(*seed);
            let _mounted = copy.mount(&at).expect("mounted");
            let kept = fs::read(at.join("kept")).expect("there after every cut");
            assert!(kept.starts_with(b"synced") || kept.len() >= 6);
            fs::read(at.join("lost")).map_or(true, |content| content.is_empty())
        });
        assert!(lost.count() > 0);
        fs::remove_dir(&at).expect("unmounted");
    }
}
