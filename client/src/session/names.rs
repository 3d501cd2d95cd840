//! Which keys a session has taken below a prefix. A session's key is the prefix and the lease's id, as Go's concurrency package has it;
//! a second one below the same prefix takes a suffix, so that two guards of one session exclude each other, too.

use std::collections::{BTreeSet, HashMap};

use crate::locks::Mutex;
use bytes::Bytes;

/// Prefixes, and the numbers taken below each.
#[derive(Default)]
pub(crate) struct Names(Mutex<HashMap<Bytes, BTreeSet<u32>>>);

/// A key that nobody else uses until it is freed. It is freed when the key is surely not there; one that is never freed stays taken
/// until the session goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    prefix: Bytes,
    number: u32,
}

impl Names {
    /// Takes the lowest free number below `prefix`.
    pub(crate) fn take(&self, prefix: Bytes) -> Name {
        let mut all = self.0.lock();
        let taken = all.entry(prefix.clone()).or_default();
        let number = (0..).find(|number| !taken.contains(number));
        let number = number.expect("fewer names are taken than there are numbers");
        taken.insert(number);
        Name { prefix, number }
    }

    /// Its key is surely not there and will not be.
    pub(crate) fn free(&self, name: &Name) {
        let mut all = self.0.lock();
        if let Some(taken) = all.get_mut(&name.prefix) {
            taken.remove(&name.number);
            if taken.is_empty() {
                all.remove(&name.prefix);
            }
        }
    }
}

impl Name {
    /// The key of the session with `lease`.
    pub(crate) fn key(&self, lease: i64) -> Bytes {
        let mut key = self.prefix.to_vec();
        key.extend_from_slice(format!("{lease:x}").as_bytes());
        if self.number > 0 {
            key.extend_from_slice(format!("-{:x}", self.number).as_bytes());
        }
        key.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_is_gos_and_the_next_ones_have_a_suffix() {
        let names = Names::default();
        let prefix = Bytes::from_static(b"locks/x/");
        let [first, second, third] = [0; 3].map(|_| names.take(prefix.clone()));
        assert_eq!(first.key(0x2a), "locks/x/2a");
        assert_eq!(second.key(0x2a), "locks/x/2a-1");
        names.free(&second);
        assert_eq!(names.take(prefix.clone()), second);
        assert_eq!(third.key(-1), "locks/x/ffffffffffffffff-2");
        let other = names.take("locks/y/".into());
        assert_eq!(other.key(0x2a), "locks/y/2a");
    }

    #[test]
    fn names_that_are_freed_leave_nothing_behind() {
        let names = Names::default();
        let all: Vec<Name> = (0..10)
            .map(|n| names.take(format!("{}/", n % 3).into()))
            .collect();
        all.iter().for_each(|name| names.free(name));
        assert!(names.0.lock().is_empty());
    }
}
