//! The state as services see it: the store, and beside it leases, alarms, members, users and roles.
//!
//! Any thread may read; nothing here changes anything. What is read is what this member has applied.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use keystead_mvcc::Store;
use keystead_proto::etcdserverpb::{AlarmMember, AlarmType, Member, TxnRequest};
use parking_lot::RwLock;

use crate::alarm::{Alarms, Effect};
use crate::auth::{Gate, Live};
use crate::lease::Lessor;
use crate::member::Members;
use crate::{Auth, Caller, LeaseFacts, Limits, OpenError, Refusal};

/// A view of the replicated state. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    store: Store,
    shared: Arc<Shared>,
    quota: Option<u64>,
}

/// What the applier writes and readers read, beside the store.
pub(crate) struct Shared {
    pub lessor: Lessor,
    pub alarms: RwLock<Alarms>,
    pub members: RwLock<Members>,
    pub auth: Live,
}

impl Shared {
    pub(crate) fn load(store: &Store) -> Result<Self, OpenError> {
        Ok(Self {
            lessor: Lessor::load(store)?,
            alarms: RwLock::new(Alarms::load(store)?),
            members: RwLock::new(Members::load(store)?),
            auth: Live::load(store)?,
        })
    }

    /// Takes over all of `other`.
    pub(crate) fn replace(&self, other: Self) {
        self.lessor.replace(other.lessor);
        *self.alarms.write() = other.alarms.into_inner();
        *self.members.write() = other.members.into_inner();
        self.auth.replace(other.auth);
    }

    /// Makes a check of what `caller` may do; none for a member itself. Everything may be done while authentication is not
    /// enabled: one load tells.
    pub(crate) fn permit(
        &self,
        caller: Option<Caller<'_>>,
        check: impl FnOnce(&Gate<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if !self.auth.enabled() {
            return Ok(());
        }
        let Some(caller) = caller else {
            return Ok(());
        };
        check(&Gate {
            auth: &self.auth.now(),
            lessor: &self.lessor,
            caller,
            writable: Cell::new(0),
        })
    }
}

impl Reader {
    pub(crate) fn new(store: Store, shared: Arc<Shared>, limits: Limits) -> Self {
        Self {
            store,
            shared,
            quota: limits.quota(),
        }
    }

    /// The keys.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A lease; none when there is no such one.
    pub fn lease(&self, id: i64) -> Option<LeaseFacts> {
        self.shared.lessor.facts(id)
    }

    /// The keys attached to a lease, in order; none when there is no such lease.
    pub fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        self.shared.lessor.keys(id)
    }

    /// Every lease, by id.
    pub fn leases(&self) -> Vec<(i64, LeaseFacts)> {
        self.shared.lessor.all()
    }

    /// The alarms that are raised, by member.
    pub fn alarms(&self) -> Vec<AlarmMember> {
        self.shared.alarms.read().list(AlarmType::None as i32)
    }

    /// Whether the alarm NOSPACE is raised by any member, and nothing stronger: what takes space is refused.
    pub fn no_space(&self) -> bool {
        self.shared.alarms.read().admit(Effect::Grows) == Err(Refusal::NoSpace)
    }

    /// The members' records, by id.
    pub fn members(&self) -> Vec<Member> {
        self.shared.members.read().list()
    }

    /// Whether a member of this id was removed: it must not come back, for what it promised while it was one is forgotten.
    pub fn was_removed(&self, member_id: u64) -> bool {
        self.shared.members.read().was_removed(member_id)
    }

    /// The version that the cluster speaks; none before it was agreed.
    pub fn cluster_version(&self) -> Option<Arc<str>> {
        self.shared.members.read().cluster_version()
    }

    /// Whether authentication is enabled: one load.
    pub fn auth_enabled(&self) -> bool {
        self.shared.auth.enabled()
    }

    /// The present users and roles, for all that one call asks of them. Cheap, and never waits.
    pub fn auth(&self) -> Arc<Auth> {
        self.shared.auth.now()
    }

    /// Whether a caller may run a transaction: read what it compares and ranges over in both branches, write what it puts and
    /// deletes, nested ones included.
    ///
    /// # Errors
    /// Those of [`Auth::permit_read`].
    pub fn permit_txn(&self, caller: Caller<'_>, txn: &TxnRequest) -> Result<(), Refusal> {
        self.shared.permit(Some(caller), |gate| gate.txn(txn))
    }

    /// Whether a caller may renew or revoke a lease: write all of its keys, or have the role root. A lease without keys, or
    /// none of this id, is nobody's; see [`Auth::permit_user`] for who has not said who it is.
    ///
    /// # Errors
    /// Those of [`Auth::permit_write`].
    pub fn permit_lease_write(&self, caller: Caller<'_>, id: i64) -> Result<(), Refusal> {
        self.shared
            .permit(Some(caller), |gate| gate.lease_write(id))
    }

    /// Whether a caller may know a lease's keys: read all of them, or have the role root.
    ///
    /// # Errors
    /// Those of [`Auth::permit_read`].
    pub fn permit_lease_read(&self, caller: Caller<'_>, id: i64) -> Result<(), Refusal> {
        self.shared.permit(Some(caller), |gate| gate.lease_read(id))
    }

    /// How many bytes this member may store; none when there is no limit.
    pub fn quota(&self) -> Option<u64> {
        self.quota
    }

    /// Whether a request that costs `cost` (see [`crate::quota`]) does not fit into the quota: it is refused then, and
    /// the alarm NOSPACE proposed. A request that costs nothing always fits.
    pub fn over_quota(&self, cost: u64) -> bool {
        let fits = |quota: u64| self.store.sizes().logical_bytes.saturating_add(cost) < quota;
        cost > 0 && !self.quota.is_none_or(fits)
    }
}
