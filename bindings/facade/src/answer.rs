//! What calls come to: one enum, so that one queue and one converter of a language serve every verb.

use std::sync::Arc;
use std::time::Duration;

use keystead_client::{
    AddedMember, Alarms, AuthStatus, CacheNotice, DeleteResult, Endpoint, Granted, Hash, Header,
    KeyValue, LeaderEvent, Members, Notice, OnceResult, PutResult, RangeResult, Role, Roles,
    SavedSnapshot, Status, TimeToLive, TxnResult, User, Users, bytes::Bytes,
};

use crate::cache::Cache;
use crate::client::Client;
use crate::lock::Guard;
use crate::registry::{Registration, RegistrationState, Resolver};
use crate::session::{Loss, Session, SessionState};
use crate::stm::StmRun;
use crate::watch::Watcher;

/// The answer to a call. Which one a verb has is said there.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is the answer that its name says")]
#[non_exhaustive]
pub enum Answer {
    /// It was done, and there is nothing else to tell.
    Done,
    /// A question, answered.
    Is(bool),
    Client(Client),
    Header(Header),
    /// None when somebody else was faster.
    Updated(Option<Header>),
    KeyValue(Option<KeyValue>),
    /// None when the key is not there.
    Value(Option<Bytes>),
    /// Keys and their values.
    Pairs(Vec<(Bytes, Bytes)>),
    Range(RangeResult),
    Put(PutResult),
    Delete(DeleteResult),
    Txn(TxnResult),
    Once(OnceResult),
    /// A part of a scan; none after the last.
    Page(Option<Vec<KeyValue>>),
    Watcher(Watcher),
    /// None when the watch has ended.
    Notices(Option<Vec<Notice>>),
    StmRun(StmRun),
    Session(Session),
    SessionState(SessionState),
    Loss(Loss),
    Granted(Granted),
    TimeToLive(TimeToLive),
    Ttl(Duration),
    Leases(Vec<i64>),
    /// None when the lock was not free.
    Guard(Option<Guard>),
    Leader(LeaderEvent),
    Item(Bytes),
    Registration(Registration),
    RegistrationState(RegistrationState),
    Resolver(Resolver),
    Endpoints(Arc<[Endpoint]>),
    Cache(Cache),
    /// None when the subscription was cancelled.
    CacheNotices(Option<Vec<CacheNotice>>),
    Revision(i64),
    Names(Vec<String>),
    Status(Status),
    Hash(Hash),
    Alarms(Alarms),
    Snapshot(SavedSnapshot),
    Members(Members),
    AddedMember(AddedMember),
    AuthStatus(AuthStatus),
    User(User),
    Users(Users),
    Role(Role),
    Roles(Roles),
}
