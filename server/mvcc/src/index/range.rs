//! The keys a request names, and how far a reader has come through them.

/// A range of keys in etcd's convention.
///
/// `end` empty names the single key `key`; `end` of one zero byte names `key` and all above it;
/// any other `end` is the first key that is not in the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange<'a> {
    /// The first key.
    pub key: &'a [u8],
    /// The range's end, by the convention above.
    pub end: &'a [u8],
}

impl<'a> KeyRange<'a> {
    /// Every key.
    pub const ALL: KeyRange<'static> = KeyRange {
        key: b"",
        end: b"\0",
    };

    /// The range from `key` to `end`.
    pub const fn new(key: &'a [u8], end: &'a [u8]) -> Self {
        Self { key, end }
    }

    /// The range names one key, not an interval.
    pub fn is_single(&self) -> bool {
        self.end.is_empty()
    }

    /// The range has no upper bound.
    pub fn is_open(&self) -> bool {
        self.end == b"\0"
    }

    /// Whether the range names `key`.
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.is_single() {
            return key == self.key;
        }
        key >= self.key && (self.is_open() || key < self.end)
    }
}

/// How far a scan has come, so that it can go on after the caller let others in.
///
/// Changes to the index between two pieces do no harm: the cursor remembers a key, not a place.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    after: Vec<u8>,
    begun: bool,
    done: bool,
}

impl Cursor {
    /// A cursor at the start of whatever range it is used with.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is left of the range.
    pub fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn resume_after(&self) -> Option<&[u8]> {
        self.begun.then_some(&self.after)
    }

    pub(super) fn passed(&mut self) -> &mut Vec<u8> {
        self.begun = true;
        &mut self.after
    }

    pub(super) fn finish(&mut self) {
        self.done = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_name_keys_as_etcd_does() {
        let check = |key: &[u8], end: &[u8], named: &[&[u8]], others: &[&[u8]]| {
            let range = KeyRange::new(key, end);
            assert!(named.iter().all(|key| range.contains(key)), "{range:?}");
            assert!(!others.iter().any(|key| range.contains(key)), "{range:?}");
        };
        check(b"b", b"", &[b"b"], &[b"", b"a", b"b\0", b"c"]);
        check(b"b", b"\0", &[b"b", b"b\0", b"z"], &[b"", b"a"]);
        check(b"b", b"d", &[b"b", b"b\0", b"c\xff"], &[b"a", b"d", b"d\0"]);
        check(b"d", b"b", &[], &[b"b", b"c", b"d"]);
        assert!(KeyRange::ALL.contains(b""));
    }
}
