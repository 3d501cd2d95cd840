//! One transaction: compares, then one of two lists of operations, transactions nested in it included.
//!
//! ```text
//! choose    every compare, also those of nested transactions, on the state before: the path is known
//! verify    each operation on the path: leases, keys, revisions. A refusal has touched nothing
//! execute   in order; ranges see what was written before them; all writes share one revision
//! ```

use keystead_mvcc::{Read, ReadError, Txn};
use keystead_proto::etcdserverpb::request_op::Request;
use keystead_proto::etcdserverpb::response_op::Response;
use keystead_proto::etcdserverpb::{
    RangeRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};

use crate::apply::header;
use crate::compare::holds;
use crate::delete_range::delete_range;
use crate::fatal::Stop;
use crate::lease::Lessor;
use crate::{Refusal, put, range};

/// Whether a transaction only ranges, so that it needs no place in the log. One that nests another never counts.
pub fn is_read_only(request: &TxnRequest) -> bool {
    ranges(request).all(|range| range.is_some())
}

/// Whether a member may answer a read-only transaction from its own state, which may lag. As in etcd that is so when
/// every operation is a serializable range, and so when there is no operation at all.
pub fn is_serializable(request: &TxnRequest) -> bool {
    ranges(request).all(|range| range.is_some_and(|range| range.serializable))
}

/// Evaluates a read-only transaction outside of the log. Give it a [`View`](keystead_mvcc::View), so that all of it is
/// read at one revision.
///
/// # Errors
/// [`Refusal::Compacted`] and [`Refusal::FutureRevision`] by the revisions asked for; [`Refusal::DamagedRow`] and
/// [`Refusal::Storage`] when this member can't read its rows.
pub fn read(read: &impl Read, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
    let succeeded = all_hold(read, request)?;
    let ops = branch(request, succeeded);
    for op in ops {
        if let Some(Request::RequestRange(range)) = &op.request {
            verify_revision(read, range)?;
        }
    }
    let answer = |op: &RequestOp| match &op.request {
        Some(Request::RequestRange(request)) => execute_range(read, request),
        _ => Ok(ResponseOp { response: None }),
    };
    let responses = ops.iter().map(answer).collect::<Result<_, _>>()?;
    Ok(TxnResponse {
        header: Some(header(read.current())),
        succeeded,
        responses,
    })
}

/// Applies a transaction.
pub(crate) fn txn(
    txn: &mut Txn<'_>,
    lessor: &Lessor,
    request: &TxnRequest,
) -> Result<TxnResponse, Stop> {
    let mut path = Vec::with_capacity(1);
    choose(txn, request, &mut path)?;
    verify(txn, lessor, request, &mut Path(path.iter()))?;
    let mut response = execute(txn, lessor, request, &mut Path(path.iter()))?;
    response.header = Some(header(txn.current()));
    Ok(response)
}

/// Whether each transaction met on the way succeeded, in the order they are met.
struct Path<'a>(std::slice::Iter<'a, bool>);

impl Path<'_> {
    fn step(&mut self) -> bool {
        *self
            .0
            .next()
            .expect("every walk meets the transactions that choosing met")
    }
}

fn choose(read: &impl Read, request: &TxnRequest, path: &mut Vec<bool>) -> Result<(), ReadError> {
    let succeeded = all_hold(read, request)?;
    path.push(succeeded);
    for op in branch(request, succeeded) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            choose(read, nested, path)?;
        }
    }
    Ok(())
}

fn verify(
    read: &impl Read,
    lessor: &Lessor,
    request: &TxnRequest,
    path: &mut Path<'_>,
) -> Result<(), Stop> {
    for op in branch(request, path.step()) {
        match &op.request {
            Some(Request::RequestRange(range)) => verify_revision(read, range)?,
            Some(Request::RequestPut(request)) => put::verify(read, lessor, request)?,
            Some(Request::RequestTxn(nested)) => verify(read, lessor, nested, path)?,
            Some(Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

fn execute(
    txn: &mut Txn<'_>,
    lessor: &Lessor,
    request: &TxnRequest,
    path: &mut Path<'_>,
) -> Result<TxnResponse, Stop> {
    let succeeded = path.step();
    let ops = branch(request, succeeded);
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        let response = match &op.request {
            Some(Request::RequestRange(request)) => execute_range(txn, request)?.response,
            Some(Request::RequestPut(request)) => {
                Some(Response::ResponsePut(put::write(txn, lessor, request)?))
            }
            Some(Request::RequestDeleteRange(request)) => Some(Response::ResponseDeleteRange(
                delete_range(txn, lessor, request)?,
            )),
            Some(Request::RequestTxn(nested)) => {
                Some(Response::ResponseTxn(execute(txn, lessor, nested, path)?))
            }
            None => None,
        };
        responses.push(ResponseOp { response });
    }
    // A nested transaction's header stays as empty as it is here.
    Ok(TxnResponse {
        header: Some(ResponseHeader::default()),
        succeeded,
        responses,
    })
}

fn execute_range(read: &impl Read, request: &RangeRequest) -> Result<ResponseOp, ReadError> {
    let response = range::select(read, request)?.decode()?;
    Ok(ResponseOp {
        response: Some(Response::ResponseRange(response)),
    })
}

/// Within a transaction a revision is taken strictly: below 0 is not the latest but compacted, and the one that the
/// transaction is about to make is in the future.
fn verify_revision(read: &impl Read, request: &RangeRequest) -> Result<(), Refusal> {
    match request.revision {
        0 => Ok(()),
        revision if revision > read.current() => Err(Refusal::FutureRevision),
        revision if revision < read.compacted() => Err(Refusal::Compacted),
        _ => Ok(()),
    }
}

fn all_hold(read: &impl Read, request: &TxnRequest) -> Result<bool, ReadError> {
    for compare in &request.compare {
        if !holds(read, compare)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded {
        &request.success
    } else {
        &request.failure
    }
}

/// The operations of both branches; none for one that is not a range.
fn ranges(request: &TxnRequest) -> impl Iterator<Item = Option<&RangeRequest>> {
    request
        .success
        .iter()
        .chain(&request.failure)
        .map(|op| match &op.request {
            Some(Request::RequestRange(range)) => Some(range),
            _ => None,
        })
}
