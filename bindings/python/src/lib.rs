//! The native half of the Python package `keystead`: converters between Python's values and the facade's, and the two ways to run a call. What
//! users see is written in Python, beside it.
//!
//! Only threads of Python come here. The facade's own threads never touch an object of Python, so nothing here waits for
//! the interpreter's lock, and nothing takes it while the interpreter ends.

mod answer;
mod args;
mod auth;
mod cache;
mod call;
mod client;
mod cluster;
mod election;
mod errors;
mod kv;
mod lease;
mod lock;
mod logged;
mod loops;
mod maintenance;
mod notices;
mod recipes;
mod records;
mod registry;
mod session;
mod stm;
mod txn;
mod update;
mod watch;

use pyo3::prelude::*;

/// The native half of `keystead`. Not for direct use.
#[pymodule(gil_used = false)]
mod _native {
    use super::*;

    #[pymodule_export]
    use super::cache::{Cache, CacheSubscription};
    #[pymodule_export]
    use super::call::Call;
    #[pymodule_export]
    use super::client::Client;
    #[pymodule_export]
    use super::election::{Election, LeaderObserver};
    #[pymodule_export]
    use super::lock::{Guard, Lock};
    #[pymodule_export]
    use super::loops::Loop;
    #[pymodule_export]
    use super::notices::{Diff, Disconnected, Event, Events, Progress, Reset, Resumed};
    #[pymodule_export]
    use super::recipes::{Barrier, Queue, RwLock, Semaphore};
    #[pymodule_export]
    use super::records::{DeleteResult, Header, KeyValue, PutResult, RangeResult, TxnResult};
    #[pymodule_export]
    use super::registry::{Registration, Resolver};
    #[pymodule_export]
    use super::session::Session;
    #[pymodule_export]
    use super::stm::{Stm, StmRun};
    #[pymodule_export]
    use super::txn::{Compare, Op};
    #[pymodule_export]
    use super::update::Update;
    #[pymodule_export]
    use super::watch::{Scanner, Watcher};

    /// Has the runtime use so many I/O threads; false when there is one already.
    #[pyfunction]
    fn set_threads(threads: super::args::Threads) -> bool {
        keystead_facade::runtime::set_threads(threads.0)
    }

    /// Has what the client logs kept for `next_record`.
    #[pyfunction]
    fn keep_records() {
        keystead_facade::records::keep();
    }

    /// Waits for what is to be logged next: how bad it is as `logging` has it, when it happened in seconds, where, what, and how many were lost
    /// before it. None when there is nothing more.
    #[pyfunction]
    fn next_record(py: Python<'_>) -> Option<super::logged::Logged> {
        py.detach(keystead_facade::records::next)
            .map(super::logged::logged)
    }

    /// Has nobody wait for records any more.
    #[pyfunction]
    fn end_records() {
        keystead_facade::records::end();
    }

    /// Ends the runtime: calls under way fail, leases are given back. Called once, before the interpreter goes.
    #[pyfunction]
    fn shut_down(py: Python<'_>) {
        py.detach(keystead_facade::runtime::shut_down);
    }

    /// A length of time in seconds, of whatever form people write it in.
    #[pyfunction]
    fn seconds(length: super::args::Length) -> f64 {
        length.0.as_secs_f64()
    }
}
