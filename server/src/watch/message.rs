//! WatchResponse messages, written straight into a stream's outbox.
//!
//! Each is preceded by gRPC's five bytes (not compressed, length), so that an outbox with any number
//! of messages goes to the connection as one piece. Events come already encoded.

use super::varint;

const HEADER: u8 = 1 << 3 | 2;
const WATCH_ID: u8 = 2 << 3;
const CREATED: u8 = 3 << 3;
const CANCELED: u8 = 4 << 3;
const COMPACT_REVISION: u8 = 5 << 3;
const CANCEL_REASON: u8 = 6 << 3 | 2;
const FRAGMENT: u8 = 7 << 3;

/// gRPC's flag and length before each message.
pub(super) const PREFIX_LEN: usize = 5;

/// What a message says besides its events.
#[derive(Clone, Copy, Default)]
pub(super) struct Head<'a> {
    /// The encoded ResponseHeader.
    pub(super) header: &'a [u8],
    pub(super) watch_id: i64,
    pub(super) created: bool,
    pub(super) canceled: bool,
    pub(super) compact_revision: i64,
    pub(super) cancel_reason: &'a str,
    pub(super) fragment: bool,
}

impl Head<'_> {
    /// The length of the message without its events.
    pub(super) fn len(&self) -> usize {
        let number = |value: i64| {
            if value == 0 {
                0
            } else {
                1 + varint::len(value as u64)
            }
        };
        let flag = |set: bool| if set { 2 } else { 0 };
        let bytes = |len: usize| 1 + varint::len(len as u64) + len;
        let reason = self.cancel_reason.len();
        bytes(self.header.len())
            + number(self.watch_id)
            + flag(self.created)
            + flag(self.canceled)
            + number(self.compact_revision)
            + if reason == 0 { 0 } else { bytes(reason) }
            + flag(self.fragment)
    }

    /// Appends the prefix and the message up to its events, of which `events_len` bytes follow.
    pub(super) fn put(&self, out: &mut Vec<u8>, events_len: usize) {
        let len = self.len() + events_len;
        out.reserve(PREFIX_LEN + len);
        out.push(0);
        out.extend_from_slice(&(len as u32).to_be_bytes());
        out.push(HEADER);
        varint::put(out, self.header.len() as u64);
        out.extend_from_slice(self.header);
        put_number(out, WATCH_ID, self.watch_id);
        put_number(out, CREATED, i64::from(self.created));
        put_number(out, CANCELED, i64::from(self.canceled));
        put_number(out, COMPACT_REVISION, self.compact_revision);
        if !self.cancel_reason.is_empty() {
            out.push(CANCEL_REASON);
            varint::put(out, self.cancel_reason.len() as u64);
            out.extend_from_slice(self.cancel_reason.as_bytes());
        }
        put_number(out, FRAGMENT, i64::from(self.fragment));
    }
}

fn put_number(out: &mut Vec<u8>, tag: u8, value: i64) {
    if value != 0 {
        out.push(tag);
        varint::put(out, value as u64);
    }
}

/// Cuts a message of `sizes` (its events, in order) into parts below `limit`, as etcd does: each part
/// takes events while it stays below the limit, and at least one.
pub(super) fn fragments(head_len: usize, sizes: &[usize], limit: usize) -> Vec<usize> {
    let mut parts = Vec::new();
    let mut taken = 0;
    while taken < sizes.len() {
        let mut len = head_len;
        let mut count = 0;
        for size in &sizes[taken..] {
            if count > 0 && len + size >= limit {
                break;
            }
            len += size;
            count += 1;
        }
        parts.push(count);
        taken += count;
    }
    parts
}
