//! Put: one key.

use bytes::Bytes;
use keystead_proto::etcdserverpb::{PutRequest, PutResponse};
use keystead_proto::mvccpb::KeyValue;

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;
use crate::namespace::Namespace;

/// What to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// The key. Never empty.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The lease to attach the key to; 0 detaches it from the one it has.
    pub lease: i64,
    /// Answer the key as it was before.
    pub prev_kv: bool,
    /// Keep the value that is there. The key must exist.
    pub ignore_value: bool,
    /// Keep the lease that is there. The key must exist.
    pub ignore_lease: bool,
}

/// The answer to a [`Put`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PutResult {
    /// Who answered; the revision is that of the write.
    pub header: Header,
    /// The key as it was before, when that was asked for and it existed.
    pub prev_kv: Option<KeyValue>,
}

impl Put {
    /// Writes `value`, without a lease.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Put {
        Put {
            key: key.into(),
            value: value.into(),
            ..Put::default()
        }
    }

    pub(crate) fn into_request(self, namespace: &Namespace) -> PutRequest {
        PutRequest {
            key: namespace.key(self.key),
            value: self.value,
            lease: self.lease,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        }
    }
}

impl PutResult {
    pub(crate) fn new(answer: PutResponse, namespace: &Namespace) -> PutResult {
        PutResult {
            header: answer.header.into(),
            prev_kv: answer.prev_kv.map(|kv| namespace.strip_kv(kv)),
        }
    }
}

impl Client {
    /// Writes one key.
    ///
    /// # Errors
    /// See [`Client::put_with`].
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<PutResult> {
        self.put_with(Put::new(key, value)).await
    }

    /// Writes one key, with every option.
    ///
    /// # Errors
    /// `LeaseNotFound`, `NoSpace`, `TooLarge`, `InvalidArgument` (an empty key, or a key to keep something of that is not there).
    /// Where the outcome is `Unknown` the key may have been written, or may yet be.
    pub async fn put_with(&self, put: Put) -> Result<PutResult> {
        let request = put.into_request(self.keys());
        let answer = self.call(&rpc::PUT, &request).await?;
        Ok(PutResult::new(answer, self.keys()))
    }
}
