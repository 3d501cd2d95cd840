//! The store, driven through its public face beside a model of it.

mod bench;
mod compaction;
mod durability;
mod kill;
mod model;
mod power;
mod programs;
mod space;
mod threads;
