//! Keys and values: one file a verb. Each turns plain structs into etcd's messages, through the namespace, and back.

pub(crate) mod compact;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod put;
pub(crate) mod range;
pub(crate) mod scan;
pub(crate) mod swap;
pub(crate) mod update;
