//! Reads a transaction's message, however deep it is nested.
//!
//! prost follows 100 levels of messages, which is 50 transactions, and that limit is what keeps every other message off
//! the end of a stack. Transactions have one of their own here, and only what prost has refused is read again.
//! Called by the service that takes a transaction and by the applier, which must read what the service took.

use bytes::{Buf, Bytes};
use keystead_proto::etcdserverpb::request_op::Request;
use keystead_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use prost::encoding::{self, DecodeContext, WireType, decode_key, skip_field};
use prost::{DecodeError, Message};

/// How many transactions may be nested in each other. Each takes at least one operation of those that are allowed (see
/// [`crate::check::txn`]), so that 129 are the most that etcd takes by default; more would need more stack.
pub const MAX_NESTED_TXNS: usize = 256;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// More than [`MAX_NESTED_TXNS`] transactions are nested in each other.
    #[error("transactions are nested too deep")]
    TooDeep,
    /// The bytes are no such message.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// Reads a transaction. Keys and values share the memory of `message`.
///
/// # Errors
/// Every kind of [`Undecodable`].
pub fn decode_txn(message: &Bytes) -> Result<TxnRequest, Undecodable> {
    TxnRequest::decode(message.clone()).or_else(|_| nested(message.clone(), MAX_NESTED_TXNS))
}

fn nested(mut message: Bytes, levels: usize) -> Result<TxnRequest, Undecodable> {
    let below = levels.checked_sub(1).ok_or(Undecodable::TooDeep)?;
    let mut txn = TxnRequest::default();
    while message.has_remaining() {
        let (tag, wire_type) = decode_key(&mut message)?;
        match tag {
            1 => {
                let compare = field(wire_type, &mut message)?;
                txn.compare.push(Compare::decode(compare)?);
            }
            2 => txn
                .success
                .push(op(field(wire_type, &mut message)?, below)?),
            3 => txn
                .failure
                .push(op(field(wire_type, &mut message)?, below)?),
            _ => skip_field(wire_type, tag, &mut message, DecodeContext::default())?,
        }
    }
    Ok(txn)
}

fn op(mut message: Bytes, levels: usize) -> Result<RequestOp, Undecodable> {
    let mut request = None;
    while message.has_remaining() {
        let (tag, wire_type) = decode_key(&mut message)?;
        if !(1..=4).contains(&tag) {
            skip_field(wire_type, tag, &mut message, DecodeContext::default())?;
            continue;
        }
        let field = field(wire_type, &mut message)?;
        request = Some(match tag {
            1 => Request::RequestRange(RangeRequest::decode(field)?),
            2 => Request::RequestPut(PutRequest::decode(field)?),
            3 => Request::RequestDeleteRange(DeleteRangeRequest::decode(field)?),
            _ => Request::RequestTxn(nested(field, levels)?),
        });
    }
    Ok(RequestOp { request })
}

fn field(wire_type: WireType, message: &mut Bytes) -> Result<Bytes, DecodeError> {
    let mut field = Bytes::new();
    encoding::bytes::merge(wire_type, &mut field, message, DecodeContext::default())?;
    Ok(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keystead_proto::etcdserverpb::compare::TargetUnion;

    fn of(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
        let compare = Compare {
            key: "k".into(),
            target_union: Some(TargetUnion::Version(300)),
            ..Default::default()
        };
        TxnRequest {
            compare: vec![compare],
            success,
            failure,
        }
    }

    fn op_of(request: Request) -> RequestOp {
        RequestOp {
            request: Some(request),
        }
    }

    /// A transaction with an operation of each kind, and of none.
    fn sample() -> Bytes {
        let put = PutRequest {
            key: "put".into(),
            value: vec![7; 200].into(),
            lease: -1,
            ..Default::default()
        };
        let range = RangeRequest {
            key: "range".into(),
            limit: 5,
            ..Default::default()
        };
        let delete = DeleteRangeRequest {
            key: "delete".into(),
            range_end: "e".into(),
            prev_kv: true,
        };
        let inner = of(
            vec![op_of(Request::RequestPut(put))],
            vec![RequestOp { request: None }],
        );
        let outer = of(
            vec![
                op_of(Request::RequestRange(range)),
                op_of(Request::RequestTxn(inner)),
            ],
            vec![op_of(Request::RequestDeleteRange(delete))],
        );
        outer.encode_to_vec().into()
    }

    /// `depth` empty transactions in one another, put together from the inside.
    fn deep(depth: usize) -> Bytes {
        let field = |tag: u8, bytes: Vec<u8>| {
            let mut whole = vec![tag];
            prost::encoding::encode_varint(bytes.len() as u64, &mut whole);
            whole.extend(bytes);
            whole
        };
        let wrap = |inner, _| field(0x12, field(0x22, inner));
        (1..depth).fold(Vec::new(), wrap).into()
    }

    #[test]
    fn what_prost_reads_is_read_alike() {
        let sample = sample();
        let mut messages: Vec<Bytes> = (0..=sample.len()).map(|end| sample.slice(..end)).collect();
        for bit in 0..sample.len() * 8 {
            let mut flipped = sample.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            messages.push(flipped.into());
        }
        for message in messages {
            assert_eq!(
                nested(message.clone(), MAX_NESTED_TXNS).ok(),
                TxnRequest::decode(message.clone()).ok(),
                "{message:?}"
            );
        }
    }

    #[test]
    fn nesting_is_followed_to_its_limit() {
        for depth in [1, 50, 51, 129, MAX_NESTED_TXNS] {
            let read = decode_txn(&deep(depth)).expect("within the limit");
            let mut found = 1;
            let mut level = &read;
            while let Some(Request::RequestTxn(inner)) =
                level.success.first().and_then(|op| op.request.as_ref())
            {
                level = inner;
                found += 1;
            }
            assert_eq!(found, depth);
        }
        for depth in [MAX_NESTED_TXNS + 1, 100_000] {
            assert_eq!(decode_txn(&deep(depth)), Err(Undecodable::TooDeep));
        }
    }

    #[test]
    fn groups_in_groups_are_no_transaction() {
        let groups = Bytes::from(vec![0x2b; 1 << 20]);
        assert!(matches!(
            decode_txn(&groups),
            Err(Undecodable::Malformed(_))
        ));
    }
}
