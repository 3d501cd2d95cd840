//! The replicated state machine: keys, transactions, leases, alarms, members, users and roles.
//!
//! [`State`] applies the log's entries, one record after another; [`Reader`] is what services read. The same log gives
//! the same state and the same answers on every member: no clock, no random number, no I/O beside the store. What a
//! client's request can be refused for before it is proposed is in [`check`].

mod alarm;
mod apply;
mod auth;
pub mod check;
mod compaction;
mod compare;
mod cut;
mod delete_range;
mod fatal;
mod keys;
mod lease;
mod member;
pub mod nesting;
mod put;
pub mod quota;
pub mod range;
mod reader;
mod refusal;
mod request;
mod table;
pub mod txn;

pub use alarm::AlarmChange;
pub use apply::{Applied, Outcome, Reply, State};
pub use auth::{Auth, AuthChange, Caller};
pub use cut::CutFacts;
pub use fatal::{Fatal, OpenError};
pub use lease::{LeaseChange, LeaseFacts};
pub use quota::Limits;
pub use range::RangeAnswer;
pub use reader::Reader;
pub use refusal::Refusal;
pub use request::Requests;
pub use table::MalformedEntry;
