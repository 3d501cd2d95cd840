//! How messages lie on a connection between members.
//!
//! ```text
//! length  4 bytes, little endian: of the body
//! crc     4 bytes, little endian: CRC-32C of the body
//! body    one message of peer.proto
//! ```
//!
//! The checksum is not left to TCP: its own has 16 bits and ends at each proxy, and what arrives here goes into the log
//! and is replicated state from then on. A frame that fails it ends the connection, and what it carried is sent again.

use std::io;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _};

const HEAD_BYTES: usize = 8;
/// A message of somebody who has not said who they are.
pub(crate) const GREETING_BYTES: usize = 64 << 10;
/// Any other: the log is cut into messages of a few megabytes, but one request may be as large as its limit allows.
pub(crate) const MOST_BYTES: usize = 1 << 30;
/// What is read at once, unless a frame is known to be longer.
const READ_BYTES: usize = 64 << 10;
/// A shorter body is copied, or each small entry of the log would hold the whole buffer that it arrived in, and the next read would
/// need another.
const COPIED_BYTES: usize = 8 << 10;

/// Appends `message` as a frame.
pub(crate) fn put(out: &mut BytesMut, message: &impl Message) {
    let length = message.encoded_len();
    out.reserve(HEAD_BYTES + length);
    let begin = out.len();
    out.put_bytes(0, HEAD_BYTES);
    message
        .encode(out)
        .expect("room for the message was made just now");
    let (head, body) = out[begin..].split_at_mut(HEAD_BYTES);
    head[..4].copy_from_slice(&(length as u32).to_le_bytes());
    head[4..].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
}

/// Cuts frames out of what arrives.
pub(crate) struct Frames<R> {
    from: R,
    buffer: BytesMut,
    most_bytes: usize,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Takes frames of up to `most_bytes`.
    pub(crate) fn new(from: R, most_bytes: usize) -> Self {
        Self {
            from,
            buffer: BytesMut::new(),
            most_bytes,
        }
    }

    /// Takes longer frames from now on.
    pub(crate) fn trust(&mut self) {
        self.most_bytes = MOST_BYTES;
    }

    /// The next message; none where the peer has closed the connection between two. What was dropped while it waited is
    /// not lost.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        loop {
            if let Some(body) = self.cut()? {
                return M::decode(body).map(Some).map_err(invalid);
            }
            let missing = self.frame_bytes()?.saturating_sub(self.buffer.len());
            self.buffer.reserve(missing.max(READ_BYTES));
            if self.from.read_buf(&mut self.buffer).await? > 0 {
                continue;
            }
            return match self.buffer.is_empty() {
                true => Ok(None),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
    }

    /// The length of the frame at the front, as far as it is known.
    fn frame_bytes(&self) -> io::Result<usize> {
        let Some(length) = self.buffer.first_chunk() else {
            return Ok(HEAD_BYTES);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > self.most_bytes {
            return Err(invalid(format!("a message of {length} bytes")));
        }
        Ok(HEAD_BYTES + length)
    }

    fn cut(&mut self) -> io::Result<Option<Bytes>> {
        let whole = self.frame_bytes()?;
        if self.buffer.len() < whole {
            return Ok(None);
        }
        let (head, body) = self.buffer[..whole].split_at(HEAD_BYTES);
        if crc32c::crc32c(body).to_le_bytes() != head[4..] {
            return Err(invalid("a message was damaged on its way"));
        }
        if body.len() <= COPIED_BYTES {
            let body = Bytes::copy_from_slice(body);
            self.buffer.advance(whole);
            return Ok(Some(body));
        }
        let mut frame = self.buffer.split_to(whole).freeze();
        Ok(Some(frame.split_off(HEAD_BYTES)))
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keystead_proto::peer::{Ask, Hello, ask};

    fn hello(from: u64) -> Hello {
        Hello {
            version: 1,
            from,
            ..Hello::default()
        }
    }

    async fn read(bytes: &[u8]) -> io::Result<Vec<Hello>> {
        let mut frames = Frames::new(bytes, GREETING_BYTES);
        let mut messages = Vec::new();
        while let Some(message) = frames.next().await? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[tokio::test]
    async fn messages_come_back_one_by_one_however_they_were_cut_on_the_way() {
        let mut out = BytesMut::new();
        let sent = [hello(1), Hello::default(), hello(u64::MAX)];
        sent.iter().for_each(|message| put(&mut out, message));
        let (near, mut far) = tokio::io::duplex(1);
        let sending = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut far, &out)
                .await
                .unwrap();
        });
        let mut frames = Frames::new(near, GREETING_BYTES);
        for message in &sent {
            assert_eq!(frames.next().await.unwrap().as_ref(), Some(message));
        }
        sending.await.unwrap();
        assert_eq!(frames.next::<Hello>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_small_message_does_not_hold_the_buffer_that_it_arrived_in() {
        let mut out = BytesMut::new();
        for bytes in [100, COPIED_BYTES, 100] {
            let what = Some(ask::What::Request(vec![0; bytes].into()));
            put(&mut out, &Ask { id: 1, what });
        }
        let mut frames = Frames::new(&out[..], GREETING_BYTES);
        for alone in [true, false, true] {
            let message = frames.next::<Ask>().await.unwrap().unwrap();
            let Some(ask::What::Request(request)) = message.what else {
                panic!("{message:?}");
            };
            assert_eq!(request.is_unique(), alone);
        }
    }

    #[tokio::test]
    async fn a_flipped_bit_a_cut_end_and_a_length_beyond_the_limit_end_the_connection() {
        let mut out = BytesMut::new();
        put(&mut out, &hello(7));
        put(&mut out, &hello(8));
        assert_eq!(read(&out).await.unwrap().len(), 2);
        for place in 0..out.len() {
            let mut flipped = out.clone();
            flipped[place] ^= 4;
            read(&flipped).await.unwrap_err();
        }
        for end in 1..out.len() {
            assert!(read(&out[..end]).await.map_or(true, |read| read.len() < 2));
        }
        let mut long = BytesMut::new();
        let what = Some(ask::What::Request(vec![0; GREETING_BYTES + 1].into()));
        put(&mut long, &Ask { id: 1, what });
        let refused = read(&long).await.unwrap_err().to_string();
        assert!(refused.contains("a message of 65"), "{refused}");
    }
}
