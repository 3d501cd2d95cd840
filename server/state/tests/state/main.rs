//! What the replicated state answers: scripts of records with the expected answers, and random programs against a model.

mod alarm;
mod auth;
mod auth_records;
mod check;
mod compaction;
mod determinism;
mod kv;
mod lease;
mod machine;
mod member;
mod model;
mod permissions;
mod programs;
mod range;
mod records;
mod requests;
mod txn;
