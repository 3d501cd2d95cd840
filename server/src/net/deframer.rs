//! Cuts a request body into gRPC messages: `flag:1 length:4 payload`. No I/O, no HTTP.
//! A message that lies whole in one DATA frame is handed out as a slice of it, uncopied; one that spans frames
//! is gathered once, in a buffer of its exact size. A message over the limit is refused by its length alone.

use bytes::{Buf, Bytes, BytesMut};

use crate::error::{Code, GrpcStatus};

/// Bytes before each message.
pub(crate) const PREFIX_BYTES: usize = 5;

/// The bytes of one request body that have not been handed out.
pub(super) struct Deframer {
    /// What is left of the last DATA frame.
    chunk: Bytes,
    /// The beginning, prefix included, of a message that goes on in a later frame.
    gathered: BytesMut,
    limit_bytes: usize,
}

impl Deframer {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self {
            chunk: Bytes::new(),
            gathered: BytesMut::new(),
            limit_bytes,
        }
    }

    /// Takes the next DATA frame's bytes. All messages of the frames before must have been taken with [`Self::next`].
    pub(super) fn push(&mut self, chunk: Bytes) {
        debug_assert!(
            self.chunk.is_empty(),
            "a chunk is drained before the next is pushed"
        );
        self.chunk = chunk;
    }

    /// The next message's payload; `None` when its end has not arrived.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, GrpcStatus> {
        if !self.gathered.is_empty() {
            return self.gather();
        }
        if self.chunk.len() >= PREFIX_BYTES {
            let length = self.length_of(&self.chunk[..PREFIX_BYTES])?;
            if self.chunk.len() - PREFIX_BYTES >= length {
                self.chunk.advance(PREFIX_BYTES);
                return Ok(Some(self.chunk.split_to(length)));
            }
        }
        if self.chunk.is_empty() {
            Ok(None)
        } else {
            self.gather()
        }
    }

    /// Whether the body may end here: no message has begun that has not ended. A prefix that was cut short is no
    /// beginning, as in grpc-go.
    pub(super) fn may_end(&self) -> bool {
        self.gathered.len() + self.chunk.len() < PREFIX_BYTES
    }

    fn gather(&mut self) -> Result<Option<Bytes>, GrpcStatus> {
        self.take_up_to(PREFIX_BYTES);
        if self.gathered.len() < PREFIX_BYTES {
            return Ok(None);
        }
        let whole = PREFIX_BYTES + self.length_of(&self.gathered[..PREFIX_BYTES])?;
        self.take_up_to(whole);
        if self.gathered.len() < whole {
            return Ok(None);
        }
        let mut message = std::mem::take(&mut self.gathered).freeze();
        message.advance(PREFIX_BYTES);
        Ok(Some(message))
    }

    fn take_up_to(&mut self, whole: usize) {
        let missing = whole.saturating_sub(self.gathered.len());
        self.gathered.reserve(missing);
        let taken = self.chunk.split_to(missing.min(self.chunk.len()));
        self.gathered.extend_from_slice(&taken);
    }

    fn length_of(&self, prefix: &[u8]) -> Result<usize, GrpcStatus> {
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        match prefix[0] {
            0 if length > self.limit_bytes => Err(too_large(length, self.limit_bytes)),
            0 => Ok(length),
            1 => Err(GrpcStatus::new(
                Code::Internal,
                "grpc: compressed flag set with identity or empty encoding",
            )),
            flag => Err(GrpcStatus::new(
                Code::Internal,
                format!("grpc: received unexpected payload format {flag}"),
            )),
        }
    }
}

fn too_large(length: usize, limit: usize) -> GrpcStatus {
    GrpcStatus::new(
        Code::ResourceExhausted,
        format!("grpc: received message larger than max ({length} vs. {limit})"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("a test's message is small");
        [&[0u8][..], &length.to_be_bytes(), payload].concat()
    }

    /// Feeds `body` in pieces of `step` bytes and collects the messages.
    fn messages(body: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut deframer = Deframer::new(100);
        let mut out = Vec::new();
        for piece in body.chunks(step) {
            deframer.push(Bytes::copy_from_slice(piece));
            while let Some(message) = deframer.next().expect("the body is well formed") {
                out.push(message.to_vec());
            }
        }
        assert!(deframer.gathered.is_empty() && deframer.chunk.is_empty());
        out
    }

    #[test]
    fn messages_are_the_same_however_the_body_is_cut() {
        let body = [framed(b"one"), framed(b""), framed(&[7; 90]), framed(b"x")].concat();
        for step in 1..=body.len() {
            let expected = vec![b"one".to_vec(), vec![], vec![7; 90], b"x".to_vec()];
            assert_eq!(messages(&body, step), expected, "cut every {step} bytes");
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_prefix() {
        let mut deframer = Deframer::new(100);
        deframer.push(Bytes::from_static(&[0, 0, 0, 0, 101]));
        let refusal = deframer.next().expect_err("101 is over the limit");
        assert_eq!(refusal.code, Code::ResourceExhausted);
        assert_eq!(
            refusal.message,
            "grpc: received message larger than max (101 vs. 100)"
        );
    }

    #[test]
    fn a_compressed_message_is_refused() {
        let mut deframer = Deframer::new(100);
        deframer.push(Bytes::from_static(&[1, 0, 0, 0, 1, 0]));
        let refusal = deframer.next().expect_err("nothing can decompress it");
        assert_eq!(refusal.code, Code::Internal);
        assert_eq!(
            refusal.message,
            "grpc: compressed flag set with identity or empty encoding"
        );
    }
}
