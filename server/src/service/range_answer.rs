//! RangeResponse, written by hand: a row's payload is an encoded KeyValue and is copied as it is.
//! Called by Range and RangeStream.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use keystead_mvcc::{Query, Read, Row};
use keystead_proto::etcdserverpb::range_request::SortTarget;
use keystead_proto::etcdserverpb::{RangeRequest, ResponseHeader};
use keystead_state::{RangeAnswer, Refusal, range};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::auth::Caller;
use crate::member::Member;
use crate::net::Reply;
use crate::net::grpc::{PREFIX_BYTES, put_prefix};

/// Rows that are read and encoded at once on a shard's thread; more go to a thread of their own, so that one list of a
/// whole key space holds up nobody else.
const INLINE_ROWS: u64 = 1000;

const HEADER: u8 = 0x0a;
const KVS: u8 = 0x12;
const MORE: u8 = 0x18;
const COUNT: u8 = 0x20;

/// Answers a range that has been checked and may be read now, if the caller may read it.
pub(super) fn answer(member: &Arc<Member>, request: RangeRequest, caller: Caller, reply: Reply) {
    let permitted = caller.permit(&member.reader, |auth, caller| {
        auth.permit_read(caller, &request.key, &request.range_end)
    });
    if let Err(refusal) = permitted {
        return reply.refuse(&refusal.into());
    }
    if !is_large(member, &request) {
        return respond(encode(member, &request, &caller), reply);
    }
    let reading = tokio::task::spawn_blocking({
        let member = member.clone();
        move || encode(&member, &request, &caller)
    });
    tokio::task::spawn_local(async move {
        // The runtime drops blocking work only when it stops.
        respond(reading.await.unwrap_or(Err(Refusal::Stopped)), reply);
    });
}

/// One message of a RangeStream, with gRPC's prefix: `range_response` is its only field.
pub(super) fn stream_message(header: Option<ResponseHeader>, answer: &RangeAnswer) -> Bytes {
    let body = body_bytes(header.as_ref(), answer);
    let length = 1 + encoded_len_varint(body as u64) + body;
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    put_prefix(&mut frame, length);
    put_length(&mut frame, 0x0a, body);
    put_body(&mut frame, header.as_ref(), answer);
    frame.freeze()
}

fn respond(encoded: Result<Bytes, Refusal>, reply: Reply) {
    match encoded {
        Ok(frame) => reply.answer(frame),
        Err(refusal) => reply.refuse(&refusal.into()),
    }
}

fn encode(member: &Member, request: &RangeRequest, caller: &Caller) -> Result<Bytes, Refusal> {
    let answer = range::range(member.reader.store(), request)?;
    caller.still_permitted(&member.reader)?;
    let header = member.headers.at(answer.current);
    let length = body_bytes(Some(&header), &answer);
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    put_prefix(&mut frame, length);
    put_body(&mut frame, Some(&header), &answer);
    Ok(frame.freeze())
}

/// Whether the answer may be too much for a shard's thread. Counting is cheap; single keys and pages are not counted.
fn is_large(member: &Member, request: &RangeRequest) -> bool {
    let sorted = request.sort_target() != SortTarget::Key;
    let page = (1..=INLINE_ROWS as i64).contains(&request.limit) && !sorted;
    if request.range_end.is_empty() || request.count_only || page {
        return false;
    }
    let query = Query {
        key: &request.key,
        end: &request.range_end,
        count_only: true,
        ..Query::default()
    };
    member
        .reader
        .store()
        .read(&query)
        .is_ok_and(|page| page.count > INLINE_ROWS)
}

fn body_bytes(header: Option<&ResponseHeader>, answer: &RangeAnswer) -> usize {
    let field = |length: usize| 1 + encoded_len_varint(length as u64) + length;
    let header = header.map_or(0, |header| field(header.encoded_len()));
    let rows: usize = answer
        .rows
        .iter()
        .map(|row: &Row| field(row.payload.len()))
        .sum();
    let count = if answer.count == 0 {
        0
    } else {
        1 + encoded_len_varint(answer.count as u64)
    };
    header + rows + 2 * usize::from(answer.more) + count
}

fn put_body(frame: &mut BytesMut, header: Option<&ResponseHeader>, answer: &RangeAnswer) {
    if let Some(header) = header {
        put_length(frame, HEADER, header.encoded_len());
        header.encode_raw(frame);
    }
    for row in &answer.rows {
        put_length(frame, KVS, row.payload.len());
        frame.extend_from_slice(&row.payload);
    }
    if answer.more {
        frame.extend_from_slice(&[MORE, 1]);
    }
    if answer.count != 0 {
        frame.put_u8(COUNT);
        encode_varint(answer.count as u64, frame);
    }
}

fn put_length(frame: &mut BytesMut, tag: u8, length: usize) {
    frame.put_u8(tag);
    encode_varint(length as u64, frame);
}

#[cfg(test)]
mod tests {
    use keystead_mvcc::{KeyValueRef, Revision};
    use keystead_proto::etcdserverpb::{RangeResponse, RangeStreamResponse};

    use super::*;

    fn answer() -> RangeAnswer {
        let row = |key: &[u8], main: i64| {
            let mut payload = Vec::new();
            let value = vec![b'v'; 200];
            KeyValueRef {
                key,
                create_revision: main,
                mod_revision: main,
                version: 1,
                value: &value,
                lease: 0,
            }
            .encode_into(&mut payload);
            let revision = Revision { main, sub: 0 };
            Row {
                revision,
                previous: None,
                tombstone: false,
                payload: payload.into(),
            }
        };
        RangeAnswer {
            rows: vec![row(b"a", 2), row(b"b", 3)],
            more: true,
            count: 300,
            current: 9,
        }
    }

    #[test]
    fn what_is_written_by_hand_is_what_prost_reads() {
        let answer = answer();
        let header = ResponseHeader {
            cluster_id: 1,
            member_id: u64::MAX,
            revision: 9,
            raft_term: 2,
        };
        let frame = stream_message(Some(header), &answer);
        let message = RangeStreamResponse::decode(&frame[PREFIX_BYTES..]).expect("it is a message");
        assert_eq!(message.encode_to_vec(), frame[PREFIX_BYTES..]);
        let response: RangeResponse = message.range_response.expect("its only field");
        assert_eq!(response.header, Some(header));
        assert_eq!(
            (response.more, response.count, response.kvs.len()),
            (true, 300, 2)
        );
        assert_eq!(response.kvs[1].key, "b");
    }

    #[test]
    fn an_empty_answer_is_an_empty_message() {
        let nothing = RangeAnswer {
            rows: Vec::new(),
            more: false,
            count: 0,
            current: 9,
        };
        assert_eq!(body_bytes(None, &nothing), 0);
    }
}
