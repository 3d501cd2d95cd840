//! The disk as a value: files with the sectors that were written and not synced, directories with the changes that were not.
//! Called by the mount under its lock; it does no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use fuser::Errno;
use rand::Rng;

/// The unit that a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// The root directory's number.
pub(crate) const ROOT: u64 = 1;

/// One failing operation.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Which operation from now on fails; 0 is the next.
    pub after: u64,
    /// What it fails with.
    pub errno: Errno,
    /// Whether all after it fail as well, as on a full disk.
    pub lasting: bool,
}

/// The content of the file system, volatile and durable.
pub struct Disk {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    operations: u64,
    fault: Option<Fault>,
}

pub(crate) enum Node {
    File(File),
    Dir(Dir),
}

/// A file: what processes see, what a power cut keeps for sure, and which sectors of the former are not in the latter.
#[derive(Default)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

/// A directory: what processes see, what a power cut keeps for sure, and the changes in between in their order.
#[derive(Default)]
pub(crate) struct Dir {
    pub(crate) entries: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
    journal: Vec<Change>,
}

/// One change of a directory: it survives whole or not at all.
struct Change {
    gone: Option<OsString>,
    come: Option<(OsString, u64)>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]),
            next: ROOT + 1,
            operations: 0,
            fault: None,
        }
    }
}

impl Disk {
    pub(crate) fn node(&self, ino: u64) -> Result<&Node, Errno> {
        self.nodes.get(&ino).ok_or(Errno::ENOENT)
    }

    pub(crate) fn file(&mut self, ino: u64) -> Result<&mut File, Errno> {
        match self.nodes.get_mut(&ino).ok_or(Errno::ENOENT)? {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(Errno::EISDIR),
        }
    }

    pub(crate) fn dir(&mut self, ino: u64) -> Result<&mut Dir, Errno> {
        match self.nodes.get_mut(&ino).ok_or(Errno::ENOENT)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    pub(crate) fn lookup(&self, parent: u64, name: &OsStr) -> Result<u64, Errno> {
        match self.node(parent)? {
            Node::Dir(dir) => dir.entries.get(name).copied().ok_or(Errno::ENOENT),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    pub(crate) fn create(&mut self, parent: u64, name: &OsStr, node: Node) -> Result<u64, Errno> {
        self.count()?;
        let ino = self.next;
        let dir = self.dir(parent)?;
        if dir.entries.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        dir.change(Change {
            gone: None,
            come: Some((name.to_owned(), ino)),
        });
        self.next += 1;
        self.nodes.insert(ino, node);
        Ok(ino)
    }

    pub(crate) fn remove(&mut self, parent: u64, name: &OsStr) -> Result<(), Errno> {
        self.count()?;
        let ino = self.lookup(parent, name)?;
        if matches!(self.node(ino)?, Node::Dir(dir) if !dir.entries.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.dir(parent)?.change(Change {
            gone: Some(name.to_owned()),
            come: None,
        });
        Ok(())
    }

    pub(crate) fn rename(
        &mut self,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
    ) -> Result<(), Errno> {
        self.count()?;
        let ino = self.lookup(parent, name)?;
        let come = Some((new_name.to_owned(), ino));
        let gone = Some(name.to_owned());
        if parent == new_parent {
            self.dir(parent)?.change(Change { gone, come });
        } else {
            self.dir(new_parent)?.change(Change { gone: None, come });
            self.dir(parent)?.change(Change { gone, come: None });
        }
        Ok(())
    }

    pub(crate) fn write(
        &mut self,
        ino: u64,
        offset: usize,
        data: &[u8],
        synced: bool,
    ) -> Result<(), Errno> {
        self.count()?;
        let file = self.file(ino)?;
        file.write(offset, data);
        if synced {
            file.sync();
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self, ino: u64) -> Result<(), Errno> {
        self.count()?;
        match self.nodes.get_mut(&ino).ok_or(Errno::ENOENT)? {
            Node::File(file) => file.sync(),
            Node::Dir(dir) => dir.sync(),
        }
        Ok(())
    }

    pub(crate) fn fail(&mut self, fault: Option<Fault>) {
        self.fault = fault.map(|fault| Fault {
            after: self.operations + fault.after,
            ..fault
        });
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations
    }

    fn count(&mut self) -> Result<(), Errno> {
        let now = self.operations;
        self.operations += 1;
        match self.fault {
            Some(fault) if now == fault.after || (fault.lasting && now > fault.after) => {
                Err(fault.errno)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn cut(&mut self, random: &mut impl Rng) {
        // Some cuts lose all, some nothing, most a part: each finds other bugs.
        let kept = [0.0, 0.5, 0.9, 1.0][random.random_range(0..4)];
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.cut(kept, random),
                Node::Dir(dir) => dir.cut(random),
            }
        }
        let mut reachable = BTreeSet::new();
        self.mark(ROOT, &mut reachable);
        self.nodes.retain(|ino, _| reachable.contains(ino));
        self.fault = None;
    }

    fn mark(&self, ino: u64, reachable: &mut BTreeSet<u64>) {
        reachable.insert(ino);
        if let Some(Node::Dir(dir)) = self.nodes.get(&ino) {
            dir.entries
                .values()
                .for_each(|child| self.mark(*child, reachable));
        }
    }
}

impl File {
    fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if self.content.len() < end {
            self.content.resize(end, 0);
        }
        self.content[offset..end].copy_from_slice(data);
        self.touch(offset, end);
    }

    pub(crate) fn resize(&mut self, length: usize) {
        let before = self.content.len();
        self.content.resize(length, 0);
        self.touch(before.min(length), before.max(length));
    }

    fn touch(&mut self, from: usize, to: usize) {
        if from < to {
            self.dirty
                .extend(from / SECTOR_BYTES..=(to - 1) / SECTOR_BYTES);
        }
    }

    fn sync(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        self.durable.resize(self.content.len(), 0);
        dirty.into_iter().for_each(|sector| self.keep(sector));
    }

    /// Makes one sector durable, as far as the durable file reaches.
    fn keep(&mut self, sector: usize) {
        let end = ((sector + 1) * SECTOR_BYTES)
            .min(self.content.len())
            .min(self.durable.len());
        let start = (sector * SECTOR_BYTES).min(end);
        self.durable[start..end].copy_from_slice(&self.content[start..end]);
    }

    fn cut(&mut self, kept: f64, random: &mut impl Rng) {
        let dirty = std::mem::take(&mut self.dirty);
        if random.random_bool(kept) {
            self.durable.resize(self.content.len(), 0);
        }
        for sector in dirty {
            if random.random_bool(kept) {
                self.keep(sector);
            }
        }
        self.content = self.durable.clone();
    }
}

impl Dir {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.entries);
        self.journal.push(change);
    }

    fn sync(&mut self) {
        self.journal.clear();
        self.durable = self.entries.clone();
    }

    /// Keeps a prefix of the changes: a journal loses its end.
    fn cut(&mut self, random: &mut impl Rng) {
        let kept = random.random_range(0..=self.journal.len());
        self.journal
            .drain(..)
            .take(kept)
            .for_each(|change| change.apply(&mut self.durable));
        self.entries = self.durable.clone();
    }
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<OsString, u64>) {
        if let Some(name) = &self.gone {
            entries.remove(name);
        }
        if let Some((name, ino)) = &self.come {
            entries.insert(name.clone(), *ino);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn disk_with_synced_file() -> (Disk, u64) {
        let mut disk = Disk::default();
        let ino = disk
            .create(ROOT, OsStr::new("f"), Node::File(File::default()))
            .expect("created");
        disk.write(ino, 0, &[1; 2048], false).expect("written");
        disk.sync(ino).expect("synced");
        disk.sync(ROOT).expect("synced");
        (disk, ino)
    }

    #[test]
    fn what_was_synced_survives_every_cut() {
        for seed in 0..100 {
            let (mut disk, ino) = disk_with_synced_file();
            disk.cut(&mut SmallRng::seed_from_u64(seed));
            assert_eq!(disk.lookup(ROOT, OsStr::new("f")), Ok(ino));
            assert_eq!(disk.file(ino).expect("there").content, [1; 2048]);
        }
    }

    #[test]
    fn of_what_was_not_synced_each_sector_is_old_or_new() {
        let (mut old, mut new) = (0, 0);
        for seed in 0..100 {
            let (mut disk, ino) = disk_with_synced_file();
            disk.write(ino, 0, &[2; 2048], false).expect("written");
            disk.cut(&mut SmallRng::seed_from_u64(seed));
            for sector in disk.file(ino).expect("there").content.chunks(SECTOR_BYTES) {
                assert!(
                    sector.iter().all(|byte| *byte == sector[0]),
                    "a sector is not torn"
                );
                if sector[0] == 1 { old += 1 } else { new += 1 }
            }
        }
        assert!(old > 50 && new > 50, "{old} old, {new} new");
    }

    #[test]
    fn an_unsynced_rename_happened_whole_or_not() {
        for seed in 0..100 {
            let (mut disk, ino) = disk_with_synced_file();
            disk.rename(ROOT, OsStr::new("f"), ROOT, OsStr::new("g"))
                .expect("renamed");
            disk.cut(&mut SmallRng::seed_from_u64(seed));
            let found = [
                disk.lookup(ROOT, OsStr::new("f")),
                disk.lookup(ROOT, OsStr::new("g")),
            ];
            assert_eq!(found.iter().filter(|found| **found == Ok(ino)).count(), 1);
        }
    }

    #[test]
    fn the_chosen_operation_fails() {
        let (mut disk, ino) = disk_with_synced_file();
        disk.fail(Some(Fault {
            after: 1,
            errno: Errno::EIO,
            lasting: false,
        }));
        assert!(disk.write(ino, 0, b"x", false).is_ok());
        assert!(disk.sync(ino).is_err());
        assert!(disk.sync(ino).is_ok());
    }
}
