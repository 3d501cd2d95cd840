//! The Rust client of Keystead, and of every etcd from 3.4 on.
//!
//! A [`Client`] holds one connection to one of the endpoints, finds another when that one fails, and can be cloned and shared
//! at will. Its verbs take plain structs and give plain structs.
//!
//! ```
//! # #[tokio::main] async fn main() -> keystead_client::Result<()> {
//! # if std::env::var_os("ETCDCTL_ENDPOINTS").is_none() { return Ok(()); }
//! use keystead_client::*;
//!
//! let client = Client::connect(ConnectOptions::from_env()).await?; // or ::new(["https://10.0.0.1:2379", ...])
//! // Everything below happens within this prefix, and no other key is seen.
//! let client = client.namespace("tour/");
//! client.put("greeting", "hello").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Keys and values
//!
//! ```
//! # use keystead_client::*;
//! # #[tokio::main] async fn main() -> Result<()> {
//! # // Where there is a member it runs; examples/run sees to that.
//! # if std::env::var_os("ETCDCTL_ENDPOINTS").is_none() { return Ok(()); }
//! # let client = Client::connect(ConnectOptions::from_env()).await?.namespace("tour/keys/");
//! # client.delete_with(Delete::new(KeyRange::all())).await?;
//! client.put("greeting", "hello").await?;
//! let greeting = client.get("greeting").await?.expect("it was just written");
//! let page = client.range(Range { limit: 10, ..Range::new(KeyRange::prefix("gree")) }).await?;
//! assert_eq!(page.kvs, [greeting.clone()]);
//!
//! // Any number of keys, a page at a time, all at one revision.
//! let mut all = client.scan(Scan::new(KeyRange::all()));
//! while let Some(kv) = all.next().await? {
//!     println!("{:?} = {:?}", kv.key, kv.value);
//! }
//!
//! // Only if nobody else was faster.
//! let swapped = client.compare_and_swap(Swap {
//!     key: "greeting".into(),
//!     expected: Expected::ModRevision(greeting.mod_revision),
//!     change: Change::Put("good morning".into()),
//! }).await?;
//! assert!(swapped.succeeded);
//!
//! // As often as it takes.
//! client.update("visits", |now| Change::Put(match now {
//!     None => "1".into(),
//!     Some(kv) => format!("{}1", String::from_utf8_lossy(&kv.value)).into(),
//! })).await?;
//!
//! // All or nothing.
//! let moved = client.txn(
//!     Txn::when([Compare::present("greeting"), Compare::missing("farewell")])
//!         .then([Op::Delete(Delete::new(KeyRange::key("greeting"))), Op::Put(Put::new("farewell", "bye"))])
//!         .otherwise([Op::Range(Range::new(KeyRange::key("farewell")))]),
//! ).await?;
//! assert!(moved.succeeded);
//! # Ok(())
//! # }
//! ```
//!
//! # Watches
//!
//! ```
//! # use keystead_client::*;
//! # #[tokio::main] async fn main() -> Result<()> {
//! # // Where there is a member it runs; examples/run sees to that.
//! # if std::env::var_os("ETCDCTL_ENDPOINTS").is_none() { return Ok(()); }
//! # let client = Client::connect(ConnectOptions::from_env()).await?.namespace("tour/watch/");
//! # client.delete_with(Delete::new(KeyRange::all())).await?;
//! // Every change from now on, through everything that passes by itself.
//! let watcher = client.watch(Watch::new(KeyRange::prefix("gree"))).await?;
//! client.put("greeting", "good night").await?;
//! let notice = watcher.next().await?.expect("nobody has cancelled it");
//! assert!(matches!(notice, Notice::Events { .. }));
//! # Ok(())
//! # }
//! ```
//!
//! # Sessions
//!
//! A session is a lease that is kept alive; what is attached to it goes when this process does.
//!
//! ```
//! # use keystead_client::*;
//! # #[tokio::main] async fn main() -> Result<()> {
//! # // Where there is a member it runs; examples/run sees to that.
//! # if std::env::var_os("ETCDCTL_ENDPOINTS").is_none() { return Ok(()); }
//! # let client = Client::connect(ConnectOptions::from_env()).await?.namespace("tour/sessions/");
//! # client.delete_with(Delete::new(KeyRange::all())).await?;
//! use std::time::Duration;
//!
//! let session = client.session(Duration::from_secs(10)).await?;
//! session.put_ephemeral("workers/7", "here").await?;
//! assert_eq!(session.state(), SessionState::Active);
//! // `session.lost().await` tells the loss, and why, before the server ends the lease.
//! session.close().await?;
//! assert_eq!(client.get("workers/7").await?, None);
//! # Ok(())
//! # }
//! ```
//!
//! # Locks
//!
//! Whoever waits is served in turn, beside those who use Go's `concurrency.Mutex`. What the guard writes it writes as the holder or not at all.
//!
//! ```
//! # use keystead_client::*;
//! # #[tokio::main] async fn main() -> Result<()> {
//! # // Where there is a member it runs; examples/run sees to that.
//! # if std::env::var_os("ETCDCTL_ENDPOINTS").is_none() { return Ok(()); }
//! # let client = Client::connect(ConnectOptions::from_env()).await?.namespace("tour/locks/");
//! # client.delete_with(Delete::new(KeyRange::all())).await?;
//! let lock = client.lock("locks/report");
//! let guard = lock.lock().await?;
//! guard.put("report", "written by the one who may").await?;
//! println!("for what is written elsewhere: {}", guard.fencing_token());
//! guard.unlock().await?;
//!
//! // Beside it: read and write locks, semaphores, barriers and queues.
//! let reader = client.rwlock("locks/config").read().await?;
//! assert!(client.rwlock("locks/config").try_write().await?.is_none());
//! reader.unlock().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Elections
//!
//! ```
//! # use keystead_client::*;
//! # #[tokio::main] async fn main() -> Result<()> {
//! # // Where there is a member it runs; examples/run sees to that.
//! # if std::env::var_os("ETCDCTL_ENDPOINTS").is_none() { return Ok(()); }
//! # let client = Client::connect(ConnectOptions::from_env()).await?.namespace("tour/elections/");
//! # client.delete_with(Delete::new(KeyRange::all())).await?;
//! let election = client.election("elections/scheduler");
//! let mut observer = election.observe();
//! assert_eq!(observer.next().await?, LeaderEvent::NoLeader);
//!
//! let leadership = election.campaign("10.0.0.1:8080").await?;
//! leadership.put("plan", "made by the one who leads").await?;
//! assert!(matches!(observer.next().await?, LeaderEvent::Leader(kv) if kv.value == "10.0.0.1:8080"));
//! leadership.resign().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # A registry of services
//!
//! Registered here, it is found by Go's gRPC resolver too, and the other way around. A registration comes back when its session was lost.
//!
//! ```
//! # use keystead_client::*;
//! # #[tokio::main] async fn main() -> Result<()> {
//! # // Where there is a member it runs; examples/run sees to that.
//! # if std::env::var_os("ETCDCTL_ENDPOINTS").is_none() { return Ok(()); }
//! # let client = Client::connect(ConnectOptions::from_env()).await?.namespace("tour/registry/");
//! # client.delete_with(Delete::new(KeyRange::all())).await?;
//! let registration = client.register("services/api", Endpoint::new("10.0.0.1:80")).await?;
//! let api = client.resolve("services/api").await?;
//! let next = api.pick(Pick::RoundRobin)?.expect("one is registered");
//! assert_eq!(next.address, "10.0.0.1:80");
//! registration.withdraw().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Caches
//!
//! Keys in memory, in step with the store. A read asks nobody; after a sync it misses nothing.
//!
//! ```
//! # use keystead_client::*;
//! # #[tokio::main] async fn main() -> Result<()> {
//! # // Where there is a member it runs; examples/run sees to that.
//! # if std::env::var_os("ETCDCTL_ENDPOINTS").is_none() { return Ok(()); }
//! # let client = Client::connect(ConnectOptions::from_env()).await?.namespace("tour/caches/");
//! # client.delete_with(Delete::new(KeyRange::all())).await?;
//! let config = client.cache(KeyRange::prefix("config/")).await?;
//! client.put("config/color", "red").await?;
//! config.sync().await?;
//! let color = config.get("config/color")?.expect("it was written before the sync");
//! assert_eq!(color.value, "red");
//! # Ok(())
//! # }
//! ```
//!
//! # When a call fails
//!
//! An [`Error`] says what kind it is, the server's own text, and, which is what matters after a write, its [`Outcome`]: `NotApplied`
//! or `Unknown`. The client itself sends again only what surely did not run, until the deadline; so what comes back as `Unknown` was
//! sent once.
//!
//! A transaction that has to run exactly once, whatever breaks, is run by [`Client::once`]: it is sent again, and cannot be done twice.
//!
//! # When a watch is cut off
//!
//! A [`Watcher`] says so ([`Notice::Disconnected`]), connects again and goes on after the last change that it handed out. When the history
//! in between was compacted, or the cluster was restored from a snapshot, it tells the state instead ([`Notice::Reset`]), or what
//! differs ([`Notice::Diff`]). It is never silently behind: [`Watcher::lag`] says how old its knowledge is.
//!
//! # What is seen from outside
//!
//! [`Telemetry`] is told of every call and attempt, every connection, and of watches and sessions that change: for metrics. For logs there is
//! the crate `tracing`: each call runs in a span `call` at level debug with the field `rpc`, as `/etcdserverpb.KV/Put`; what happens to
//! connections, streams and sessions are events with the field `endpoint` or `error`, at level debug, at info when an endpoint is
//! ejected, and at warn when a connection is given up, a cluster was restored, or TLS files cannot be used.
//!
//! # What it costs to hold
//!
//! Keys and values are [`bytes::Bytes`] that share the memory of the answer they came in: a value kept for long is better copied.

mod auth;
mod backoff;
mod bell;
mod cache;
mod channel;
mod client;
mod cluster;
mod election;
mod error;
mod header;
mod key_range;
mod kv;
mod lease;
mod lock;
pub mod locks;
mod maintenance;
mod namespace;
mod options;
mod recipes;
mod registry;
mod session;
mod telemetry;
mod txn;
mod verdict;
mod watch;

pub use auth::roles::{Access, Permission, Role, Roles};
pub use auth::status::AuthStatus;
pub use auth::users::{User, Users};
pub use bell::Bell;
pub use bytes;
pub use cache::subscription::{CacheNotice, Subscription};
pub use cache::{Cache, CacheOptions, CacheView};
pub use channel::borrower::{Borrower, WakeBell};
pub use channel::descriptors::forget_descriptors;
pub use channel::lookout::Lookout;
pub use channel::srv::look_up_endpoints;
pub use client::Client;
pub use cluster::members::{AddedMember, Member, Members};
pub use election::observe::{LeaderEvent, Observer};
pub use election::{Election, Leadership};
pub use error::{Code, Error, Kind, Outcome, Result};
pub use header::Header;
pub use key_range::KeyRange;
pub use keystead_proto::mvccpb::KeyValue;
pub use kv::compact::Compact;
pub use kv::delete::{Delete, DeleteResult};
pub use kv::put::{Put, PutResult};
pub use kv::range::{Order, Range, RangeResult, Sort, SortBy};
pub use kv::scan::{Scan, Scanner};
pub use kv::swap::{Change, Expected, Swap, Swapped};
pub use kv::update::Updater;
pub use lease::grant::{Grant, Granted};
pub use lease::keep_alive::KeptAlive;
pub use lease::list::Leases;
pub use lease::time_to_live::TimeToLive;
pub use lock::guard::Guard;
pub use lock::{Lock, LockGuard};
pub use maintenance::alarms::{Alarm, AlarmKind, Alarms};
pub use maintenance::hash::Hash;
pub use maintenance::snapshot::{SavedSnapshot, Snapshot, SnapshotProgress};
pub use maintenance::status::{Downgrade, Status};
pub use options::{CallOptions, ConnectOptions, Credentials, Identity, Tls};
pub use recipes::barrier::Barrier;
pub use recipes::queue::Queue;
pub use recipes::rwlock::RwLock;
pub use recipes::semaphore::Semaphore;
pub use registry::endpoint::Endpoint;
pub use registry::registration::{Register, Registration, RegistrationState};
pub use registry::resolver::{Pick, Resolver};
pub use serde_json;
pub use session::Session;
pub use session::tenure::{Loss, SessionState};
pub use telemetry::{
    Attempt, Call, ConnectionChange, ConnectionEvent, Failed, SessionChange, Telemetry,
    TelemetrySink, WatchChange, WatchEvent,
};
pub use txn::compare::{Compare, Operand, Relation};
pub use txn::once::{Once, OnceResult};
pub use txn::stm::{Isolation, Stm, StmRuns};
pub use txn::{Op, OpResult, Txn, TxnResult};
pub use watch::notice::{Event, EventKind, Lag, Notice, ResetCause};
pub use watch::watcher::Watcher;
pub use watch::{OnGap, Watch};
