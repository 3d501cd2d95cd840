//! Keys and values: reads, writes, and writes under a condition.

use keystead_client::bytes::Bytes;
use keystead_client::{Compact, Delete, Expected, KeyRange, Put, Range, Scan};
use keystead_client::{Compare, Op, OpResult, PutResult, Txn};

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::watch::Scanner;

impl Client {
    /// Reads one key. Answers `KeyValue`.
    pub fn get_key(&self, key: Bytes) -> Call {
        self.request(
            |client| async move { client.get(key).await },
            Answer::KeyValue,
        )
    }

    /// Reads keys at one revision. Answers `Range`.
    pub fn range(&self, range: Range) -> Call {
        self.request(
            |client| async move { client.range(range).await },
            Answer::Range,
        )
    }

    /// Reads a range of any size. Nothing is sent before its first page is asked for.
    pub fn scan(&self, scan: Scan) -> Scanner {
        Scanner::new(self.clone(), scan)
    }

    /// Writes one key. Answers `Put`.
    pub fn put(&self, put: Put) -> Call {
        self.request(
            |client| async move { client.put_with(put).await },
            Answer::Put,
        )
    }

    /// Writes one key if it is as expected. Answers `Put`.
    ///
    /// # Errors
    /// `CompareFailed`, with the key as it is.
    pub fn put_if(&self, put: Put, expected: Expected) -> Call {
        let key = put.key.clone();
        self.change_if(key, expected, Op::Put(put))
    }

    /// Removes keys. Answers `Delete`.
    pub fn delete(&self, delete: Delete) -> Call {
        self.request(
            |client| async move { client.delete_with(delete).await },
            Answer::Delete,
        )
    }

    /// Removes one key if it is as expected. Answers `Delete`.
    ///
    /// # Errors
    /// `CompareFailed`, with the key as it is. `InvalidArgument`: it is about more than one key.
    pub fn delete_if(&self, delete: Delete, expected: Expected) -> Call {
        let key = delete.keys.key.clone();
        self.change_if(key, expected, Op::Delete(delete))
    }

    /// Forgets the history before a revision. Answers `Header`.
    pub fn compact(&self, compact: Compact) -> Call {
        self.call(
            move |client| async move { client.compact(compact).await },
            Answer::Header,
        )
    }

    fn change_if(&self, key: Bytes, expected: Expected, change: Op) -> Call {
        let this = self.clone();
        let read = Op::Range(Range::new(KeyRange::key(key.clone())));
        let txn = Txn::when([holds(key, expected)])
            .then([change])
            .otherwise([read]);
        Call::new(async move {
            let done = this.get()?.txn(txn).await?;
            answer(done.header, done.results.into_iter().next())
        })
        .request()
    }
}

fn holds(key: Bytes, expected: Expected) -> Compare {
    use keystead_client::Relation::Equal;
    match expected {
        Expected::Missing => Compare::missing(key),
        Expected::Present => Compare::present(key),
        Expected::ModRevision(revision) => Compare::mod_revision(key, Equal, revision),
        Expected::Value(value) => Compare::value(key, Equal, value),
    }
}

/// A change answers what it answers alone; a read says that there was none.
fn answer(header: keystead_client::Header, result: Option<OpResult>) -> Result<Answer> {
    match result {
        Some(OpResult::Put(put)) => Ok(Answer::Put(PutResult { header, ..put })),
        Some(OpResult::Delete(delete)) => Ok(Answer::Delete(keystead_client::DeleteResult {
            header,
            ..delete
        })),
        Some(OpResult::Range(read)) => Err(Error::compare_failed(read.kvs.into_iter().next())),
        Some(OpResult::Txn(_)) | None => Err(Error::garbled()),
    }
}
