//! RangeStream: a range of any size in messages of about the size of a request, all read at one revision.
//! Each chunk is a read of its own, so nothing is held between them; compaction passing the revision ends the stream.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use keystead_mvcc::KeyValueRef;
use keystead_proto::etcdserverpb::RangeRequest;
use keystead_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keystead_state::{RangeAnswer, Refusal, range};

use super::kv::{read_barrier, read_range};
use super::range_answer::stream_message;
use crate::error::GrpcStatus;
use crate::member::Member;
use crate::net::Call;
use crate::net::grpc::{Incoming, Metadata, Outgoing};

/// Rows of the first chunk.
const FIRST_ROWS: i64 = 10;
/// The most rows of a chunk: it is read at once on a shard's thread.
const MOST_ROWS: i64 = 1000;

/// Serves the call in a task of its own.
pub(super) fn serve(member: &Arc<Member>, call: Call) {
    let Ok((metadata, mut incoming, mut outgoing)) = call.stream() else {
        return;
    };
    let member = member.clone();
    tokio::task::spawn_local(async move {
        match stream(&member, &metadata, &mut incoming, &mut outgoing).await {
            Ok(()) => outgoing.finish(GrpcStatus::OK),
            Err(status) => outgoing.finish(status),
        }
    });
}

async fn stream(
    member: &Member,
    metadata: &Metadata,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
) -> Result<(), GrpcStatus> {
    let request = read_range(incoming.message().await?.unwrap_or_default())?;
    refuse_what_does_not_stream(&request)?;
    if !request.serializable {
        read_barrier(member, metadata).await?;
    }
    let caller = member.caller(metadata).await?;
    caller.permit(&member.reader, |auth, caller| {
        auth.permit_read(caller, &request.key, &request.range_end)
    })?;
    let mut chunks = Chunks::new(request, member.config.max_request_bytes);
    while !chunks.done {
        let message = chunks.next(member)?;
        caller.still_permitted(&member.reader)?;
        outgoing.try_send_framed(message);
        outgoing
            .ready()
            .await
            .map_err(|_| GrpcStatus::cancelled())?;
    }
    Ok(())
}

fn refuse_what_does_not_stream(request: &RangeRequest) -> Result<(), GrpcStatus> {
    if request.sort_order() != SortOrder::None || request.sort_target() != SortTarget::Key {
        return Err(GrpcStatus::STREAM_SORT);
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters.iter().any(|revision| *revision != 0) {
        Err(GrpcStatus::STREAM_FILTER)
    } else {
        Ok(())
    }
}

/// Where a stream stands.
struct Chunks {
    /// What is left: its key moves on, its revision is pinned by the first chunk.
    rest: RangeRequest,
    /// Rows that the client still wants; none when it set no limit.
    wanted: Option<i64>,
    /// Rows of the next chunk.
    rows: i64,
    sent: i64,
    /// The store's revision at the first chunk, which the last one tells.
    began_at: Option<i64>,
    target_bytes: usize,
    done: bool,
}

impl Chunks {
    fn new(request: RangeRequest, target_bytes: usize) -> Self {
        let wanted = (request.limit > 0).then_some(request.limit);
        Self {
            rest: request,
            wanted,
            rows: FIRST_ROWS,
            sent: 0,
            began_at: None,
            target_bytes,
            done: false,
        }
    }

    /// Reads the next chunk and encodes its message.
    fn next(&mut self, member: &Member) -> Result<Bytes, Refusal> {
        self.rest.limit = self
            .wanted
            .map_or(self.rows, |wanted| wanted.min(self.rows));
        let mut answer = range::range(member.reader.store(), &self.rest)?;
        let began_at = *self.began_at.get_or_insert(answer.current);
        if self.rest.revision <= 0 {
            self.rest.revision = answer.current;
        }
        let read = answer.rows.len() as i64;
        self.wanted = self.wanted.map(|wanted| wanted - read);
        self.done = !answer.more || self.wanted == Some(0);
        if self.done {
            answer.count += self.sent;
            return Ok(stream_message(Some(member.headers.at(began_at)), &answer));
        }
        self.sent += read;
        self.move_on(&answer);
        answer.more = false;
        answer.count = 0;
        Ok(stream_message(None, &answer))
    }

    fn move_on(&mut self, answer: &RangeAnswer) {
        let bytes: usize = answer.rows.iter().map(|row| row.payload.len()).sum();
        if bytes < self.target_bytes / 2 {
            self.rows = (self.rows * 2).min(MOST_ROWS);
        } else if bytes > self.target_bytes * 2 {
            self.rows = (self.rows / 2).max(1);
        }
        let last = answer
            .rows
            .last()
            .and_then(|row| KeyValueRef::decode(&row.payload).ok());
        if let Some(last) = last {
            // The first key after a key is the key and a zero byte.
            let mut next = BytesMut::with_capacity(last.key.len() + 1);
            next.extend_from_slice(last.key);
            next.put_u8(0);
            self.rest.key = next.freeze();
        }
    }
}
