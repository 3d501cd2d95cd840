//! The same steps on real etcd and on Keystead, with equal answers, codes and texts. One file a service, and `programs`
//! for what nobody thought of.

mod auth;
mod cluster;
mod compaction;
mod election;
mod go_client;
mod health;
mod lease;
mod limits;
mod lock;
mod maintenance;
mod programs;
mod put_delete;
mod range;
mod range_stream;
pub mod requests;
mod start;
mod tokens;
mod txn;
mod watch;
mod wire;
