//! Transactions: compares, then one of two lists of operations, all at one revision.

pub(crate) mod compare;
pub(crate) mod once;
pub(crate) mod stm;

use keystead_proto::etcdserverpb::request_op::Request;
use keystead_proto::etcdserverpb::response_op::Response;
use keystead_proto::etcdserverpb::{RequestOp, ResponseOp, TxnRequest, TxnResponse};

use crate::channel::rpc;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::header::Header;
use crate::kv::delete::{Delete, DeleteResult};
use crate::kv::put::{Put, PutResult};
use crate::kv::range::{Range, RangeResult};
use crate::namespace::Namespace;
use compare::Compare;

/// When every compare holds, `then` runs, else `otherwise`.
///
/// ```
/// # use keystead_client::{Compare, KeyRange, Op, Put, Range, Txn};
/// let take = Txn::when([Compare::missing("owner")])
///     .then([Op::Put(Put::new("owner", "me"))])
///     .otherwise([Op::Range(Range::new(KeyRange::key("owner")))]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold; nothing holds always.
    pub when: Vec<Compare>,
    /// What runs then.
    pub then: Vec<Op>,
    /// What runs otherwise.
    pub otherwise: Vec<Op>,
}

/// One operation of a transaction. No key may be written twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Read.
    Range(Range),
    /// Write.
    Put(Put),
    /// Remove.
    Delete(Delete),
    /// A transaction within.
    Txn(Txn),
}

/// The answer to a [`Txn`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TxnResult {
    /// Who answered. The header of what ran within has nothing but a revision.
    pub header: Header,
    /// Every compare held.
    pub succeeded: bool,
    /// One for each operation that ran, in order.
    pub results: Vec<OpResult>,
}

/// The answer to an [`Op`].
#[derive(Clone, Debug, PartialEq)]
pub enum OpResult {
    /// Of a read.
    Range(RangeResult),
    /// Of a write.
    Put(PutResult),
    /// Of a removal.
    Delete(DeleteResult),
    /// Of a transaction within.
    Txn(TxnResult),
}

impl Txn {
    /// Begins with what must hold.
    pub fn when(compares: impl IntoIterator<Item = Compare>) -> Txn {
        Txn {
            when: compares.into_iter().collect(),
            ..Txn::default()
        }
    }

    /// What runs when it holds.
    pub fn then(self, ops: impl IntoIterator<Item = Op>) -> Txn {
        Txn {
            then: ops.into_iter().collect(),
            ..self
        }
    }

    /// What runs when it does not.
    pub fn otherwise(self, ops: impl IntoIterator<Item = Op>) -> Txn {
        Txn {
            otherwise: ops.into_iter().collect(),
            ..self
        }
    }

    /// Nothing in it writes, whichever way it goes.
    pub fn only_reads(&self) -> bool {
        self.then.iter().chain(&self.otherwise).all(|op| match op {
            Op::Range(_) => true,
            Op::Txn(txn) => txn.only_reads(),
            Op::Put(_) | Op::Delete(_) => false,
        })
    }

    pub(crate) fn into_request(self, namespace: &Namespace) -> TxnRequest {
        let ops = |ops: Vec<Op>| {
            ops.into_iter()
                .map(|op| op.into_request(namespace))
                .collect()
        };
        TxnRequest {
            compare: self
                .when
                .into_iter()
                .map(|compare| compare.into_request(namespace))
                .collect(),
            success: ops(self.then),
            failure: ops(self.otherwise),
        }
    }
}

impl Op {
    fn into_request(self, namespace: &Namespace) -> RequestOp {
        let request = match self {
            Op::Range(range) => Request::RequestRange(range.into_request(namespace)),
            Op::Put(put) => Request::RequestPut(put.into_request(namespace)),
            Op::Delete(delete) => Request::RequestDeleteRange(delete.into_request(namespace)),
            Op::Txn(txn) => Request::RequestTxn(txn.into_request(namespace)),
        };
        RequestOp {
            request: Some(request),
        }
    }
}

impl TxnResult {
    pub(crate) fn new(answer: TxnResponse, namespace: &Namespace) -> TxnResult {
        let results = answer.responses.into_iter();
        TxnResult {
            header: answer.header.into(),
            succeeded: answer.succeeded,
            results: results
                .filter_map(|result| OpResult::new(result, namespace))
                .collect(),
        }
    }
}

impl OpResult {
    /// `None` for an answer of a kind that no request of ours has.
    fn new(answer: ResponseOp, namespace: &Namespace) -> Option<OpResult> {
        Some(match answer.response? {
            Response::ResponseRange(range) => OpResult::Range(RangeResult::new(range, namespace)),
            Response::ResponsePut(put) => OpResult::Put(PutResult::new(put, namespace)),
            Response::ResponseDeleteRange(delete) => {
                OpResult::Delete(DeleteResult::new(delete, namespace))
            }
            Response::ResponseTxn(txn) => OpResult::Txn(TxnResult::new(txn, namespace)),
        })
    }
}

impl Client {
    /// Runs a transaction: all of it at one revision, or nothing.
    ///
    /// # Errors
    /// `InvalidArgument`: too many operations (etcd takes 128 a list), or a key written twice. Where the outcome is `Unknown` it may
    /// have run, or may yet; one that only reads is asked again like any read.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResult> {
        let rpc = if txn.only_reads() {
            &rpc::READ_TXN
        } else {
            &rpc::TXN
        };
        let ran = [txn.then.len(), txn.otherwise.len()];
        let answer = self.call(rpc, &txn.into_request(self.keys())).await?;
        let result = TxnResult::new(answer, self.keys());
        let expected = ran[usize::from(!result.succeeded)];
        if result.results.len() != expected {
            return Err(Error::garbled(format!(
                "{} answers to the {expected} operations of a transaction",
                result.results.len()
            )));
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_range::KeyRange;

    #[test]
    fn a_write_in_any_branch_makes_a_transaction_a_write() {
        let read = || Op::Range(Range::new(KeyRange::key("k")));
        let write = || Op::Put(Put::new("k", "v"));
        assert!(Txn::default().only_reads());
        let reads = Txn::when([])
            .then([read()])
            .otherwise([Op::Txn(Txn::default())]);
        assert!(reads.only_reads());
        assert!(!Txn::when([]).otherwise([write()]).only_reads());
        let nested = Txn::when([]).otherwise([read(), write()]);
        assert!(!Txn::when([]).then([Op::Txn(nested)]).only_reads());
    }

    #[test]
    fn the_namespace_reaches_every_key_of_a_transaction() {
        let namespace = Namespace::new("ns/".into());
        let txn = Txn::when([Compare::present("c")]).then([
            Op::Put(Put::new("p", "v")),
            Op::Delete(Delete::new(KeyRange::all())),
            Op::Txn(Txn::when([]).otherwise([Op::Range(Range::new(KeyRange::prefix("r")))])),
        ]);
        let sent = format!("{:?}", txn.into_request(&namespace));
        for key in ["ns/c", "ns/p", "ns/\\0", "ns0", "ns/r", "ns/s"] {
            assert!(sent.contains(&format!("b\"{key}\"")), "{key} in {sent}");
        }
    }
}
