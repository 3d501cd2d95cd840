//! Answers become Python's values. What is rare crosses as a tuple, of which the Python half makes a named one.

use keystead_facade as facade;
use keystead_facade::{Answer, LeaderEvent};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::cache::{Cache, cache_notices};
use crate::client::Client;
use crate::lock::Guard;
use crate::notices::notices;
use crate::records::{
    DeleteResult, Header, KeyValue, PutResult, RangeResult, TxnResult, byte_pairs, byte_strings,
    kvs,
};
use crate::registry::{Registration, Resolver, endpoints, registration_state};
use crate::session::{Session, loss, state};
use crate::stm::StmRun;
use crate::watch::Watcher;
use crate::{auth, cluster, maintenance};

/// What the caller gets.
pub(crate) fn to_python(py: Python<'_>, answer: Answer) -> PyResult<Py<PyAny>> {
    match answer {
        Answer::Done => Ok(py.None()),
        Answer::Is(answer) => answer.into_py_any(py),
        Answer::Client(client) => Client::from(client).into_py_any(py),
        Answer::Header(header) => Header::from(header).into_py_any(py),
        Answer::Updated(header) => header.map(Header::from).into_py_any(py),
        Answer::KeyValue(kv) => kv.map(KeyValue::from).into_py_any(py),
        Answer::Value(value) => {
            let value = value.map(|value| PyBytes::new(py, &value));
            value.into_py_any(py)
        }
        Answer::Pairs(pairs) => byte_pairs(py, &pairs)?.into_py_any(py),
        Answer::Range(range) => RangeResult::new(py, range)?.into_py_any(py),
        Answer::Put(put) => PutResult::new(py, put)?.into_py_any(py),
        Answer::Delete(delete) => DeleteResult::new(py, delete)?.into_py_any(py),
        Answer::Txn(txn) => TxnResult::new(py, txn)?.into_py_any(py),
        Answer::Once(once) => TxnResult::once(py, once)?.into_py_any(py),
        Answer::Page(page) => page.map(|page| kvs(py, page)).transpose()?.into_py_any(py),
        Answer::Watcher(watcher) => Watcher::from(watcher).into_py_any(py),
        Answer::Notices(told) => told
            .map(|told| notices(py, told))
            .transpose()?
            .into_py_any(py),
        Answer::StmRun(run) => StmRun::from(run).into_py_any(py),
        Answer::Session(session) => Session::from(session).into_py_any(py),
        Answer::SessionState(now) => state(now).into_py_any(py),
        Answer::Loss(why) => loss(why).into_py_any(py),
        Answer::Granted(granted) => (granted.lease, granted.ttl.as_secs_f64()).into_py_any(py),
        Answer::TimeToLive(ttl) => time_to_live(py, &ttl),
        Answer::Ttl(ttl) => ttl.as_secs_f64().into_py_any(py),
        Answer::Leases(leases) => leases.into_py_any(py),
        Answer::Guard(guard) => guard.map(Guard::from).into_py_any(py),
        Answer::Leader(event) => leader(py, event),
        Answer::Item(item) => PyBytes::new(py, &item).into_py_any(py),
        Answer::Registration(registration) => Registration::from(registration).into_py_any(py),
        Answer::RegistrationState(state) => registration_state(state).into_py_any(py),
        Answer::Resolver(resolver) => Resolver::from(resolver).into_py_any(py),
        Answer::Endpoints(found) => endpoints(py, &found)?.into_py_any(py),
        Answer::Cache(cache) => Cache::from(cache).into_py_any(py),
        Answer::CacheNotices(told) => told
            .map(|told| cache_notices(py, told))
            .transpose()?
            .into_py_any(py),
        Answer::Revision(revision) => revision.into_py_any(py),
        Answer::Names(names) => names.into_py_any(py),
        Answer::Status(status) => maintenance::status(py, status),
        Answer::Hash(hash) => maintenance::hash(py, hash),
        Answer::Alarms(alarms) => maintenance::alarms(py, alarms),
        Answer::Snapshot(saved) => maintenance::snapshot(py, saved),
        Answer::Members(members) => cluster::members(py, members.members),
        Answer::AddedMember(added) => cluster::member(py, added.member),
        Answer::AuthStatus(status) => (status.enabled, status.auth_revision).into_py_any(py),
        Answer::User(user) => user.roles.into_py_any(py),
        Answer::Users(users) => users.users.into_py_any(py),
        Answer::Role(role) => auth::permissions(py, role.permissions),
        Answer::Roles(roles) => roles.roles.into_py_any(py),
        // What a later facade answers is asked for by none of the verbs here.
        _ => Ok(py.None()),
    }
}

fn time_to_live(py: Python<'_>, ttl: &facade::TimeToLive) -> PyResult<Py<PyAny>> {
    let remaining = ttl.remaining.map(|remaining| remaining.as_secs_f64());
    let keys = byte_strings(py, &ttl.keys)?;
    (ttl.lease, remaining, ttl.granted.as_secs_f64(), keys).into_py_any(py)
}

fn leader(py: Python<'_>, event: LeaderEvent) -> PyResult<Py<PyAny>> {
    match event {
        LeaderEvent::Leader(kv) => ("leader", Some(KeyValue::from(kv))).into_py_any(py),
        LeaderEvent::NoLeader => ("no_leader", py.None()).into_py_any(py),
        LeaderEvent::Disconnected => ("disconnected", py.None()).into_py_any(py),
    }
}

/// A list of tuples.
pub(crate) fn list(py: Python<'_>, each: Vec<Py<PyAny>>) -> PyResult<Py<PyAny>> {
    Ok(PyList::new(py, each)?.into_any().unbind())
}
