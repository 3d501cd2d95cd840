//! One address of a service, as it stands in the store: the key is the service's name and the address, the value is JSON as Go's package
//! writes it. Pure.
//!
//! ```text
//!   services/api/10.0.0.1:80  →  {"Op":0,"Addr":"10.0.0.1:80","Metadata":{"zone":"a"}}
//! ```

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

/// Where a service can be reached.
///
/// ```
/// # use keystead_client::{Endpoint, serde_json::json};
/// let endpoint = Endpoint {
///     metadata: json!({"zone": "a", "weight": 3}),
///     ..Endpoint::new("10.0.0.1:80")
/// };
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The address, in whatever form its users understand.
    pub address: String,
    /// What else there is to know; `null` for nothing.
    pub metadata: Value,
}

impl Endpoint {
    /// An address of which there is nothing else to know.
    pub fn new(address: impl Into<String>) -> Endpoint {
        Endpoint {
            address: address.into(),
            metadata: Value::Null,
        }
    }
}

/// Go's fields in Go's order. Its `Op` says what an older version of it did, and is 0 in what is there.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(rename = "Op")]
    op: u8,
    #[serde(rename = "Addr")]
    addr: &'a str,
    #[serde(rename = "Metadata")]
    metadata: &'a Value,
}

/// The prefix of a service's keys.
pub(super) fn prefix(service: &[u8]) -> Bytes {
    [service, b"/"].concat().into()
}

/// The key of an address.
pub(super) fn key(service: &[u8], address: &str) -> Bytes {
    [&prefix(service), address.as_bytes()].concat().into()
}

/// The value, to the letter as Go writes it.
pub(super) fn encode(endpoint: &Endpoint) -> Bytes {
    let written = Written {
        op: 0,
        addr: &endpoint.address,
        metadata: &endpoint.metadata,
    };
    let json = serde_json::to_string(&written).expect("strings, numbers and JSON are JSON");
    // Go escapes what might be taken for HTML or end a line of JavaScript. Outside of strings none of these is JSON.
    let mut escaped = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            _ => escaped.push(letter),
        }
    }
    escaped.into()
}

/// What a value says; `None` when there is no address in it, or it is none of ours at all.
pub(super) fn decode(value: &[u8]) -> Option<Endpoint> {
    let mut fields: Map<String, Value> = serde_json::from_slice(value).ok()?;
    match fields.remove("Addr")? {
        Value::String(address) if !address.is_empty() => Some(Endpoint {
            address,
            metadata: fields.remove("Metadata").unwrap_or_default(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_is_what_go_writes_and_comes_back_as_it_was() {
        for (metadata, written) in [
            (
                Value::Null,
                r#"{"Op":0,"Addr":"10.0.0.1:80","Metadata":null}"#,
            ),
            (
                json!("<a & b>\u{2028}é"),
                r#"{"Op":0,"Addr":"10.0.0.1:80","Metadata":"\u003ca \u0026 b\u003e\u2028é"}"#,
            ),
            (
                json!({"zone": "a", "weight": 3, "tags": [1.5, true]}),
                r#"{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"tags":[1.5,true],"weight":3,"zone":"a"}}"#,
            ),
        ] {
            let endpoint = Endpoint {
                metadata,
                ..Endpoint::new("10.0.0.1:80")
            };
            assert_eq!(encode(&endpoint), written);
            assert_eq!(decode(written.as_bytes()), Some(endpoint));
        }
        assert_eq!(
            key(b"services/api", "10.0.0.1:80"),
            "services/api/10.0.0.1:80"
        );
    }

    #[test]
    fn what_others_write_is_read_or_passed_over() {
        assert_eq!(decode(br#"{"Addr":"a:1"}"#), Some(Endpoint::new("a:1")));
        assert_eq!(
            decode(br#"{"Op":1,"Addr":"a:1","Metadata":null,"More":[]}"#),
            Some(Endpoint::new("a:1"))
        );
        let nothings = ["", "a:1", r#"["a:1"]"#, r#"{"Addr":1}"#, r#"{"Addr":""}"#];
        for none in nothings.into_iter().chain([r#"{"Metadata":1}"#]) {
            assert_eq!(decode(none.as_bytes()), None, "{none}");
        }
    }
}
