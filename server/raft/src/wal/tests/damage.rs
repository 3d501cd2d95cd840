//! Damaged files: a torn tail is dropped, anything else is refused with file and offset, and no bytes make
//! the log panic or allocate without bound.

use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::batch::{HEADER_BYTES, Header, SECTOR_BYTES};
use super::super::record::{Records, described};
use super::super::{OpenError, segment};
use super::memory::{Image, Memory};
use super::model::{Model, Step, Wish, fit, submit};
use super::{Recovered, Wal, append, entry, id, open, options, settle};

/// A log whose steps were written as one batch each, and what it held after each.
struct Written {
    image: Image,
    models: Vec<Model>,
    batches: Vec<Batch>,
}

/// Where a batch lies.
#[derive(Clone, Debug)]
struct Batch {
    file: String,
    offset: usize,
    /// Without padding.
    used: usize,
    header: Header,
}

fn written(wishes: &[Wish]) -> Written {
    let files = Memory::default();
    let (steps, models) = fit(wishes, &Model::default());
    let (wal, _) = open(&files);
    for step in &steps {
        match step {
            Step::Append(entries) => append(&wal, entries.clone()),
            step => submit(&wal, step, || ()).expect("accepted"),
        }
        settle(&wal);
    }
    drop(wal);
    let image = files.image();
    let batches = batches(&image);
    Written {
        image,
        models,
        batches,
    }
}

/// The batches of an image in the order they were written, stale ones left out.
fn batches(image: &Image) -> Vec<Batch> {
    let mut batches = Vec::new();
    for (file, bytes) in image {
        for offset in (0..bytes.len()).step_by(SECTOR_BYTES as usize) {
            let Some((header, _)) = Header::decode(&bytes[offset..]) else {
                continue;
            };
            if Some(header.segment) == segment::number(file) {
                let used =
                    HEADER_BYTES + header.records_len as usize + header.payloads_len as usize;
                batches.push(Batch {
                    file: file.clone(),
                    offset,
                    used,
                    header,
                });
            }
        }
    }
    batches.sort_by_key(|batch| batch.header.sequence);
    batches
}

fn try_open(image: &Image) -> Result<(Wal, Recovered), OpenError> {
    Wal::open(Arc::new(Memory::of(image)), options())
}

fn holds(image: &Image) -> Model {
    let (wal, recovered) = try_open(image).expect("a torn tail is no damage");
    Model::of(&wal, recovered.vote)
}

const THREE_SEGMENTS: [Wish; 9] = [
    Wish::Vote(40),
    Wish::Append {
        entries: 2,
        len: 600,
    },
    Wish::Append {
        entries: 1,
        len: 300,
    },
    Wish::Append {
        entries: 3,
        len: 700,
    },
    Wish::Truncate(4),
    Wish::Append {
        entries: 2,
        len: 900,
    },
    Wish::Append {
        entries: 1,
        len: 2_000,
    },
    Wish::Vote(41),
    Wish::Append {
        entries: 3,
        len: 250,
    },
];

#[test]
fn a_tail_torn_at_any_byte_is_dropped_and_written_over() {
    let Written {
        image,
        models,
        batches,
    } = written(&THREE_SEGMENTS);
    let (whole, before) = (&models[models.len() - 1], &models[models.len() - 2]);
    let last = batches.last().expect("there are batches");
    for cut in 0..=last.used {
        for stale in [0, 0xa5] {
            let mut torn = image.clone();
            let file = torn.get_mut(&last.file).expect("the file");
            let end = last.offset + last.used.next_multiple_of(SECTOR_BYTES as usize);
            // The bytes that end a batch may be what was there before.
            file[last.offset + cut..end].fill(stale);
            let found = holds(&torn);
            assert!(found == *before || found == *whole, "cut at {cut}");
            assert!(cut > 80 || found == *before, "cut at {cut}");
            let files = Memory::of(&torn);
            let next = found.last().map_or(1, |last| last.index + 1);
            append(&open(&files).0, vec![entry(9, next, 400)]);
            let (wal, recovered) = open(&files);
            assert_eq!(recovered.last, Some(id(9, next)), "cut at {cut}");
            assert_eq!(
                wal.read(next..next + 1, 0).expect("read"),
                [entry(9, next, 400)]
            );
        }
    }
}

#[test]
fn a_torn_batch_stays_dead_when_its_missing_sector_comes_back() {
    let Written {
        image,
        models,
        batches,
    } = written(&THREE_SEGMENTS);
    let last = batches.last().expect("there are batches");
    let sector = SECTOR_BYTES as usize;
    let missing = last.offset + last.used - 1 - (last.offset + last.used - 1) % sector;
    assert!(
        missing > last.offset,
        "the batch must be longer than its header's sector"
    );
    let mut torn = image.clone();
    torn.get_mut(&last.file).expect("the file")[missing..missing + sector].fill(0);
    let files = Memory::of(&torn);
    drop(open(&files));
    let mut back = files.image();
    let whole = &image[&last.file][missing..missing + sector];
    back.get_mut(&last.file).expect("the file")[missing..missing + sector].copy_from_slice(whole);
    assert_eq!(holds(&back), models[models.len() - 2]);
}

#[test]
fn a_file_cut_short_in_its_last_batch_is_opened() {
    let Written {
        image,
        models,
        batches,
    } = written(&THREE_SEGMENTS);
    let last = batches.last().expect("there are batches");
    for cut in (0..last.used).step_by(7) {
        let mut short = image.clone();
        short
            .get_mut(&last.file)
            .expect("the file")
            .truncate(last.offset + cut);
        assert_eq!(holds(&short), models[models.len() - 2], "cut at {cut}");
    }
}

#[test]
fn a_damaged_batch_with_a_newer_one_behind_it_is_refused_with_its_place() {
    let Written { image, batches, .. } = written(&THREE_SEGMENTS);
    assert!(batches.last().expect("batches").header.segment >= 3);
    for batch in &batches[..batches.len() - 1] {
        for at in (0..batch.used).step_by(5) {
            let mut damaged = image.clone();
            damaged.get_mut(&batch.file).expect("the file")[batch.offset + at] ^= 0x10;
            match try_open(&damaged).map(|(_, recovered)| recovered) {
                Err(OpenError::Corrupt { file, offset, .. }) => {
                    assert_eq!(
                        (file, offset),
                        (PathBuf::from(&batch.file), batch.offset as u64)
                    );
                }
                other => panic!("{batch:?}, byte {at}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let Written { image, .. } = written(&THREE_SEGMENTS);
    for number in [1, 2] {
        let mut without = image.clone();
        without.remove(&segment::name(number)).expect("the segment");
        assert!(
            matches!(try_open(&without), Err(OpenError::Corrupt { .. })),
            "{number}"
        );
    }
}

#[test]
fn a_log_of_a_later_version_is_refused_and_named() {
    let Written {
        mut image, batches, ..
    } = written(&[Wish::Vote(3)]);
    let later = Header {
        version: 2,
        ..batches[0].header
    };
    image.get_mut(&batches[0].file).expect("the file")[..HEADER_BYTES]
        .copy_from_slice(&later.encode().0);
    assert!(matches!(
        try_open(&image),
        Err(OpenError::Version {
            found: 2,
            known: 1,
            ..
        })
    ));
}

#[test]
fn stale_batches_in_recycled_segments_are_never_taken_for_new() {
    let files = Memory::default();
    let (mut stale_seen, mut recycled) = (0, 0);
    for round in 0..60 {
        let (wal, recovered) = open(&files);
        let first = recovered.last.map_or(1, |last| last.index + 1);
        for index in first..first + 5 {
            append(&wal, vec![entry(1, index, 500 + 10 * round)]);
        }
        wal.purge(id(1, first + 3)).expect("purge");
        settle(&wal);
        recycled += wal.counters().segments_recycled;
        drop(wal);
        let image = files.image();
        for (name, bytes) in &image {
            let headers = bytes
                .chunks(SECTOR_BYTES as usize)
                .filter_map(Header::decode);
            stale_seen += headers
                .filter(|(header, _)| segment::name(header.segment) != *name)
                .count();
        }
        let (_, recovered) = try_open(&image).expect("opens");
        let marks = (recovered.purged, recovered.last);
        assert_eq!(marks, (Some(id(1, first + 3)), Some(id(1, first + 4))));
    }
    assert!(
        recycled > 20 && stale_seen > 100,
        "{recycled} recycled, {stale_seen} stale batches"
    );
}

#[test]
fn a_payload_that_looks_like_a_batch_is_only_a_payload() {
    let Written { image, batches, .. } = written(&[Wish::Vote(1)]);
    // Forged as well as can be without knowing the log's name: right segment, later sequence.
    let forged = Header {
        log: 8,
        sequence: 900,
        generation: 9,
        ..batches[0].header
    };
    let mut payload = vec![0; 3 * SECTOR_BYTES as usize];
    for at in (0..payload.len() - HEADER_BYTES).step_by(8) {
        payload[at..at + HEADER_BYTES].copy_from_slice(&forged.encode().0);
    }
    let files = Memory::of(&image);
    let (wal, _) = open(&files);
    append(
        &wal,
        vec![super::Entry {
            id: id(1, 1),
            payload: payload.into(),
        }],
    );
    drop(wal);
    let mut torn = files.image();
    let last = self::batches(&torn).pop().expect("a batch");
    torn.get_mut(&last.file).expect("the file")[last.offset..last.offset + SECTOR_BYTES as usize]
        .fill(0);
    assert_eq!(try_open(&torn).expect("opens").1.last, None);
}

#[test]
fn a_whole_header_that_claims_any_sizes_costs_no_memory() {
    let Written { image, batches, .. } = written(&[Wish::Vote(3)]);
    let sizes = [
        0,
        1,
        400,
        u64::from(u32::MAX),
        1 << 40,
        u64::MAX - 100,
        u64::MAX,
    ];
    for (records_len, payloads_len) in sizes.iter().flat_map(|a| sizes.map(|b| (*a as u32, b))) {
        let claims = Header {
            records_len,
            payloads_len,
            ..batches[0].header
        };
        let mut image = image.clone();
        image.get_mut(&batches[0].file).expect("the file")[..HEADER_BYTES]
            .copy_from_slice(&claims.encode().0);
        let _opened_or_refused = try_open(&image);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn records_of_any_bytes_are_read_or_refused(bytes in proptest::collection::vec(0..7u8, 0..300)) {
        for record in Records(&bytes).flatten() {
            if let super::super::record::Record::Append { table, .. } = record {
                prop_assert!(described(table).count() * 24 <= bytes.len());
            }
        }
    }

    #[test]
    fn a_log_with_any_bytes_changed_is_refused_or_holds_what_it_held_after_some_step(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 1..600usize), 1..4),
    ) {
        let Written { mut image, models, .. } = written(&THREE_SEGMENTS);
        for (file, at, byte, len) in changes {
            let file = image.values_mut().nth(file.index(3)).expect("three files");
            let from = at.index(file.len());
            let to = (from + len).min(file.len());
            file[from..to].fill(byte);
        }
        if let Ok((wal, recovered)) = try_open(&image) {
            prop_assert!(models.contains(&Model::of(&wal, recovered.vote)));
        }
    }
}
