//! Power cuts: every state a disk may be left in after a cut at any call, opened and compared.
//!
//! A write that was not synced may be there in any subset of its sectors; names that were not synced may
//! be as before or as after, in order.

use std::collections::BTreeMap;

use super::super::batch::SECTOR_BYTES;
use super::memory::{Event, Fault, Image, Memory, write};
use super::model::{Model, Step, Wish, fit, submit};
use super::{Wal, open, options, settle};

/// A disk with a volatile cache, rebuilt from a trace.
#[derive(Clone, Default)]
struct Disk {
    names: BTreeMap<String, usize>,
    /// Names changed since the directory was synced, in order.
    renaming: Vec<Event>,
    files: Vec<Vec<u8>>,
    /// Sectors written since their file was synced, in order.
    dirty: Vec<Sector>,
}

#[derive(Clone)]
struct Sector {
    file: usize,
    offset: u64,
    bytes: Vec<u8>,
    /// Whether it belongs to the newest write.
    newest: bool,
}

impl Disk {
    fn of(image: &Image) -> Disk {
        let names = image.keys().cloned().zip(0..).collect();
        Disk {
            names,
            files: image.values().cloned().collect(),
            ..Disk::default()
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Create { file, .. } => {
                self.files
                    .resize((*file + 1).max(self.files.len()), Vec::new());
                self.renaming.push(event.clone());
            }
            Event::Rename { .. } | Event::Unlink { .. } => self.renaming.push(event.clone()),
            Event::SyncDir => {
                for event in std::mem::take(&mut self.renaming) {
                    rename(&mut self.names, &event);
                }
            }
            Event::Write {
                file,
                offset,
                bytes,
            } => {
                self.dirty
                    .iter_mut()
                    .for_each(|sector| sector.newest = false);
                for (at, bytes) in (0..).zip(bytes.chunks(SECTOR_BYTES as usize)) {
                    let offset = offset + at * SECTOR_BYTES;
                    self.dirty.push(Sector {
                        file: *file,
                        offset,
                        bytes: bytes.to_vec(),
                        newest: true,
                    });
                }
            }
            Event::Sync { file } => {
                for sector in self.dirty.extract_if(.., |sector| sector.file == *file) {
                    write(&mut self.files[sector.file], sector.offset, &sector.bytes);
                }
            }
            Event::SyncFailed { file } => self.dirty.retain(|sector| sector.file != *file),
            Event::Acknowledged(_) => {}
        }
    }

    /// What is left when `keeps` says which unsynced sectors, and so many unsynced names, made it.
    fn cut(&self, renamed: usize, keeps: &dyn Fn(usize, &Sector) -> bool) -> Image {
        let mut files = self.files.clone();
        for (_, sector) in self
            .dirty
            .iter()
            .enumerate()
            .filter(|(at, sector)| keeps(*at, sector))
        {
            write(&mut files[sector.file], sector.offset, &sector.bytes);
        }
        let mut names = self.names.clone();
        self.renaming[..renamed]
            .iter()
            .for_each(|event| rename(&mut names, event));
        names
            .into_iter()
            .map(|(name, file)| (name, files[file].clone()))
            .collect()
    }

    /// The states a cut may leave now: all that was not synced, none of it, the newest write torn at each
    /// sector from either side, and subsets at random.
    fn states(&self, dice: &mut Dice) -> Vec<Image> {
        let mut states = Vec::new();
        let newest = self.dirty.iter().filter(|sector| sector.newest).count();
        let older = self.dirty.len() - newest;
        for renamed in 0..=self.renaming.len() {
            states.push(self.cut(renamed, &|_, _| true));
            if self.dirty.is_empty() {
                continue;
            }
            states.push(self.cut(renamed, &|_, _| false));
            for torn in 1..newest {
                states.push(self.cut(renamed, &|at, _| at < older + torn));
                states.push(self.cut(renamed, &|at, _| at < older || at >= older + torn));
            }
            for _ in 0..6 {
                let seed = dice.roll();
                states.push(self.cut(renamed, &|at, _| Dice(seed ^ at as u64).roll() & 1 == 0));
            }
        }
        states
    }
}

fn rename(names: &mut BTreeMap<String, usize>, event: &Event) {
    match event {
        Event::Create { file, name } => drop(names.insert(name.clone(), *file)),
        Event::Unlink { name } => drop(names.remove(name)),
        Event::Rename { from, to } => {
            let file = names
                .remove(from)
                .expect("it was there when it was renamed");
            names.insert(to.clone(), file);
        }
        _ => {}
    }
}

/// The splitmix64 generator.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn wishes(dice: &mut Dice, count: usize) -> Vec<Wish> {
    let wish = |roll: u64| match roll % 9 {
        0 => Wish::Truncate(roll >> 8 & 15),
        1 | 2 => Wish::Purge(8 + (roll >> 8) % 9),
        3 => Wish::Vote(roll as u8),
        4 => Wish::Append {
            entries: 1,
            len: 6_000,
        },
        _ => Wish::Append {
            entries: 1 + (roll >> 8) % 3,
            len: (roll >> 16) as usize % 1500,
        },
    };
    (0..count).map(|_| wish(dice.roll() >> 1)).collect()
}

/// Runs the steps, in groups that are queued together, and closes the log.
fn run(files: &Memory, steps: &[Step], group: usize) {
    let (wal, _) = open(files);
    submit_all(&wal, files, steps, group);
}

fn submit_all(wal: &Wal, files: &Memory, steps: &[Step], group: usize) {
    for (at, step) in steps.iter().enumerate() {
        let marking = files.clone();
        if submit(wal, step, move || marking.acknowledged(at + 1)).is_err() {
            return;
        }
        if at % group == 0 && wal.failure().is_none() {
            let (done, wait) = super::done();
            let _ended = wal.barrier(done).map(|()| wait());
        }
    }
}

/// Opens what a cut left: it must be the log after some step no earlier than the newest acknowledged.
fn check(image: &Image, acknowledged: usize, models: &[Model]) -> usize {
    let files = Memory::of(image);
    let (wal, recovered) =
        Wal::open(std::sync::Arc::new(files), options()).expect("a cut is not damage");
    let found = Model::of(&wal, recovered.vote);
    let at = models[acknowledged..]
        .iter()
        .position(|model| *model == found);
    let expected = &models[acknowledged];
    acknowledged + at.unwrap_or_else(|| {
        panic!(
            "after step {acknowledged}: {found:?}, expected {expected:?} or later of {models:#?}"
        )
    })
}

/// Opens every state after every call, and gives a sample of the states and the models they hold.
fn check_all(
    start: &Image,
    trace: &[Event],
    models: &[Model],
    dice: &mut Dice,
) -> (usize, Vec<(Image, Model)>) {
    let mut disk = Disk::of(start);
    let (mut acknowledged, mut count) = (0, 0);
    let mut sample = Vec::new();
    for event in trace {
        disk.apply(event);
        if let Event::Acknowledged(step) = event {
            acknowledged = *step;
        }
        for image in disk.states(dice) {
            let at = check(&image, acknowledged, models);
            count += 1;
            if dice.roll().is_multiple_of(64) {
                sample.push((image, models[at].clone()));
            }
        }
    }
    (count, sample)
}

#[test]
fn after_any_power_cut_every_acknowledged_step_is_there_and_no_other_is_changed() {
    let mut total = 0;
    for seed in 0..6 {
        println!("seed {seed}");
        let mut dice = Dice(seed);
        let (steps, models) = fit(&wishes(&mut dice, 40), &Model::default());
        let files = Memory::default();
        run(&files, &steps, 1 + seed as usize % 4);
        let (count, sample) = check_all(&Image::new(), &files.trace(), &models, &mut dice);
        total += count;
        // And a second cut, after the log went on behind what the first one tore.
        for (image, model) in sample.iter().take(25) {
            let (steps, models) = fit(&wishes(&mut dice, 6), model);
            let files = Memory::of(image);
            run(&files, &steps, 2);
            total += check_all(image, &files.trace(), &models, &mut dice).0;
        }
    }
    println!("{total} states");
    assert!(total > 10_000, "only {total} states were opened");
}

#[test]
fn a_failed_call_never_acknowledges_and_loses_nothing_that_was() {
    let mut dice = Dice(99);
    let (steps, models) = fit(&wishes(&mut dice, 30), &Model::default());
    let files = Memory::default();
    run(&files, &steps, 3);
    let calls = files.calls();
    let mut failures = 0;
    for (after, once) in (0..calls).flat_map(|after| [(after, true), (after, false)]) {
        let kind = if after % 2 == 0 {
            std::io::ErrorKind::Other
        } else {
            std::io::ErrorKind::PermissionDenied
        };
        let files = Memory::default();
        files.fail(Fault { after, once, kind });
        let (wal, _) = open(&files);
        submit_all(&wal, &files, &steps, 3);
        failures += usize::from(wal.failure().is_some());
        drop(wal);
        let acknowledged = |event: &Event| {
            if let Event::Acknowledged(step) = event {
                Some(*step)
            } else {
                None
            }
        };
        let acknowledged = files
            .trace()
            .iter()
            .filter_map(acknowledged)
            .next_back()
            .unwrap_or(0);

        let mut disk = Disk::default();
        files.trace().iter().for_each(|event| disk.apply(event));
        for image in disk.states(&mut dice) {
            check(&image, acknowledged, &models);
        }
        // A new process on the same machine sees pages that a failed sync left in the cache; what it finds
        // must be there after a power cut too.
        files.heal();
        let (wal, recovered) = open(&files);
        let found = Model::of(&wal, recovered.vote);
        drop(wal);
        let mut disk = Disk::default();
        files.trace().iter().for_each(|event| disk.apply(event));
        let left = check(
            &disk.cut(disk.renaming.len(), &|_, _| false),
            acknowledged,
            &models,
        );
        assert_eq!(models[left], found, "call {after} failed, once: {once}");
    }
    assert!(
        failures > calls,
        "only {failures} of {calls} calls shut the log"
    );
}

#[test]
fn a_log_without_space_for_its_next_segment_waits_for_it_and_closes_all_the_same() {
    let full = Fault {
        after: 0,
        once: false,
        kind: std::io::ErrorKind::StorageFull,
    };
    for heals in [true, false] {
        let files = Memory::default();
        files.fail(full);
        let (wal, _) = open(&files);
        while !wal.wants_space() {
            std::thread::yield_now();
        }
        let (done, wait) = super::done();
        wal.append(vec![super::entry(1, 1, 10)], done)
            .expect("queued");
        if heals {
            files.heal();
            assert!(wait().is_ok());
            assert!(!wal.wants_space() && wal.failure().is_none());
        } else {
            wal.close();
            assert!(wait().is_err(), "closed while it waited");
        }
    }
}

#[test]
fn a_batch_larger_than_its_segment_waits_for_the_space_to_lengthen_it_and_nothing_is_lost() {
    let full = Fault {
        after: 0,
        once: false,
        kind: std::io::ErrorKind::StorageFull,
    };
    let large = 3 * super::options().segment_bytes as usize;
    for heals in [true, false] {
        let files = Memory::default();
        let (wal, _) = open(&files);
        let (done, wait) = super::done();
        wal.append(vec![super::entry(1, 1, 10)], done)
            .expect("queued");
        assert!(wait().is_ok());
        // The next segment is ready, so it is its length that space is missing for.
        while wal.counters().segments_created < 2 {
            std::thread::yield_now();
        }
        files.fail(full);
        let (done, wait) = super::done();
        wal.append(vec![super::entry(1, 2, large)], done)
            .expect("queued");
        while !wal.wants_space() {
            std::thread::yield_now();
        }
        if heals {
            files.heal();
            assert!(wait().is_ok());
            assert!(wal.failure().is_none());
            wal.close();
        } else {
            wal.close();
            assert!(wait().is_err(), "closed while it waited");
            files.heal();
        }
        let (wal, recovered) = open(&files);
        let last = 1 + u64::from(heals);
        assert_eq!(recovered.last, Some(super::id(1, last)));
        let read = wal.read(1..3, usize::MAX).expect("readable");
        assert_eq!(read.len() as u64, last);
        assert!(
            read.iter()
                .skip(1)
                .all(|entry| entry.payload.len() == large)
        );
        let (done, wait) = super::done();
        wal.append(vec![super::entry(1, last + 1, 10)], done)
            .expect("queued");
        assert!(wait().is_ok(), "it goes on");
    }
}

#[test]
fn after_a_failure_every_call_is_refused() {
    let files = Memory::default();
    let (wal, _) = open(&files);
    super::append(&wal, vec![super::entry(1, 1, 10)]);
    settle(&wal);
    files.fail(Fault {
        after: files.calls(),
        once: false,
        kind: std::io::ErrorKind::Other,
    });
    let (done, wait) = super::done();
    wal.append(vec![super::entry(1, 2, 10)], done)
        .expect("queued");
    assert!(wait().is_err());
    assert!(wal.failure().is_some());
    assert_eq!(wal.synced_index(), Some(1));
    let unused = || Box::new(|_| panic!("not called"));
    assert!(wal.append(vec![super::entry(1, 3, 10)], unused()).is_err());
    assert!(wal.save_vote("vote".into(), unused()).is_err());
    assert!(wal.barrier(unused()).is_err());
    assert!(wal.truncate_after(None).is_err());
    assert!(wal.purge(super::id(1, 1)).is_err());
}
