//! Transactions.

use keystead_client::Txn;

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;

impl Client {
    /// Runs a transaction. Answers `Txn`.
    pub fn txn(&self, txn: Txn) -> Call {
        self.request(|client| async move { client.txn(txn).await }, Answer::Txn)
    }

    /// Runs it exactly once, whatever breaks: it is sent again until its end is known or the deadline has passed. Answers `Once`.
    pub fn once(&self, txn: Txn) -> Call {
        self.call(
            |client| async move { client.once(txn).run().await },
            Answer::Once,
        )
    }
}
