//! The disk, or the store's map, is full: what is refused, what goes on, and the way back.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use keystead_proto::etcdserverpb::alarm_request::AlarmAction;
use keystead_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, DeleteRangeRequest};
use keystead_proto::internal::{Record, RecordKind};
use keystead_state::{Outcome, Reader, Refusal};

use super::{ME, Nobody, compact, config, dump, eventually, kill, propose, put, start, stop};
use crate::{Config, Consensus, StartError};

const MIB: u64 = 1 << 20;
const NO_SPACE: AlarmMember = AlarmMember {
    member_id: ME.member_id,
    alarm: AlarmType::Nospace as i32,
};

/// A small file system of its own; none where this process may not mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mib: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(dir.path())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no right to mount a tmpfs");
            return None;
        }
        Some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left, but for some pages; when the log has its next segment.
    fn fill(&self, segment_bytes: u64) {
        let segment = self.path().join("data/wal/0000000000000002.wal");
        eventually("the log has its next segment", || {
            std::fs::metadata(&segment).is_ok_and(|file| file.len() == segment_bytes)
        });
        self.fill_all();
    }

    /// The same at once, and the ballast with it: what was set aside is used up too.
    fn fill_all(&self) {
        self.take_room("filler");
        std::fs::remove_file(self.path().join("data/BALLAST")).unwrap();
        self.take_room("more");
    }

    fn take_room(&self, name: &str) {
        let room = rustix::fs::statvfs(self.path()).unwrap();
        let bytes = (room.f_bavail * room.f_frsize).saturating_sub(64 << 10);
        let file = std::fs::File::create(self.path().join(name)).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
    }

    fn free(&self) {
        for name in ["filler", "more"] {
            std::fs::remove_file(self.path().join(name)).unwrap();
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount")
            .arg("-l")
            .arg(self.path())
            .status()
            .ok();
    }
}

fn small(dir: &Path) -> Config {
    Config {
        unflushed_limit_bytes: MIB,
        flush_interval: Duration::from_millis(20),
        ..config(dir)
    }
}

fn record(kind: RecordKind, request: &impl prost::Message) -> Record {
    Record {
        kind: kind.into(),
        payload: request.encode_to_vec().into(),
        ..Record::default()
    }
}

fn delete(key: &str) -> Record {
    let request = DeleteRangeRequest {
        key: key.as_bytes().to_vec().into(),
        ..Default::default()
    };
    record(RecordKind::DeleteRange, &request)
}

fn disarm() -> Record {
    let request = AlarmRequest {
        action: AlarmAction::Deactivate.into(),
        member_id: ME.member_id,
        alarm: NO_SPACE.alarm,
    };
    record(RecordKind::Alarm, &request)
}

fn one(consensus: &Consensus, record: Record) -> Outcome {
    propose(consensus, vec![record]).remove(0)
}

/// The same, as often as the member is busy.
fn in_the_end(consensus: &Consensus, record: &Record) -> Outcome {
    let mut outcome = one(consensus, record.clone());
    eventually("the member takes it", || {
        let busy = outcome == Err(Refusal::TooManyRequests);
        if busy {
            outcome = one(consensus, record.clone());
        }
        !busy
    });
    outcome
}

/// Puts until NOSPACE refuses, values of the size that takes the most room in the store for its bytes. Says how many were
/// taken.
fn put_until_refused(consensus: &Consensus) -> usize {
    let value = "v".repeat(2050);
    let mut taken = 0;
    while taken < 100_000 {
        let puts = (0..32).map(|n| put(&format!("k{n}"), &value)).collect();
        for outcome in propose(consensus, puts) {
            match outcome {
                Ok(_) => taken += 1,
                Err(Refusal::NoSpace) => return taken,
                Err(Refusal::TooManyRequests) => std::thread::sleep(Duration::from_millis(1)),
                Err(other) => panic!("refused for {other:?}"),
            }
        }
    }
    panic!("the alarm never came");
}

/// With the alarm in force: reads, deletes, compaction; defragmentation; then the alarm is disarmed and puts go on.
fn come_back(consensus: &Consensus, reader: &Reader) {
    assert_eq!(reader.alarms(), [NO_SPACE]);
    assert_eq!(dump(reader).1.len(), 32);
    // Disarmed though nothing was freed, it is raised again while there is room for what comes next.
    in_the_end(consensus, &disarm()).unwrap();
    put_until_refused(consensus);
    assert_eq!(reader.alarms(), [NO_SPACE]);
    for n in 0..16 {
        in_the_end(consensus, &delete(&format!("k{n}"))).unwrap();
    }
    let current = dump(reader).0;
    in_the_end(consensus, &compact(current)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let compacted = consensus.physically_compacted(current);
        tokio::time::timeout(Duration::from_secs(60), compacted)
            .await
            .unwrap();
        consensus.defragment().await.unwrap();
    });
    in_the_end(consensus, &disarm()).unwrap();
    for n in 0..32 {
        in_the_end(consensus, &put(&format!("k{n}"), "after")).unwrap();
    }
    runtime.block_on(consensus.flush()).unwrap();
    assert_eq!(reader.alarms(), []);
    assert_eq!(dump(reader).1.len(), 32);
}

#[test]
fn a_full_map_raises_the_alarm_once_and_deletes_and_compaction_bring_the_member_back() {
    let tmp = tempfile::tempdir().unwrap();
    let config = Config {
        map_bytes: 20 * MIB,
        ..small(tmp.path())
    };
    let (consensus, reader) = start(config);
    let taken = put_until_refused(&consensus);
    assert!(taken > 100, "only {taken} puts");
    come_back(&consensus, &reader);
    stop(consensus);
}

#[test]
fn a_full_disk_raises_the_alarm_and_deletes_and_compaction_bring_the_member_back() {
    let Some(disk) = SmallDisk::mount(40) else {
        return;
    };
    let ballast = disk.path().join("data/BALLAST");
    let (consensus, reader) = start(small(disk.path()));
    assert!(ballast.exists());
    put_until_refused(&consensus);
    come_back(&consensus, &reader);
    eventually("the ballast is made again", || ballast.exists());
    stop(consensus);
}

#[test]
fn on_a_disk_that_stays_full_what_waits_is_bounded_and_reads_go_on() {
    let Some(disk) = SmallDisk::mount(40) else {
        return;
    };
    let config = Config {
        // What is acknowledged needs no segment that the disk has no room for.
        wal_segment_bytes: 4 * MIB,
        ..small(disk.path())
    };
    let (consensus, reader) = start(config.clone());
    one(&consensus, put("before", "v")).unwrap();
    disk.fill(4 * MIB);
    let value = "v".repeat(64 << 10);
    let refused = (0..200).find_map(|n| one(&consensus, put(&format!("k{n}"), &value)).err());
    assert!(
        matches!(refused, Some(Refusal::NoSpace | Refusal::TooManyRequests)),
        "{refused:?}"
    );
    eventually("the alarm stands", || reader.alarms() == [NO_SPACE]);
    let (revision, values) = dump(&reader);
    kill(consensus);
    drop(reader);

    // A start on the full disk: nothing was lost, and the alarm still stands.
    let (consensus, reader) = start(config);
    assert_eq!(dump(&reader), (revision, values));
    assert_eq!(reader.alarms(), [NO_SPACE]);
    disk.free();
    eventually("what waited is flushed", || {
        reader.store().sizes().unflushed_bytes == 0
    });
    in_the_end(&consensus, &disarm()).unwrap();
    in_the_end(&consensus, &put("after", "v")).unwrap();
    stop(consensus);
}

#[test]
fn a_start_without_room_for_its_log_is_refused_in_words_and_succeeds_once_there_is() {
    let Some(disk) = SmallDisk::mount(40) else {
        return;
    };
    let (consensus, _) = start(Config {
        flush_interval: Duration::from_secs(3600),
        ..small(disk.path())
    });
    kill(consensus);
    // Nothing was flushed, so that a log may begin anew.
    let wal = disk.path().join("data/wal");
    std::fs::remove_dir_all(&wal).unwrap();
    std::fs::create_dir(&wal).unwrap();
    disk.fill_all();
    let refused = Consensus::start(small(disk.path()), Vec::new(), Arc::new(Nobody)).err();
    assert!(matches!(refused, Some(StartError::NoSpace)), "{refused:?}");
    disk.free();
    let (consensus, _) = start(small(disk.path()));
    one(&consensus, put("k", "v")).unwrap();
    stop(consensus);
}

#[test]
fn a_log_without_room_for_its_next_segment_waits_for_it() {
    let Some(disk) = SmallDisk::mount(40) else {
        return;
    };
    let (consensus, reader) = start(small(disk.path()));
    one(&consensus, put("before", "v")).unwrap();
    disk.fill(MIB);
    let writer = consensus.clone();
    let value = "v".repeat(256 << 10);
    let writing = std::thread::spawn(move || {
        (0..6)
            .map(|_| one(&writer, put("k", &value)))
            .filter(Result::is_ok)
            .count()
    });
    eventually("the alarm stands, or waits for the log", || {
        reader.alarms() == [NO_SPACE] || consensus.0.wal.wants_space()
    });
    assert_eq!(consensus.try_read_barrier(), Some(Ok(())), "reads go on");
    disk.free();
    assert!(writing.join().unwrap() >= 1);
    eventually("the log has its segment", || !consensus.0.wal.wants_space());
    stop(consensus);
}
