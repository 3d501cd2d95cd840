//! Revisions and what the index knows of a key's newest version.
//!
//! Every part of the store names versions by [`Revision`]; [`Meta`] is what a transaction may
//! compare without reading a value. Both are plain values: nothing here reads or writes the store.

use std::fmt;

/// The place of one change in the store's history: etcd's `main_sub`.
///
/// All changes of one transaction share `main`; `sub` numbers them from 0. Ordered by `main`, then `sub`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The store's revision after the transaction that made the change.
    pub main: i64,
    /// The number of the change within its transaction; below 2^31.
    pub sub: u32,
}

impl Revision {
    /// The change `sub` of the transaction that made revision `main`.
    pub const fn new(main: i64, sub: u32) -> Self {
        Self { main, sub }
    }

    /// Where the change after this one may be, at the earliest.
    pub(crate) const fn next(self) -> Self {
        Self {
            main: self.main,
            sub: self.sub + 1,
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

/// One version of a key: where it was written, and whether that write deleted the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Where the version was written.
    pub revision: Revision,
    /// The write was a deletion: the key does not exist from here on, until it is put again.
    pub tombstone: bool,
}

/// The facts of a live key's version that the index holds without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Meta {
    /// The revision at which the key was created in its present generation.
    pub create_revision: i64,
    /// Where the version was written.
    pub mod_revision: Revision,
    /// 1 for the put that created the key, one more for each put since.
    pub version: i64,
    /// The lease the key is attached to; 0 for none.
    pub lease: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_order_by_main_then_sub() {
        assert!(Revision::new(2, 9) < Revision::new(3, 0));
        assert!(Revision::new(3, 0) < Revision::new(3, 1));
        assert_eq!(Revision::new(3, 1).to_string(), "3.1");
    }
}
