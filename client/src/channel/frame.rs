//! gRPC's framing: five bytes before each message, and the status that ends a call. Knows no connection.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode;
use prost::Message;
use tonic::Code;

use super::failure::Failure;

/// One flag byte and a big-endian length.
const PREFIX_BYTES: usize = 5;

/// A message with its prefix.
///
/// # Errors
/// The message is larger than gRPC can say.
pub(super) fn encode(message: &impl Message) -> Result<Bytes, Failure> {
    let length = message.encoded_len();
    let Ok(prefix) = u32::try_from(length) else {
        return Err(Failure::Status {
            code: Code::InvalidArgument,
            message: format!("a message of {length} bytes: request is too large"),
        });
    };
    let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + length);
    buffer.put_u8(0);
    buffer.put_u32(prefix);
    message.encode_raw(&mut buffer);
    Ok(buffer.freeze())
}

/// Cuts messages out of the chunks that come. A message within one chunk is not copied.
#[derive(Default)]
pub(super) struct Deframer {
    chunks: VecDeque<Bytes>,
    held: usize,
}

impl Deframer {
    pub(super) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.held += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// The next whole message.
    ///
    /// # Errors
    /// It is compressed, which was never agreed to.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.held < PREFIX_BYTES {
            return Ok(None);
        }
        let prefix = self.prefix();
        if prefix[0] != 0 {
            return Err(Failure::Garbled("the answer is compressed".to_owned()));
        }
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if self.held < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.take(PREFIX_BYTES);
        Ok(Some(self.take(length)))
    }

    /// Nothing is left over.
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    fn prefix(&self) -> [u8; PREFIX_BYTES] {
        let mut bytes = self.chunks.iter().flat_map(|chunk| chunk.iter());
        std::array::from_fn(|_| *bytes.next().expect("the caller counted the bytes held"))
    }

    /// Takes `length` bytes, of which that many are held.
    fn take(&mut self, length: usize) -> Bytes {
        self.held -= length;
        let first = self.chunks.front_mut();
        let taken = match first {
            Some(first) if first.len() >= length => first.split_to(length),
            _ => self.gather(length),
        };
        while self.chunks.front().is_some_and(Bytes::is_empty) {
            self.chunks.pop_front();
        }
        taken
    }

    fn gather(&mut self, length: usize) -> Bytes {
        let mut whole = BytesMut::with_capacity(length);
        while whole.len() < length {
            let Some(chunk) = self.chunks.front_mut() else {
                break;
            };
            let part = chunk.len().min(length - whole.len());
            whole.extend_from_slice(&chunk[..part]);
            chunk.advance(part);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        whole.freeze()
    }
}

/// Decodes a message; its bytes fields share the chunk's memory.
pub(super) fn decode<A: Message + Default>(message: Bytes) -> Result<A, Failure> {
    A::decode(message).map_err(|error| Failure::Garbled(error.to_string()))
}

/// What the headers or trailers say of the call: `None` when they have no status.
pub(super) fn status(headers: &HeaderMap) -> Option<Result<(), Failure>> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let code = Code::from_i32(code);
    if code == Code::Ok {
        return Some(Ok(()));
    }
    let text = headers
        .get("grpc-message")
        .map_or(&b""[..], |text| text.as_bytes());
    let message = percent_decode(text).decode_utf8_lossy().into_owned();
    Some(Err(Failure::Status { code, message }))
}

/// An answer that is not gRPC's: a proxy's, as gRPC reads it.
pub(super) fn http_status(status: StatusCode) -> Failure {
    let code = match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Failure::Status {
        code,
        message: format!("the server answered HTTP {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keystead_proto::etcdserverpb::PutRequest;

    fn put(size: usize) -> PutRequest {
        PutRequest {
            key: "key".into(),
            value: vec![7; size].into(),
            ..Default::default()
        }
    }

    #[test]
    fn messages_come_out_whole_however_the_bytes_were_cut() -> Result<(), Failure> {
        let messages = [put(0), put(3), put(1000)];
        let mut wire = Vec::new();
        for message in &messages {
            wire.extend_from_slice(&encode(message)?);
        }
        for size in [1, 2, 4, 5, 6, 7, 100, wire.len()] {
            let mut deframer = Deframer::default();
            let mut seen = Vec::new();
            for chunk in wire.chunks(size) {
                deframer.push(Bytes::copy_from_slice(chunk));
                while let Some(message) = deframer.next()? {
                    seen.push(decode::<PutRequest>(message)?);
                }
            }
            assert_eq!(seen, messages, "chunks of {size}");
            assert!(deframer.is_empty());
        }
        Ok(())
    }

    #[test]
    fn a_value_within_one_chunk_is_not_copied() -> Result<(), Failure> {
        let frame = encode(&put(1000))?;
        let memory = frame.as_ptr_range();
        let mut deframer = Deframer::default();
        deframer.push(frame);
        let message = deframer.next()?.expect("the frame is whole");
        let value = decode::<PutRequest>(message)?.value;
        assert!(memory.contains(&value.as_ptr()));
        Ok(())
    }

    #[test]
    fn a_status_is_read_with_its_text_to_the_letter() {
        let mut headers = HeaderMap::new();
        assert_eq!(status(&headers), None);
        headers.insert("grpc-status", http::HeaderValue::from_static("14"));
        headers.insert(
            "grpc-message",
            http::HeaderValue::from_static("50%25 of %C3%A9tcd"),
        );
        let expected = Failure::Status {
            code: Code::Unavailable,
            message: "50% of étcd".to_owned(),
        };
        assert_eq!(status(&headers), Some(Err(expected)));
        headers.insert("grpc-status", http::HeaderValue::from_static("0"));
        assert_eq!(status(&headers), Some(Ok(())));
    }
}
