//! What is built from locks and keys alone, in the layouts of Go's recipes, so that both work on the same keys. One file each.

pub(crate) mod barrier;
pub(crate) mod queue;
pub(crate) mod rwlock;
pub(crate) mod semaphore;
