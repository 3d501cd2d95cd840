//! Who is in the cluster: one file, for its five verbs answer the same thing.

pub(crate) mod members;
