//! What can be seen of a member's work in the names and contents of its files. Loops of kills and power cuts count with it,
//! between the end of a member and its next start, that all happened that should not lose anything.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// In how many looks each thing was seen to have happened since the look before.
#[derive(Default)]
pub struct Sights {
    purges: u64,
    recycled_segments: u64,
    flushes: u64,
    checkpoints: u64,
    defragmentations: u64,
    before: Seen,
}

/// What one look sees.
#[derive(Default)]
struct Seen {
    /// The number in the name of each segment, by the file's own number.
    segments: BTreeMap<u64, u64>,
    store: u64,
    pointer: String,
    checkpoint: u64,
}

impl Sights {
    /// Everything that is counted, by name.
    pub fn counts(&self) -> [(&'static str, u64); 5] {
        [
            ("purges of the log", self.purges),
            ("recycled segments", self.recycled_segments),
            ("flushes", self.flushes),
            ("checkpoints of the index", self.checkpoints),
            ("defragmentations", self.defragmentations),
        ]
    }

    /// Looks at a data directory whose member does not run.
    pub fn look(&mut self, data: &Path) {
        let now = Seen::at(data);
        let before = std::mem::replace(&mut self.before, now);
        let now = &self.before;
        let oldest = |seen: &Seen| seen.segments.values().min().copied().unwrap_or(0);
        self.purges += u64::from(oldest(now) > oldest(&before));
        let renamed = now
            .segments
            .iter()
            .filter(|(file, number)| before.segments.get(file).is_some_and(|it| it != *number));
        self.recycled_segments += renamed.count() as u64;
        self.flushes += u64::from(now.pointer == before.pointer && now.store != before.store);
        self.checkpoints += u64::from(now.checkpoint != before.checkpoint);
        self.defragmentations += u64::from(now.pointer != before.pointer);
    }
}

/// The number of the oldest segment in a data directory's log; none where there is no log.
pub fn oldest_segment(data: &Path) -> Option<u64> {
    segments(data).into_values().min()
}

/// The number in the name of each segment, by the file's own number.
fn segments(data: &Path) -> BTreeMap<u64, u64> {
    let entries = fs::read_dir(data.join("wal")).into_iter().flatten();
    let segment = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let number = u64::from_str_radix(name.strip_suffix(".wal")?, 16).ok()?;
        Some((entry.metadata().ok()?.ino(), number))
    };
    entries.filter_map(segment).collect()
}

impl Seen {
    fn at(data: &Path) -> Seen {
        let pointer = fs::read_to_string(data.join("store/CURRENT")).unwrap_or_default();
        let store = data.join("store").join(pointer.trim()).join("data.mdb");
        Seen {
            segments: segments(data),
            store: content_hash(&store),
            checkpoint: content_hash(&data.join("store/index")),
            pointer,
        }
    }
}

/// 0 for a file that is not there.
fn content_hash(file: &Path) -> u64 {
    let Ok(content) = fs::read(file) else {
        return 0;
    };
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
