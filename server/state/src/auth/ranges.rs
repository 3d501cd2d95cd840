//! Ranges of keys that somebody has a right on, merged so that a look-up is one binary search.

use bytes::{Bytes, BytesMut};

/// One zero byte: where a range ends that holds every key from its first one on.
const OPEN: &[u8] = b"\0";

/// Disjoint ranges of keys in their order. No two adjoin: rights on adjoining ranges are a right on their union.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Range>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    start: Bytes,
    end: End,
}

/// Where a range ends; ordered as the keys are that it reaches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// Before this key.
    Before(Bytes),
    /// Nowhere.
    Open,
}

impl Ranges {
    /// Merges ranges in etcd's convention of key and end.
    pub(super) fn of(given: impl IntoIterator<Item = (Bytes, Bytes)>) -> Self {
        let range = |(key, end): (Bytes, Bytes)| Range {
            end: End::of(&key, end),
            start: key,
        };
        let mut sorted: Vec<_> = given.into_iter().map(range).collect();
        sorted.sort_unstable();
        let mut merged: Vec<Range> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(last) if last.end.adjoins(&range.start) => {
                    last.end = range.end.max(std::mem::replace(&mut last.end, End::Open));
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    /// Whether every key of a range lies within. An end at or below the key, a range without keys, is taken for the key
    /// alone; etcd refuses some of these, for what is at the end.
    pub(super) fn cover(&self, key: &[u8], end: &[u8]) -> bool {
        let behind = self.0.partition_point(|range| &range.start[..] <= key);
        let last = behind.checked_sub(1).map(|at| &self.0[at].end);
        last.is_some_and(|last| last.is_behind(key) && (end.is_empty() || last.reaches(end)))
    }
}

impl End {
    fn of(key: &Bytes, end: Bytes) -> Self {
        match &end[..] {
            b"" => {
                let mut next = BytesMut::with_capacity(key.len() + 1);
                next.extend_from_slice(key);
                next.extend_from_slice(OPEN);
                Self::Before(next.freeze())
            }
            OPEN => Self::Open,
            _ => Self::Before(end),
        }
    }

    /// Whether a range that begins at `start` leaves no gap.
    fn adjoins(&self, start: &[u8]) -> bool {
        match self {
            Self::Before(key) => start <= &key[..],
            Self::Open => true,
        }
    }

    fn is_behind(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < &end[..],
            Self::Open => true,
        }
    }

    /// Whether a range that ends at `end`, in etcd's convention, ends no later.
    fn reaches(&self, end: &[u8]) -> bool {
        match self {
            Self::Before(own) => end != OPEN && end <= &own[..],
            Self::Open => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(given: &[(&'static str, &'static str)]) -> Ranges {
        Ranges::of(given.iter().map(|&(key, end)| (key.into(), end.into())))
    }

    #[test]
    fn adjoining_and_overlapping_ranges_are_one() {
        for given in [
            [("a", "c"), ("c", "e"), ("e", "g")],
            [("e", "g"), ("a", "d"), ("c", "f")],
            [("a", "g"), ("b", "c"), ("a", "b")],
        ] {
            assert_eq!(ranges(&given), ranges(&[("a", "g")]), "{given:?}");
        }
        assert_eq!(ranges(&[("a", ""), ("a\0", "b")]), ranges(&[("a", "b")]));
        assert_eq!(ranges(&[("a", "b"), ("b", "\0")]), ranges(&[("a", "\0")]));
        assert_eq!(ranges(&[("a", "\0"), ("b", "c")]), ranges(&[("a", "\0")]));
        assert_ne!(ranges(&[("a", ""), ("b", "c")]), ranges(&[("a", "c")]));
    }

    #[test]
    fn a_range_is_covered_where_all_of_it_is() {
        let some = ranges(&[("b", "d"), ("d", "f"), ("k", ""), ("x", "\0")]);
        for (key, end, covered) in [
            ("b", "", true),
            ("b", "f", true),
            ("c", "e", true),
            ("e\u{7f}", "", true),
            ("f", "", false),
            ("b", "f\0", false),
            ("a", "f", false),
            ("a", "", false),
            ("k", "", true),
            ("k", "k\0", true),
            ("k", "k\0\0", false),
            ("k\0", "", false),
            ("x", "\0", true),
            ("y", "zzz", true),
            ("z", "\0", true),
            ("b", "\0", false),
            ("w", "\0", false),
            // Nothing lies between these, but somebody who may not read the key gets no answer either.
            ("c", "a", true),
            ("g", "a", false),
            ("c", "c", true),
        ] {
            assert_eq!(
                some.cover(key.as_bytes(), end.as_bytes()),
                covered,
                "{key:?} {end:?}"
            );
        }
        assert!(!ranges(&[]).cover(b"a", b""));
        assert!(ranges(&[("\0", "\0")]).cover(b"\0", b"\0"));
    }
}
