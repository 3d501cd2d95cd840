//! Which keys a call is about: one, those with a prefix, an interval, or all.

use bytes::Bytes;

/// The end that means "every key from the first one on".
const NO_END: Bytes = Bytes::from_static(&[0]);

/// A key or an interval of keys, in etcd's form.
///
/// ```
/// # use keystead_client::KeyRange;
/// assert_eq!(KeyRange::prefix("a/"), KeyRange::between("a/", "a0"));
/// assert_eq!(KeyRange::prefix(""), KeyRange::all());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The first key.
    pub key: Bytes,
    /// Empty for the key alone, one zero byte for every key from `key` on, else the first key outside.
    pub end: Bytes,
}

impl KeyRange {
    /// One key.
    pub fn key(key: impl Into<Bytes>) -> KeyRange {
        KeyRange {
            key: key.into(),
            end: Bytes::new(),
        }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> KeyRange {
        let prefix = prefix.into();
        if prefix.is_empty() {
            return KeyRange::all();
        }
        let end = after_prefix(&prefix).unwrap_or(NO_END);
        KeyRange { key: prefix, end }
    }

    /// Every key from `first` on.
    pub fn from_key(first: impl Into<Bytes>) -> KeyRange {
        let first = first.into();
        let key = if first.is_empty() { NO_END } else { first };
        KeyRange { key, end: NO_END }
    }

    /// The keys from `first` up to but without `end`.
    pub fn between(first: impl Into<Bytes>, end: impl Into<Bytes>) -> KeyRange {
        KeyRange {
            key: first.into(),
            end: end.into(),
        }
    }

    /// Every key there is.
    pub fn all() -> KeyRange {
        KeyRange::from_key(Bytes::new())
    }

    /// It is about one key.
    pub fn is_single(&self) -> bool {
        self.end.is_empty()
    }

    /// Whether `key` is one of them.
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.is_single() {
            return key == self.key;
        }
        key >= &self.key[..] && (self.end == NO_END || key < &self.end[..])
    }
}

/// What a cache asks of what it keeps.
impl KeyRange {
    /// Whether each key of `other` is one of these.
    pub(crate) fn covers(&self, other: &KeyRange) -> bool {
        if other.is_single() {
            return self.contains(&other.key);
        }
        let ends = self.end == NO_END || (other.end != NO_END && other.end <= self.end);
        !self.is_single() && self.key <= other.key && ends
    }
}

/// The first key after all those with `prefix`; `None` when there is none, as after a prefix of 0xFF bytes alone.
fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&byte| byte < 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

/// The namespace's own view of a range: what `namespace.rs` makes of it.
impl KeyRange {
    pub(crate) fn within(self, prefix: &Bytes) -> KeyRange {
        let end = match &self.end[..] {
            [] => Bytes::new(),
            [0] => after_prefix(prefix).unwrap_or(NO_END),
            end => join(prefix, end),
        };
        KeyRange {
            key: join(prefix, &self.key),
            end,
        }
    }
}

/// `prefix` and `rest` in one.
pub(crate) fn join(prefix: &[u8], rest: &[u8]) -> Bytes {
    [prefix, rest].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_key_that_lacks_it() {
        for (prefix, end) in [
            (&b"a"[..], &b"b"[..]),
            (b"a\xff", b"b"),
            (b"\xff", b"\0"),
            (b"\xff\xff", b"\0"),
            (b"a\xfe", b"a\xff"),
        ] {
            let range = KeyRange::prefix(prefix.to_vec());
            assert_eq!(&range.end[..], end, "{prefix:?}");
            assert!(range.contains(prefix));
            assert!(range.contains(&[prefix, b"\xff"].concat()));
        }
    }

    #[test]
    fn a_range_knows_its_keys() {
        let range = KeyRange::between("b", "d");
        assert!(!range.contains(b"a") && range.contains(b"b"));
        assert!(range.contains(b"c\xff") && !range.contains(b"d"));
        assert!(
            KeyRange::from_key("b").contains(b"\xff") && !KeyRange::from_key("b").contains(b"a")
        );
        assert!(KeyRange::all().contains(b"\0"));
        assert!(KeyRange::key("k").contains(b"k") && !KeyRange::key("k").contains(b"kk"));
    }

    #[test]
    fn a_range_covers_what_lies_within_it() {
        let range = KeyRange::between("b", "d");
        for (other, covered) in [
            (KeyRange::key("b"), true),
            (KeyRange::key("d"), false),
            (KeyRange::between("b", "d"), true),
            (KeyRange::between("bb", "c"), true),
            (KeyRange::between("a", "c"), false),
            (KeyRange::between("c", "dd"), false),
            (KeyRange::from_key("c"), false),
        ] {
            assert_eq!(range.covers(&other), covered, "{other:?}");
        }
        assert!(KeyRange::from_key("b").covers(&KeyRange::from_key("c")));
        assert!(KeyRange::all().covers(&KeyRange::prefix("c")));
        assert!(!KeyRange::key("b").covers(&KeyRange::between("b", "c")));
    }

    #[test]
    fn every_key_of_a_namespace_is_not_every_key() {
        let prefix = Bytes::from_static(b"app/");
        assert_eq!(
            KeyRange::all().within(&prefix),
            KeyRange::between("app/\0", "app0")
        );
        assert_eq!(
            KeyRange::from_key("b").within(&prefix),
            KeyRange::between("app/b", "app0")
        );
        assert_eq!(
            KeyRange::prefix("b").within(&prefix),
            KeyRange::prefix("app/b")
        );
        assert_eq!(KeyRange::key("b").within(&prefix), KeyRange::key("app/b"));
    }
}
