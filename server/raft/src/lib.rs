//! Consensus.

pub mod wal;
