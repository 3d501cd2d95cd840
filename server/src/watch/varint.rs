//! Protobuf's variable-length integers, for the messages that the hub writes by hand.

/// The longest encoding of a u64.
pub(super) const MAX_LEN: usize = 10;

/// The encoded length of `value`.
pub(super) fn len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends `value`.
pub(super) fn put(out: &mut impl bytes::BufMut, value: u64) {
    prost::encoding::encode_varint(value, out);
}
