//! etcd's `mvccpb.KeyValue`, encoded and decoded by hand.
//!
//! A row's payload is this message exactly as a client receives it, so that Range, Watch and HashKV copy it without
//! decoding. Fields are written in the order of their numbers and left out when zero or empty, as every protobuf
//! encoder of etcd's does. The value field is the only one that [`strip_value`] takes away.

use bytes::{BufMut, Bytes};

const KEY: u64 = 1;
const CREATE_REVISION: u64 = 2;
const MOD_REVISION: u64 = 3;
const VERSION: u64 = 4;
const VALUE: u64 = 5;
const LEASE: u64 = 6;

const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;

/// One key's state at one revision, borrowed from its encoded form or about to be encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValueRef<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The main revision that created the key.
    pub create_revision: i64,
    /// The main revision that wrote this version.
    pub mod_revision: i64,
    /// How many times the key was written since it was created; the creation is 1.
    pub version: i64,
    /// The value.
    pub value: &'a [u8],
    /// The lease the key is attached to, 0 for none.
    pub lease: i64,
}

/// The bytes are not an encoded `KeyValue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an encoded KeyValue")]
pub struct Malformed;

impl<'a> KeyValueRef<'a> {
    /// Appends the message to `out`.
    pub fn encode_into(&self, out: &mut impl BufMut) {
        put_bytes(out, KEY, self.key);
        put_int(out, CREATE_REVISION, self.create_revision);
        put_int(out, MOD_REVISION, self.mod_revision);
        put_int(out, VERSION, self.version);
        put_bytes(out, VALUE, self.value);
        put_int(out, LEASE, self.lease);
    }

    /// The message in a buffer of its own, allocated once.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_len());
        self.encode_into(&mut out);
        Bytes::from(out)
    }

    /// How many bytes [`encode_into`](Self::encode_into) appends.
    pub fn encoded_len(&self) -> usize {
        bytes_len(self.key)
            + int_len(self.create_revision)
            + int_len(self.mod_revision)
            + int_len(self.version)
            + bytes_len(self.value)
            + int_len(self.lease)
    }

    /// Reads a message. A field that occurs twice counts as it was written last, as protobuf has it.
    ///
    /// # Errors
    /// [`Malformed`] when a length or a number runs past the end, or a field is none of `KeyValue`'s.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut found = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            match take_field(&mut rest)? {
                Field::Bytes(KEY, key) => found.key = key,
                Field::Bytes(VALUE, value) => found.value = value,
                Field::Int(CREATE_REVISION, number) => found.create_revision = number,
                Field::Int(MOD_REVISION, number) => found.mod_revision = number,
                Field::Int(VERSION, number) => found.version = number,
                Field::Int(LEASE, number) => found.lease = number,
                _ => return Err(Malformed),
            }
        }
        Ok(found)
    }
}

/// The payload without its value, for `keys_only`. Bytes that are no `KeyValue` come back as they are.
pub fn strip_value(payload: &[u8]) -> Bytes {
    let mut rest = payload;
    while !rest.is_empty() {
        let start = payload.len() - rest.len();
        match take_field(&mut rest) {
            Ok(Field::Bytes(VALUE, _)) => return [&payload[..start], rest].concat().into(),
            Ok(_) => {}
            Err(Malformed) => break,
        }
    }
    Bytes::copy_from_slice(payload)
}

enum Field<'a> {
    Int(u64, i64),
    Bytes(u64, &'a [u8]),
}

fn take_field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, Malformed> {
    let tag = take_varint(rest)?;
    let number = tag >> 3;
    match tag & 7 {
        VARINT => Ok(Field::Int(number, take_varint(rest)? as i64)),
        LENGTH_DELIMITED => {
            let len = usize::try_from(take_varint(rest)?).map_err(|_| Malformed)?;
            let (bytes, after) = rest.split_at_checked(len).ok_or(Malformed)?;
            *rest = after;
            Ok(Field::Bytes(number, bytes))
        }
        _ => Err(Malformed),
    }
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0u64;
    for (at, byte) in rest.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *rest = &rest[at + 1..];
            return Ok(number);
        }
    }
    Err(Malformed)
}

fn put_varint(out: &mut impl BufMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn put_bytes(out: &mut impl BufMut, field: u64, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_varint(out, field << 3 | LENGTH_DELIMITED);
        put_varint(out, bytes.len() as u64);
        out.put_slice(bytes);
    }
}

fn put_int(out: &mut impl BufMut, field: u64, number: i64) {
    if number != 0 {
        put_varint(out, field << 3 | VARINT);
        put_varint(out, number as u64);
    }
}

fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

fn bytes_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        0
    } else {
        1 + varint_len(bytes.len() as u64) + bytes.len()
    }
}

fn int_len(number: i64) -> usize {
    if number == 0 {
        0
    } else {
        1 + varint_len(number as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_those_of_etcd() {
        let kv = KeyValueRef {
            key: b"a",
            create_revision: 2,
            mod_revision: 300,
            version: 1,
            value: b"xy",
            lease: -1,
        };
        let expected = [
            &[
                0x0a, 1, b'a', 0x10, 2, 0x18, 0xac, 0x02, 0x20, 1, 0x2a, 2, b'x', b'y', 0x30,
            ][..],
            &[0xff; 9],
            &[0x01],
        ]
        .concat();
        assert_eq!(kv.encode(), expected);
    }

    #[test]
    fn a_tombstone_holds_only_its_key() {
        assert_eq!(
            KeyValueRef {
                key: b"k",
                ..Default::default()
            }
            .encode(),
            &[0x0a, 1, b'k'][..]
        );
    }

    #[test]
    fn foreign_and_cut_bytes_are_refused() {
        let kv = KeyValueRef {
            key: b"key",
            create_revision: 7,
            mod_revision: 7,
            version: 1,
            value: b"v",
            lease: 0,
        };
        let bytes = kv.encode();
        assert!(KeyValueRef::decode(&bytes[..4]).is_err());
        assert!(KeyValueRef::decode(&[0x3a, 0]).is_err(), "field 7");
        assert!(
            KeyValueRef::decode(&[0x0d, 0, 0, 0, 0]).is_err(),
            "a fixed32"
        );
        assert!(
            KeyValueRef::decode(&[
                0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff
            ])
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_and_stripping_takes_the_value_alone(
            key: Vec<u8>, value: Vec<u8>, create_revision: i64, mod_revision: i64, version: i64, lease: i64
        ) {
            let kv = KeyValueRef { key: &key, create_revision, mod_revision, version, value: &value, lease };
            let bytes = kv.encode();
            prop_assert_eq!(bytes.len(), kv.encoded_len());
            prop_assert_eq!(KeyValueRef::decode(&bytes), Ok(kv));
            let stripped = strip_value(&bytes);
            prop_assert_eq!(KeyValueRef::decode(&stripped), Ok(KeyValueRef { value: b"", ..kv }));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
            let _ = KeyValueRef::decode(&bytes);
            let _ = strip_value(&bytes);
        }
    }
}
