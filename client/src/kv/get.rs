//! One key.

use bytes::Bytes;
use keystead_proto::mvccpb::KeyValue;

use crate::client::Client;
use crate::error::Result;
use crate::key_range::KeyRange;
use crate::kv::range::Range;

impl Client {
    /// Reads one key, linearizably; `None` when it is not there. [`Client::range`] has every option.
    ///
    /// # Errors
    /// See [`Client::range`].
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<KeyValue>> {
        let answer = self.range(Range::new(KeyRange::key(key))).await?;
        Ok(answer.kvs.into_iter().next())
    }
}
