//! Tests of the whole member, each against a server of its own. `conformance` runs every step on real etcd too and
//! compares what came back; `crash` kills the member under load; `bounds` holds memory and files to theirs;
//! `cluster` forms one and asks it as operators do; `chaos` puts clusters under faults and judges the histories of their clients;
//! `mishaps` has the faults that matter one by one; `corruption` members that store something else than the others;
//! `discovery` members that DNS names; `power` cuts the power, fails the disk and flips bits; `space` fills the disk; `client` runs
//! the Rust client on both servers. They need the binary: `cargo build -p keystead`.

mod bounds;
mod chaos;
mod client;
mod cluster;
mod conformance;
mod corruption;
mod crash;
mod discovery;
mod mishaps;
mod power;
mod space;
