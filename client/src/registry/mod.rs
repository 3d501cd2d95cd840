//! A registry: who serves what, and where. Keys and values are those of Go's `naming/endpoints`, so that its gRPC resolver finds what is
//! registered here, and the other way around. `endpoint` has the layout, `registration` keeps a key there, `resolver` reads them.

pub(crate) mod endpoint;
pub(crate) mod registration;
pub(crate) mod resolver;
