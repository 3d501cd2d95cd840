//! One put, by itself or within a transaction.

use keystead_mvcc::{Read, Txn};
use keystead_proto::etcdserverpb::{PutRequest, PutResponse};

use crate::Refusal;
use crate::apply::header;
use crate::fatal::Stop;
use crate::lease::Lessor;
use crate::range::{decode_row, key_value, latest};

/// Applies a put that is a record of its own.
pub(crate) fn put(
    txn: &mut Txn<'_>,
    lessor: &Lessor,
    request: &PutRequest,
) -> Result<PutResponse, Stop> {
    verify_lease(lessor, request)?;
    verify_key(txn, request)?;
    write(txn, lessor, request)
}

/// What must hold before a transaction writes anything, in the order that etcd has it there.
pub(crate) fn verify(read: &impl Read, lessor: &Lessor, request: &PutRequest) -> Result<(), Stop> {
    verify_key(read, request)?;
    verify_lease(lessor, request)
}

/// Writes. Only reading the store can fail, and only before anything is written.
///
/// A key to keep something of may be gone by now: deleted earlier in the same transaction, where [`crate::check`] does
/// not see the overlap. Then there is no value and no lease to keep; etcd's members crash on such a transaction.
pub(crate) fn write(
    txn: &mut Txn<'_>,
    lessor: &Lessor,
    request: &PutRequest,
) -> Result<PutResponse, Stop> {
    let before = if request.ignore_value || request.prev_kv {
        latest(txn, &request.key)?
    } else {
        None
    };
    let value = match &before {
        Some(row) if request.ignore_value => key_value(row)?.value,
        _ => &request.value,
    };
    let lease = if request.ignore_lease {
        txn.meta(&request.key)?.map_or(0, |meta| meta.lease)
    } else {
        request.lease
    };
    let replaced = txn.put(&request.key, value, lease);
    lessor.move_key(&request.key, replaced.map_or(0, |meta| meta.lease), lease);
    let prev_kv = before
        .filter(|_| request.prev_kv)
        .map(decode_row)
        .transpose()?;
    Ok(PutResponse {
        header: Some(header(txn.current())),
        prev_kv,
    })
}

fn verify_lease(lessor: &Lessor, request: &PutRequest) -> Result<(), Stop> {
    if request.lease != 0 && lessor.facts(request.lease).is_none() {
        return Err(Refusal::LeaseNotFound.into());
    }
    Ok(())
}

fn verify_key(read: &impl Read, request: &PutRequest) -> Result<(), Stop> {
    if (request.ignore_value || request.ignore_lease) && read.meta(&request.key)?.is_none() {
        return Err(Refusal::KeyNotFound.into());
    }
    Ok(())
}
