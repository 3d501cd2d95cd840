//! What there is to print: one variant for each of etcdctl's answers. Made by the commands, written by the forms.

use std::time::Duration;

use keystead_client::{
    AddedMember, Alarm, AuthStatus, DeleteResult, Event, Granted, Hash, Header, Leases, Members,
    PutResult, RangeResult, Role, Roles, Status, TimeToLive, TxnResult, User, Users,
};

/// An answer, with what was asked where the printed words name it.
pub enum Answer<'a> {
    /// Of `put`.
    Put(&'a PutResult),
    /// Of `get`.
    Range(&'a RangeResult),
    /// Of `del`.
    Delete(&'a DeleteResult),
    /// Of `txn`.
    Txn(&'a TxnResult),
    /// Of `watch`.
    Watch(&'a Changes),
    /// Of `lease grant`.
    Granted(&'a Granted),
    /// Of `lease revoke`.
    Revoked {
        /// Which one.
        lease: i64,
        /// Who answered.
        header: &'a Header,
    },
    /// Of `lease keep-alive`.
    KeptAlive {
        /// Which one.
        lease: i64,
        /// How long it lives from then on.
        ttl: Duration,
        /// Who answered.
        header: &'a Header,
    },
    /// Of `lease timetolive`.
    TimeToLive {
        /// What is known of it.
        lease: &'a TimeToLive,
        /// The keys were asked for.
        keys: bool,
    },
    /// Of `lease list`.
    Leases(&'a Leases),
    /// Of `member list`.
    Members(&'a Members),
    /// Of `member add`.
    MemberAdded {
        /// The answer.
        added: &'a AddedMember,
        /// The name that it is to have.
        name: &'a str,
        /// Its peer URLs as they were given.
        peer_urls: &'a str,
    },
    /// Of `member remove`, `update` and `promote`.
    MemberChanged {
        /// Which one.
        id: u64,
        /// What was done to it, as etcdctl says it: `removed from`.
        done: &'static str,
        /// The answer.
        members: &'a Members,
    },
    /// Of `endpoint health`.
    Health(&'a [Health]),
    /// Of `endpoint status`.
    Statuses(&'a [(String, Status)]),
    /// Of `endpoint hashkv`.
    Hashes(&'a [(String, Hash)]),
    /// Of `move-leader`.
    LeaderMoved {
        /// Who led.
        from: u64,
        /// Who leads.
        to: u64,
        /// Who answered.
        header: &'a Header,
    },
    /// Of `auth status`.
    AuthStatus(&'a AuthStatus),
    /// Of `user get`.
    User {
        /// Who.
        name: &'a str,
        /// What is known of the user.
        user: &'a User,
    },
    /// Of `user list`.
    Users(&'a Users),
    /// Of `role get`.
    Role {
        /// Which one.
        name: &'a str,
        /// What is known of it.
        role: &'a Role,
    },
    /// Of `role list`.
    Roles(&'a Roles),
    /// Of what changes users and roles.
    Done {
        /// What was done, in etcdctl's words.
        said: &'a str,
        /// Who answered.
        header: &'a Header,
    },
    /// Of `alarm list` and `alarm disarm`.
    Alarms {
        /// Who answered; nobody in particular where several calls were made.
        header: Option<&'a Header>,
        /// The alarms.
        alarms: &'a [Alarm],
    },
}

/// What a watch tells at once.
#[derive(Debug, Default)]
pub struct Changes {
    /// The member that watches for us, and the revision that this leads to.
    pub header: Header,
    /// The changes; none where it tells only how far it is.
    pub events: Vec<Event>,
    /// The oldest revision that is still there, where the watch ended because what it began with is gone.
    pub compact_revision: i64,
    /// The watch ended.
    pub cancelled: bool,
}

/// How an endpoint is.
pub struct Health {
    /// The endpoint, as it was named.
    pub endpoint: String,
    /// How long it took to answer.
    pub took: Duration,
    /// What is wrong.
    pub error: Option<String>,
}
