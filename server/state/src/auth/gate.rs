//! What one caller's request needs, held against what the caller may do: the checks of etcd's, in its order.
//!
//! The applier asks here before it touches anything, on every member with the same outcome; services ask for what they
//! read. Nobody asks while authentication is not enabled.

use std::cell::Cell;

use bytes::Bytes;
use keystead_proto::etcdserverpb::request_op::Request;
use keystead_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use keystead_seeded::{Bug, planted};

use super::view::{Auth, Caller};
use crate::Refusal;
use crate::lease::Lessor;

/// The users and roles, the leases, and who asks.
pub(crate) struct Gate<'a> {
    pub(crate) auth: &'a Auth,
    pub(crate) lessor: &'a Lessor,
    pub(crate) caller: Caller<'a>,
    /// A lease all of whose keys the caller was found to be able to write: it may have many, and be named by each put of a
    /// transaction.
    pub(crate) writable: Cell<i64>,
}

impl Gate<'_> {
    /// Who attaches a key to a lease must be able to write all of its keys: else it could not revoke it.
    pub(crate) fn put(&self, put: &PutRequest) -> Result<(), Refusal> {
        self.write(&put.key, b"")?;
        self.lease_write(put.lease)?;
        self.read_prev(put.prev_kv, &put.key, b"")
    }

    pub(crate) fn delete_range(&self, delete: &DeleteRangeRequest) -> Result<(), Refusal> {
        self.write(&delete.key, &delete.range_end)?;
        self.read_prev(delete.prev_kv, &delete.key, &delete.range_end)
    }

    /// Both branches count, whichever will be taken.
    pub(crate) fn txn(&self, txn: &TxnRequest) -> Result<(), Refusal> {
        for compare in &txn.compare {
            self.read(&compare.key, &compare.range_end)?;
        }
        txn.success
            .iter()
            .chain(&txn.failure)
            .try_for_each(|op| self.op(op))
    }

    fn op(&self, op: &RequestOp) -> Result<(), Refusal> {
        match &op.request {
            Some(Request::RequestRange(range)) => self.read(&range.key, &range.range_end),
            Some(Request::RequestPut(put)) => self.put(put),
            Some(Request::RequestDeleteRange(delete)) => self.delete_range(delete),
            Some(Request::RequestTxn(txn)) => self.txn(txn),
            None => Ok(()),
        }
    }

    /// What revokes or renews a lease writes all of its keys. One that does not exist is somebody else's to refuse.
    pub(crate) fn lease_write(&self, id: i64) -> Result<(), Refusal> {
        if id != self.writable.get() {
            self.each_key(id, |key| self.write(key, b""))?;
            self.writable.set(id);
        }
        Ok(())
    }

    /// Who asks for the keys of a lease must be able to read all of them.
    pub(crate) fn lease_read(&self, id: i64) -> Result<(), Refusal> {
        self.each_key(id, |key| self.read(key, b""))
    }

    pub(crate) fn admin(&self) -> Result<(), Refusal> {
        self.auth.permit_admin(self.caller.user)
    }

    /// Who asks for what was there before the write must be able to read it.
    fn read_prev(&self, asked: bool, key: &[u8], end: &[u8]) -> Result<(), Refusal> {
        if !asked || planted(Bug::IgnorePrevKvRight) {
            return Ok(());
        }
        self.read(key, end)
    }

    fn read(&self, key: &[u8], end: &[u8]) -> Result<(), Refusal> {
        self.auth.permit_read(self.caller, key, end)
    }

    fn write(&self, key: &[u8], end: &[u8]) -> Result<(), Refusal> {
        self.auth.permit_write(self.caller, key, end)
    }

    /// As in etcd, who has the role root is asked for nothing more, and a lease without keys can be had by everybody.
    fn each_key(
        &self,
        id: i64,
        permit: impl Fn(&Bytes) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if id == 0 || self.admin().is_ok() {
            return Ok(());
        }
        let mut keys = self.lessor.keys_after(id, None);
        while let Some(last) = keys.last() {
            keys.iter().try_for_each(&permit)?;
            keys = self.lessor.keys_after(id, Some(last));
        }
        Ok(())
    }
}
