//! What the bindings of all languages share. A language converts its values to the plain structs that are used here, asks a [`Client`] or a handle for a
//! [`Call`], has it run, and converts the [`Answer`]; that is all it does.
//!
//! ```text
//!   a thread of the language                     the I/O thread
//!   client.put(..) ─► Call ─┬─ wait ────► inbox ─► resident task ─► client
//!                           └─ submit ──►                │
//!   waiter, or Completions: one wake for many ◄── Answer ┘
//! ```
//!
//! A request that is alone goes nowhere: the thread that waits polls it itself (`alone.rs`), and so does an event loop's (`lone.rs`).
//!
//! [`runtime`] has the one runtime of the process, [`fork`] sees to it that a child of the process never touches it, [`records`] has what
//! is to be logged. Everything else is
//! a file a noun, in which each verb makes a call. No interpreter, no callback and no lock of a language is ever touched from here.

mod alone;
mod answer;
mod auth;
mod cache;
mod call;
mod client;
mod cluster;
mod completions;
mod election;
mod error;
pub mod fork;
mod kv;
mod lease;
mod lock;
mod lone;
mod maintenance;
mod recipes;
pub mod records;
mod registry;
pub mod runtime;
mod session;
mod stm;
mod txn;
mod update;
mod watch;

pub use answer::Answer;
pub use cache::{Cache, CacheSubscription};
pub use call::{Call, Op};
pub use client::Client;
pub use completions::{Completion, Completions};
pub use election::{Election, LeaderObserver};
pub use error::{Error, ErrorKind, Result};
pub use keystead_client::bytes::Bytes;
pub use keystead_client::{
    Access, Alarm, AlarmKind, Alarms, AuthStatus, CacheNotice, CacheOptions, CacheView,
    CallOptions, Change, Compact, Compare, ConnectOptions, Credentials, Delete, DeleteResult,
    Downgrade, Endpoint, Event, EventKind, Expected, Hash, Header, Identity, Isolation, KeyRange,
    KeyValue, Lag, LeaderEvent, Member, Members, Notice, OnGap, OnceResult, Op as TxnOp, OpResult,
    Operand, Order, Outcome, Permission, Pick, Put, PutResult, Range, RangeResult, Register,
    Relation, ResetCause, SavedSnapshot, Scan, Sort, SortBy, Status, TimeToLive, Tls, Txn,
    TxnResult, Watch,
};
pub use keystead_client::{Granted, locks, serde_json};
pub use lock::{Guard, Lock};
pub use recipes::{Barrier, Queue, RwLock, Semaphore};
pub use registry::{Registration, RegistrationState, Resolver};
pub use session::{Loss, Session, SessionState};
pub use stm::{Stm, StmRun};
pub use update::Update;
pub use watch::{Scanner, Watcher};
