//! The protobuf form: etcd's messages of keys, watches and members as they are on the wire, one after the other.

use std::io::{self, Write};

use keystead_client::{
    DeleteResult, Event, EventKind, Header, Member, Members, OpResult, PutResult, RangeResult,
    TxnResult,
};
use keystead_proto::etcdserverpb::{
    self as pb, DeleteRangeResponse, MemberAddResponse, MemberListResponse, PutResponse,
    RangeResponse, ResponseHeader, ResponseOp, TxnResponse, WatchResponse, response_op::Response,
};
use keystead_proto::mvccpb;
use prost::Message;

use super::Written;
use super::answer::Answer;

pub(super) fn write(out: &mut impl Write, answer: &Answer) -> io::Result<Written> {
    let message = match answer {
        Answer::Put(result) => put(result).encode_to_vec(),
        Answer::Range(result) => range(result).encode_to_vec(),
        Answer::Delete(result) => deleted(result).encode_to_vec(),
        Answer::Txn(result) => txn(result).encode_to_vec(),
        Answer::Watch(changes) => WatchResponse {
            header: header(&changes.header),
            events: changes.events.iter().map(event).collect(),
            compact_revision: changes.compact_revision,
            canceled: changes.cancelled,
            ..WatchResponse::default()
        }
        .encode_to_vec(),
        Answer::Members(listed)
        | Answer::MemberChanged {
            members: listed, ..
        } => members(listed).encode_to_vec(),
        Answer::MemberAdded { added, .. } => MemberAddResponse {
            header: header(&added.header),
            member: Some(member(&added.member)),
            members: added.members.iter().map(member).collect(),
        }
        .encode_to_vec(),
        _ => return Ok(Written::Unsupported),
    };
    out.write_all(&message)?;
    Ok(Written::Yes)
}

fn header(header: &Header) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: header.cluster_id,
        member_id: header.member_id,
        revision: header.revision,
        raft_term: header.raft_term,
    })
}

fn put(result: &PutResult) -> PutResponse {
    PutResponse {
        header: header(&result.header),
        prev_kv: result.prev_kv.clone(),
    }
}

fn range(result: &RangeResult) -> RangeResponse {
    RangeResponse {
        header: header(&result.header),
        kvs: result.kvs.clone(),
        more: result.more,
        count: result.count,
    }
}

fn deleted(result: &DeleteResult) -> DeleteRangeResponse {
    DeleteRangeResponse {
        header: header(&result.header),
        deleted: result.deleted,
        prev_kvs: result.prev_kvs.clone(),
    }
}

fn txn(result: &TxnResult) -> TxnResponse {
    let responses = result.results.iter().map(|result| ResponseOp {
        response: Some(match result {
            OpResult::Range(result) => Response::ResponseRange(range(result)),
            OpResult::Put(result) => Response::ResponsePut(put(result)),
            OpResult::Delete(result) => Response::ResponseDeleteRange(deleted(result)),
            OpResult::Txn(result) => Response::ResponseTxn(txn(result)),
        }),
    });
    TxnResponse {
        header: header(&result.header),
        succeeded: result.succeeded,
        responses: responses.collect(),
    }
}

fn event(event: &Event) -> mvccpb::Event {
    let kind = match event.kind {
        EventKind::Put => mvccpb::event::EventType::Put,
        EventKind::Delete => mvccpb::event::EventType::Delete,
    };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(event.kv.clone()),
        prev_kv: event.prev_kv.clone(),
    }
}

/// The answers to all changes of members have the fields of the list.
fn members(members: &Members) -> MemberListResponse {
    MemberListResponse {
        header: header(&members.header),
        members: members.members.iter().map(member).collect(),
    }
}

fn member(member: &Member) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}
