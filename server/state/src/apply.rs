//! The applier: the only door to the replicated state.
//!
//! Entries of the log come in order, each with any number of records. A record is one request: it has one outcome, and
//! one that is refused touches nothing. What an entry changes becomes visible to readers, and durable, as a whole.
//! Nothing here may look at a clock, at a random number, at the order of a hash map or at how much this member stores.

use std::sync::Arc;

use bytes::Bytes;
use keystead_mvcc::{Sealed, Store, Writer};
use keystead_proto::etcdserverpb::{
    AlarmResponse, AuthenticateResponse, CompactionResponse, DeleteRangeResponse,
    LeaseGrantResponse, LeaseRevokeResponse, PutResponse, ResponseHeader, TxnResponse,
};

use crate::alarm::{AlarmChange, Effect};
use crate::fatal::{Fatal, OpenError, Stop};
use crate::keys::Counts;
use crate::reader::{Reader, Shared};
use crate::request::{Asked, Request};
use crate::{
    AuthChange, LeaseChange, Limits, Refusal, Requests, alarm, auth, compaction, delete_range,
    lease, put, quota, txn,
};

/// The replicated state, as its one writer sees it.
pub struct State {
    writer: Writer,
    shared: Arc<Shared>,
}

/// What one entry did.
#[derive(Clone, Debug)]
pub struct Applied {
    /// One for each record, in order.
    pub outcomes: Vec<Outcome>,
    /// The keys that changed.
    pub sealed: Sealed,
    /// The leases that began, ended and had a checkpoint, in order.
    pub lease_changes: Vec<LeaseChange>,
    /// The alarms that were raised and disarmed, in order.
    pub alarm_changes: Vec<AlarmChange>,
    /// What whoever keeps tokens must know, in order.
    pub auth_changes: Vec<AuthChange>,
    /// The newest revision that the entry compacted.
    pub compacted: Option<i64>,
}

/// What became of one record.
pub type Outcome = Result<Reply, Refusal>;

/// The answer to one record. A header carries the revision alone; the server adds ids and term.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A key was written.
    Put(PutResponse),
    /// A range was deleted.
    DeleteRange(DeleteRangeResponse),
    /// A transaction ran.
    Txn(TxnResponse),
    /// History was given up.
    Compaction(CompactionResponse),
    /// A lease began.
    LeaseGrant(LeaseGrantResponse),
    /// A lease ended.
    LeaseRevoke(LeaseRevokeResponse),
    /// Alarms were listed, raised or disarmed.
    Alarm(AlarmResponse),
    /// A user logged in; without simple tokens, the token is the server's to make.
    Authenticate(AuthenticateResponse),
    /// A record that answers nothing of its own: of members, users and roles.
    Done {
        /// The store's revision after it.
        revision: i64,
    },
}

/// What an entry did beside its keys.
#[derive(Default)]
struct Changes {
    leases: Vec<LeaseChange>,
    alarms: Vec<AlarmChange>,
    auth: Vec<AuthChange>,
    compacted: Option<i64>,
}

impl State {
    /// Rebuilds the state from a store, and makes the view of it that services read.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed.
    pub fn open(store: Store, writer: Writer, limits: Limits) -> Result<(Self, Reader), OpenError> {
        let shared = Arc::new(Shared::load(&store)?);
        let reader = Reader::new(store, shared.clone(), limits);
        Ok((Self { writer, shared }, reader))
    }

    /// Goes on from what `store` holds now, after another store was installed in its place. Readers follow.
    ///
    /// # Errors
    /// [`OpenError`]: the member must stop.
    pub fn reload(&mut self, store: &Store) -> Result<(), OpenError> {
        self.shared.replace(Shared::load(store)?);
        self.writer.reload();
        Ok(())
    }

    /// About how many keys an entry would go through, beside one for each operation: what decides how long it takes.
    pub fn keys_of(&self, requests: &Requests) -> u64 {
        let counts = Counts {
            writer: &self.writer,
            lessor: &self.shared.lessor,
            guarded: self.shared.auth.enabled(),
        };
        counts.keys(requests)
    }

    /// Applies the entry at `position` of the log. `applied` is kept with it and comes back when the store is opened
    /// after this entry was the last one flushed. Nothing of the entry can be read, nor is it flushed, before all of it
    /// is applied; locks that readers take are held for a few hundred keys at a time.
    ///
    /// # Errors
    /// [`Fatal`]: the member must stop without applying anything more.
    pub fn apply(
        &mut self,
        position: u64,
        applied: Bytes,
        requests: Requests,
    ) -> Result<Applied, Fatal> {
        let mut changes = Changes::default();
        let mut outcomes = Vec::with_capacity(requests.0.len());
        for asked in requests.0 {
            outcomes.push(self.outcome(asked, position, &mut changes)?);
        }
        let sealed = self.writer.seal(position, applied);
        let Changes {
            leases: lease_changes,
            alarms: alarm_changes,
            auth: auth_changes,
            compacted,
        } = changes;
        Ok(Applied {
            outcomes,
            sealed,
            lease_changes,
            alarm_changes,
            auth_changes,
            compacted,
        })
    }

    fn outcome(
        &mut self,
        asked: Asked,
        position: u64,
        changes: &mut Changes,
    ) -> Result<Outcome, Fatal> {
        match self.reply(asked, position, changes) {
            Ok(reply) => Ok(Ok(reply)),
            Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
            Err(Stop::Fatal(fatal)) => Err(fatal),
        }
    }

    /// As in etcd, alarms refuse first, then users and roles.
    fn reply(&mut self, asked: Asked, position: u64, changes: &mut Changes) -> Result<Reply, Stop> {
        let Self { writer, shared } = self;
        let lessor = &shared.lessor;
        let caller = asked.by.client();
        Ok(match asked.request {
            Request::Put(request) => {
                shared.alarms.read().admit(Effect::Grows)?;
                shared.permit(caller, |gate| gate.put(&request))?;
                Reply::Put(put::put(&mut writer.begin(), lessor, &request)?)
            }
            Request::Txn(request) => {
                let effect = if quota::txn_cost(&request) > 0 {
                    Effect::Grows
                } else {
                    Effect::Changes
                };
                shared.alarms.read().admit(effect)?;
                shared.permit(caller, |gate| gate.txn(&request))?;
                Reply::Txn(txn::txn(&mut writer.begin(), lessor, &request)?)
            }
            Request::DeleteRange(request) => {
                shared.alarms.read().admit(Effect::Changes)?;
                shared.permit(caller, |gate| gate.delete_range(&request))?;
                Reply::DeleteRange(delete_range::delete_range(
                    &mut writer.begin(),
                    lessor,
                    &request,
                )?)
            }
            Request::Compaction(request) => {
                shared.alarms.read().admit(Effect::Changes)?;
                let response = compaction::compact(writer, &request)?;
                changes.compacted = Some(request.revision);
                Reply::Compaction(response)
            }
            Request::LeaseGrant(request) => {
                shared.alarms.read().admit(Effect::Grows)?;
                let response = lease::grant(writer, lessor, &request)?;
                changes.leases.push(LeaseChange::Granted {
                    id: response.id,
                    ttl_secs: response.ttl,
                });
                Reply::LeaseGrant(response)
            }
            Request::LeaseRevoke(request) => {
                shared.alarms.read().admit(Effect::Changes)?;
                shared.permit(caller, |gate| gate.lease_write(request.id))?;
                let response = lease::revoke(writer, lessor, &request)?;
                changes.leases.push(LeaseChange::Revoked { id: request.id });
                Reply::LeaseRevoke(response)
            }
            // Under every alarm: it is the leader's own, and little.
            Request::LeaseCheckpoint(request) => {
                lease::checkpoint(writer, lessor, &request, &mut changes.leases);
                Reply::Done {
                    revision: writer.begin().commit(),
                }
            }
            Request::Alarm(request) => {
                let mut alarms = shared.alarms.write();
                Reply::Alarm(alarm::alarm(
                    writer,
                    &mut alarms,
                    &request,
                    &mut changes.alarms,
                ))
            }
            Request::Membership(members) => {
                shared.members.write().replace(writer, members);
                Reply::Done {
                    revision: writer.begin().commit(),
                }
            }
            Request::MemberAttributes(published) => {
                shared.members.write().publish(writer, published);
                Reply::Done {
                    revision: writer.begin().commit(),
                }
            }
            Request::ClusterVersion(version) => {
                shared.members.write().set_cluster_version(writer, version);
                Reply::Done {
                    revision: writer.begin().commit(),
                }
            }
            Request::LogIn(login) => {
                auth::log_in(writer, &shared.auth, login, position, &mut changes.auth)?
            }
            Request::Auth(request) => {
                shared.permit(caller, |gate| gate.admin())?;
                auth::manage(writer, &shared.auth, request, &mut changes.auth)?
            }
        })
    }
}

/// The header of an answer as the state knows it.
pub(crate) fn header(revision: i64) -> ResponseHeader {
    ResponseHeader {
        revision,
        ..Default::default()
    }
}
