//! Delete: one key, or a range of them.

use bytes::Bytes;
use keystead_proto::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse};
use keystead_proto::mvccpb::KeyValue;

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;
use crate::key_range::KeyRange;
use crate::namespace::Namespace;

/// What to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delete {
    /// The keys.
    pub keys: KeyRange,
    /// Answer the keys as they were.
    pub prev_kv: bool,
}

/// The answer to a [`Delete`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteResult {
    /// Who answered; the revision is that of the removal, or of the store where nothing was removed.
    pub header: Header,
    /// How many keys were removed.
    pub deleted: i64,
    /// The removed keys, when that was asked for.
    pub prev_kvs: Vec<KeyValue>,
}

impl Delete {
    /// Removes `keys`.
    pub fn new(keys: KeyRange) -> Delete {
        Delete {
            keys,
            prev_kv: false,
        }
    }

    pub(crate) fn into_request(self, namespace: &Namespace) -> DeleteRangeRequest {
        let keys = namespace.range(self.keys);
        DeleteRangeRequest {
            key: keys.key,
            range_end: keys.end,
            prev_kv: self.prev_kv,
        }
    }
}

impl DeleteResult {
    pub(crate) fn new(answer: DeleteRangeResponse, namespace: &Namespace) -> DeleteResult {
        DeleteResult {
            header: answer.header.into(),
            deleted: answer.deleted,
            prev_kvs: namespace.strip_all(answer.prev_kvs),
        }
    }
}

impl Client {
    /// Removes one key. It is no error when it is not there.
    ///
    /// # Errors
    /// See [`Client::delete_with`].
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<DeleteResult> {
        self.delete_with(Delete::new(KeyRange::key(key))).await
    }

    /// Removes a range of keys at one revision.
    ///
    /// # Errors
    /// Where the outcome is `Unknown` the keys may have been removed, or may yet be.
    pub async fn delete_with(&self, delete: Delete) -> Result<DeleteResult> {
        let request = delete.into_request(self.keys());
        let answer = self.call(&rpc::DELETE_RANGE, &request).await?;
        Ok(DeleteResult::new(answer, self.keys()))
    }
}
