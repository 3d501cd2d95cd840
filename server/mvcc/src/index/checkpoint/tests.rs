//! Checkpoints as they are written, damaged and made up.

use super::CheckpointError::Damaged;
use super::read::read_frame;
use super::write::close_frame;
use super::*;
use crate::index::Index;
use crate::revision::{Meta, Revision};
use proptest::collection::vec;
use proptest::prelude::*;

fn written(index: &Index, cut: i64) -> Vec<u8> {
    let (mut checkpoint, mut stream) = (Checkpoint::new(cut), Vec::new());
    while checkpoint.step(index, &mut stream) {}
    stream
}

fn read(stream: &[u8]) -> Result<(Index, i64), CheckpointError> {
    read_checkpoint(&mut &*stream, -1)
}

/// Keys with every kind of past: one version, many, leases, tombstones, revisions above 2^32.
fn sample(keys: i64) -> Index {
    let mut index = Index::new();
    let base = 5_000_000_000;
    for i in 0..keys * 3 {
        let key = format!("/registry/{:04}", i * 7 % keys);
        let revision = Revision::new(base + i, (i % 3) as u32);
        match i % 5 {
            0 => index.delete(key.as_bytes(), revision),
            lease => index.put(key.as_bytes(), revision, (lease - 2).max(0) << 40),
        };
    }
    index
}

/// The bodies of the frames of `stream`.
fn bodies(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while !stream.is_empty() {
        let mut frame = Vec::new();
        read_frame(&mut stream, &mut frame).expect("a whole frame");
        bodies.push(frame);
    }
    bodies
}

fn framed(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = Vec::new();
    for body in bodies {
        let start = stream.len();
        stream.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        stream.extend_from_slice(body);
        close_frame(&mut stream, start);
    }
    stream
}

#[test]
fn what_was_written_is_read_and_written_the_same_again() {
    let index = sample(3000);
    let stream = written(&index, index.newest());
    assert!(bodies(&stream).len() > 4, "several runs");
    let (again, cut) = read(&stream).expect("just written");
    assert_eq!(
        (cut, again.live_keys()),
        (index.newest(), index.live_keys())
    );
    assert_eq!(written(&again, cut), stream);
}

#[test]
fn the_first_format_is_still_read() {
    let frame = |crc: [u8; 4], body: &[u8]| {
        let len = (body.len() as u32).to_le_bytes();
        [&len[..], &crc, body].concat()
    };
    let stream: Vec<u8> = [
        // Version 1, cut 7.
        frame([0x54, 0x16, 0xff, 0x7a], &[1, 1, 14]),
        // "aa": first put, at 2.0. "ab": version 3 of the key created at 4, at 6.1, lease 9, after
        // 2.1. "c": deleted at 7.0.
        frame(
            [0x36, 0x64, 0x6e, 0x22],
            &[
                &[2][..],
                &[0, 2, b'a', b'a', 8, 4, 0],
                &[1, 1, b'b', 6, 8, 1, 2, 3, 9, 0, 0, 0, 0, 0, 0, 0, 1, 4, 2],
                &[0, 1, b'c', 1, 2, 0],
            ]
            .concat(),
        ),
        // Three entries.
        frame([0xbf, 0x2c, 0xd6, 0xd6], &[3, 3]),
    ]
    .concat();
    let (index, cut) = read(&stream).expect("format version 1");
    assert_eq!((cut, index.newest(), index.live_keys()), (7, 7, 2));
    assert_eq!(index.at(b"aa", 2), Some(Revision::new(2, 0)));
    assert_eq!(index.at(b"ab", 5), Some(Revision::new(2, 1)));
    let meta = Meta {
        create_revision: 4,
        mod_revision: Revision::new(6, 1),
        version: 3,
        lease: 9,
    };
    assert_eq!(index.meta(b"ab"), Some(meta));
    assert!(
        index
            .version_at(b"c", 7)
            .is_some_and(|version| version.tombstone)
    );
    assert_eq!(written(&index, 7), stream);
}

#[test]
fn what_was_compacted_since_is_not_read_back() {
    let mut index = Index::new();
    index.put(b"dead", Revision::new(2, 0), 0);
    index.put(b"old", Revision::new(3, 0), 0);
    index.put(b"old", Revision::new(4, 0), 0);
    index.delete(b"dead", Revision::new(5, 0));
    index.put(b"young", Revision::new(6, 0), 0);
    let stream = written(&index, 6);
    let (again, _) = read_checkpoint::<64>(&mut &*stream, 6).expect("just written");
    for key in [&b"dead"[..], b"old", b"young"] {
        index.compact_key(key, 6);
    }
    assert!(again.version_at(b"dead", 6).is_none());
    assert_eq!((again.live_keys(), again.newest()), (2, 6));
    assert_eq!(written(&again, 6), written(&index, 6));
}

#[test]
fn a_stream_that_was_cut_short_is_refused() {
    let stream = written(&sample(200), i64::MAX);
    for len in (0..stream.len()).step_by(97).chain([stream.len() - 1]) {
        assert!(read(&stream[..len]).is_err(), "cut to {len} bytes");
    }
    let mut lost = bodies(&written(&sample(3000), i64::MAX));
    lost.remove(2);
    assert!(matches!(
        read(&framed(&lost)),
        Err(Damaged("the number of entries"))
    ));
}

#[test]
fn another_format_version_is_named() {
    let stream = framed(&[vec![HEAD, 2, 0], vec![END, 0]]);
    assert!(matches!(
        read(&stream),
        Err(CheckpointError::FormatVersion(2))
    ));
}

#[test]
fn a_length_that_is_not_there_takes_no_memory() {
    let frame = [0xff; FRAME_HEAD_BYTES + 3];
    assert!(matches!(read(&frame), Err(Damaged("a frame is cut short"))));
    let long_key = framed(&[
        vec![HEAD, 1, 0],
        vec![
            RUN, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0,
        ],
    ]);
    assert!(matches!(read(&long_key), Err(Damaged("a length"))));
}

proptest! {
    #[test]
    fn a_flipped_byte_is_refused(place in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut stream = written(&sample(100), i64::MAX);
        let i = place.index(stream.len());
        stream[i] ^= flip;
        prop_assert!(read(&stream).is_err());
    }

    /// What the CRC does not catch is an error or an index that works, never a panic.
    #[test]
    fn wrong_bytes_under_a_right_crc_do_no_harm(
        edits in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bodies = bodies(&written(&sample(60), i64::MAX));
        for (frame, place, byte) in edits {
            let frame = frame.index(bodies.len());
            let body = &mut bodies[frame];
            let place = place.index(body.len());
            body[place] = byte;
        }
        if let Ok((index, cut)) = read(&framed(&bodies)) {
            index.tree.check();
            prop_assert!(read(&written(&index, cut)).is_ok());
        }
    }

    #[test]
    fn any_bytes_at_all_do_no_harm(run in vec(any::<u8>(), 0..200)) {
        let run = [vec![RUN], run].concat();
        let _ = read(&framed(&[vec![HEAD, 1, 0], run, vec![END, 1]]));
    }
}
