//! One deletion of a range, by itself or within a transaction.

use keystead_mvcc::{Query, Read, ReadError, Txn};
use keystead_proto::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse};

use crate::apply::header;
use crate::lease::Lessor;
use crate::range::decode_row;

/// Deletes the keys of a range, in order. Only reading the keys to answer can fail, and before anything is written.
pub(crate) fn delete_range(
    txn: &mut Txn<'_>,
    lessor: &Lessor,
    request: &DeleteRangeRequest,
) -> Result<DeleteRangeResponse, ReadError> {
    let (key, end) = (&request.key, &request.range_end);
    let mut prev_kvs = Vec::new();
    if request.prev_kv {
        let page = txn.read(&Query {
            key,
            end,
            ..Default::default()
        })?;
        prev_kvs = page
            .rows
            .into_iter()
            .map(decode_row)
            .collect::<Result<_, _>>()?;
    }
    let deleted = txn.delete_range(key, end, &mut |key, meta| lessor.detach(key, meta));
    Ok(DeleteRangeResponse {
        header: Some(header(txn.current())),
        deleted: deleted as i64,
        prev_kvs,
    })
}
