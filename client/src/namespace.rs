//! A view of the keys below a prefix: it is put before every key that goes out and taken off every key that comes in.
//! Every verb goes through here; an empty namespace costs nothing.

use bytes::Bytes;
use keystead_proto::mvccpb::KeyValue;

use crate::key_range::{KeyRange, join};

/// The prefix, empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Namespace(Bytes);

impl Namespace {
    pub(crate) fn new(prefix: Bytes) -> Namespace {
        Namespace(prefix)
    }

    /// A namespace within this one.
    pub(crate) fn inner(&self, prefix: Bytes) -> Namespace {
        Namespace(self.key(prefix))
    }

    /// The key as the server knows it.
    pub(crate) fn key(&self, key: Bytes) -> Bytes {
        if self.0.is_empty() {
            return key;
        }
        join(&self.0, &key)
    }

    /// The range as the server knows it.
    pub(crate) fn range(&self, range: KeyRange) -> KeyRange {
        if self.0.is_empty() {
            return range;
        }
        range.within(&self.0)
    }

    /// The key as the user knows it; shares the memory of the answer.
    pub(crate) fn strip(&self, key: &mut Bytes) {
        if key.starts_with(&self.0) {
            *key = key.split_off(self.0.len());
        }
    }

    /// The same for a key with its value.
    pub(crate) fn strip_kv(&self, mut kv: KeyValue) -> KeyValue {
        self.strip(&mut kv.key);
        kv
    }

    /// The same for many.
    pub(crate) fn strip_all(&self, mut kvs: Vec<KeyValue>) -> Vec<KeyValue> {
        if !self.0.is_empty() {
            kvs.iter_mut().for_each(|kv| self.strip(&mut kv.key));
        }
        kvs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_with_the_prefix_comes_back_without_it() {
        let namespace = Namespace::new("app/".into()).inner("cfg/".into());
        let mut key = namespace.key("a".into());
        assert_eq!(key, "app/cfg/a");
        namespace.strip(&mut key);
        assert_eq!(key, "a");
    }

    #[test]
    fn without_a_prefix_nothing_changes() {
        let namespace = Namespace::default();
        assert_eq!(namespace.key("a".into()), "a");
        assert_eq!(namespace.range(KeyRange::all()), KeyRange::all());
        let mut key = Bytes::from_static(b"a");
        namespace.strip(&mut key);
        assert_eq!(key, "a");
    }
}
