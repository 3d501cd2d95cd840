//! A key or a range of keys, in the convention of a watch request.
//!
//! The registry files watchers under spans and the services parse requests into them.
//! A span owns its bytes: a slice of a request would pin the network buffer it came in.

use bytes::Bytes;

/// What a watcher watches: one key, or the keys from `start` up to `end`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// Exactly this key.
    Key(Bytes),
    /// `start <= key < end`; without an end, every key from `start` on.
    Range {
        /// The first key.
        start: Bytes,
        /// The first key that is no longer part of it.
        end: Option<Bytes>,
    },
}

/// The range of a watch holds no key at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyRange;

impl Span {
    /// Reads `key` and `range_end` as etcd's Watch does: an empty key is the key `\0`, an empty
    /// end names the single key, the end `\0` means every key from `key` on.
    ///
    /// # Errors
    /// [`EmptyRange`] when the end is not above the key. A Range request of that shape is
    /// answered with nothing; a watch is refused.
    pub fn parse(key: &[u8], range_end: &[u8]) -> Result<Span, EmptyRange> {
        let key = if key.is_empty() { b"\0" } else { key };
        let start = Bytes::copy_from_slice(key);
        match range_end {
            [] => Ok(Span::Key(start)),
            [0] => Ok(Span::Range { start, end: None }),
            end if end > key => Ok(Span::Range {
                start,
                end: Some(Bytes::copy_from_slice(end)),
            }),
            _ => Err(EmptyRange),
        }
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Span {
        let kept = prefix
            .iter()
            .rposition(|byte| *byte != 0xff)
            .map_or(0, |last| last + 1);
        let mut end = prefix[..kept].to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let start = Bytes::copy_from_slice(prefix);
        Span::Range {
            start,
            end: (!end.is_empty()).then(|| end.into()),
        }
    }

    /// Whether `key` is one of the span's keys.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Span::Key(only) => only == key,
            Span::Range { start, end } => {
                start.as_ref() <= key && end.as_ref().is_none_or(|end| key < end.as_ref())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_convention_is_etcds() {
        let whole = Span::parse(b"", b"\0").expect("everything");
        assert!(whole.contains(b"\0") && whole.contains(b"z"));
        let one = Span::parse(b"a", b"").expect("one key");
        assert!(one.contains(b"a") && !one.contains(b"a\0"));
        let range = Span::parse(b"a", b"c").expect("range");
        assert!(range.contains(b"a") && range.contains(b"bz") && !range.contains(b"c"));
        assert_eq!(Span::parse(b"c", b"c"), Err(EmptyRange));
        assert_eq!(Span::parse(b"c", b"b"), Err(EmptyRange));
        assert_eq!(
            Span::parse(b"", b"\0\0"),
            Ok(Span::Range {
                start: Bytes::from_static(b"\0"),
                end: Some(Bytes::from_static(b"\0\0"))
            })
        );
    }

    #[test]
    fn a_prefix_of_all_ff_has_no_end() {
        assert!(Span::prefix(b"\xff\xff").contains(b"\xff\xff\xff"));
        assert!(!Span::prefix(b"\xff\xff").contains(b"\xff"));
        assert!(Span::prefix(b"a\xff").contains(b"a\xff\xff"));
        assert!(!Span::prefix(b"a\xff").contains(b"b"));
        assert!(Span::prefix(b"").contains(b"b"));
    }
}
