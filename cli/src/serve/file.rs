//! The configuration file of `--config-file`, in etcd's YAML. Called by the reader of arguments in place of flags and variables; what is
//! read goes the same way as theirs.
//!
//! As in etcd the keys are the flags' names in any case, a key that is none changes nothing, a null is as good as nothing, and a value must be of
//! the flag's type: a number is no text, and a duration is a number of nanoseconds.

use serde_json::{Map, Value};

use crate::serve::flags::{self, Kind};
use crate::serve::given::{Given, Origin, Refusal};

/// Objects of the file, and the flag that each of their keys stands for.
const OBJECTS: &[(&str, &[(&str, &str)])] = &[
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            (
                "skip-client-san-verification",
                "peer-skip-client-san-verification",
            ),
        ],
    ),
    (
        "socket-options",
        &[
            ("reuse-port", "socket-reuse-port"),
            ("reuse-address", "socket-reuse-address"),
        ],
    ),
    ("discovery-config", &[("token", "discovery-token")]),
];

/// A key that etcd reads under another name than the flag has.
const SNAPSHOT_ENTRIES: (&str, &str) = (
    "experimental-snapshot-catch-up-entries",
    "experimental-snapshot-catchup-entries",
);

/// Reads the file.
///
/// # Errors
/// It can't be read, is no YAML, or has a value that is not of its key's type.
pub fn read(path: &str) -> Result<Given, Refusal> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("open {path}: {error}"))?;
    let mut given = parse(&text).map_err(|refusal| match refusal {
        Refusal::Invalid(sentence) | Refusal::Usage(sentence) => {
            Refusal::Invalid(format!("{path}: {sentence}"))
        }
    })?;
    given.file = Some(path.to_owned());
    Ok(given)
}

fn parse(text: &str) -> Result<Given, Refusal> {
    let mut given = Given::default();
    match yaml_serde::from_str(text).map_err(|error| format!("not YAML: {error}"))? {
        Value::Null => {}
        Value::Object(options) => take_all(&mut given, options)?,
        _ => return Err("not a map of options".to_owned().into()),
    }
    Ok(given)
}

fn take_all(given: &mut Given, options: Map<String, Value>) -> Result<(), Refusal> {
    for (key, value) in options {
        let name = key.to_lowercase();
        let object = OBJECTS.iter().find(|(object, _)| *object == name);
        match object {
            Some((_, keys)) => take_object(given, &key, keys, value)?,
            None if name == SNAPSHOT_ENTRIES.0 => take(given, &key, SNAPSHOT_ENTRIES.1, &value)?,
            None => take(given, &key, &name, &value)?,
        }
    }
    Ok(())
}

fn take_object(
    given: &mut Given,
    object: &str,
    keys: &[(&str, &str)],
    value: Value,
) -> Result<(), Refusal> {
    let inner = match value {
        Value::Null => return Ok(()),
        Value::Object(inner) => inner,
        other => return Err(unfit(object, &other, "a map")),
    };
    for (key, value) in inner {
        let whole = format!("{object}.{key}");
        let name = keys.iter().find(|(known, _)| *known == key.to_lowercase());
        take(given, &whole, name.map_or("", |(_, flag)| flag), &value)?;
    }
    Ok(())
}

/// Takes the value of `key`, which stands for the flag `name`.
fn take(given: &mut Given, key: &str, name: &str, value: &Value) -> Result<(), Refusal> {
    let (kind, text) = match flags::find(name) {
        Some((_, Kind::Ignored, _)) | None => {
            let warning = format!("unknown option {key:?} in the configuration file");
            given.warnings.push(warning);
            return Ok(());
        }
        Some(_) if value.is_null() => return Ok(()),
        Some((_, kind, _)) => {
            let text = as_flag(kind, value).ok_or_else(|| unfit(key, value, told(kind)))?;
            (kind, text)
        }
    };
    // etcd takes no URLs in a file for its default.
    if kind != Kind::Urls || !text.is_empty() {
        given.take(name, &text, Origin::File)?;
    }
    Ok(())
}

/// The value as it would stand behind the flag; `None` when it is of another type.
fn as_flag(kind: Kind, value: &Value) -> Option<String> {
    match (kind, value) {
        (Kind::Text | Kind::Urls, Value::String(text)) => Some(text.clone()),
        (Kind::List, Value::Array(texts)) => {
            let texts: Option<Vec<&str>> = texts.iter().map(Value::as_str).collect();
            Some(texts?.join(","))
        }
        (Kind::Switch, Value::Bool(on)) => Some(on.to_string()),
        (Kind::Switch, Value::String(text)) => old_switch(text),
        (Kind::Unsigned, Value::Number(number)) => Some(number.as_u64()?.to_string()),
        (Kind::Integer, Value::Number(number)) => Some(number.as_i64()?.to_string()),
        (Kind::Duration, Value::Number(number)) => Some(format!("{}ns", number.as_i64()?)),
        _ => None,
    }
}

/// The words for true and false of YAML 1.1, which etcd reads.
fn old_switch(text: &str) -> Option<String> {
    match text.to_lowercase().as_str() {
        "yes" | "y" | "on" => Some("true".to_owned()),
        "no" | "n" | "off" => Some("false".to_owned()),
        _ => None,
    }
}

fn told(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Urls | Kind::Ignored => "a text; quote it",
        Kind::List => "a list of texts",
        Kind::Switch => "true or false",
        Kind::Unsigned | Kind::Integer => "a whole number",
        Kind::Duration => "a whole number of nanoseconds; 5000000000 is 5 s",
    }
}

fn unfit(key: &str, value: &Value, wanted: &str) -> Refusal {
    Refusal::Invalid(format!(
        "{key}: cannot use {value} where etcd wants {wanted}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_value_is_read_as_its_flag_would_be() {
        let given = parse(
            "name: m1\n\
             MAX-TXN-OPS: 9\n\
             quota-backend-bytes: -1\n\
             watch-progress-notify-interval: 5000000000\n\
             auto-compaction-retention: '1'\n\
             log-outputs: [stderr, /tmp/log]\n\
             pre-vote: yes\n\
             initial-cluster: null\n\
             initial-cluster-token: ''\n\
             client-transport-security:\n  auto-tls: false\n  cert-file: ''\n",
        )
        .expect("taken");
        for (name, text) in [
            ("name", "m1"),
            ("max-txn-ops", "9"),
            ("quota-backend-bytes", "-1"),
            ("watch-progress-notify-interval", "5000000000ns"),
            ("auto-compaction-retention", "1"),
            ("log-outputs", "stderr,/tmp/log"),
        ] {
            assert_eq!(given.get(name), Some(text), "{name}");
        }
        assert_eq!(given.get("initial-cluster"), None);
        assert_eq!(given.warnings.len(), 1, "pre-vote changes nothing");
    }

    #[test]
    fn a_value_of_another_type_is_refused_with_its_key() {
        for (text, key) in [
            ("max-txn-ops: many", "max-txn-ops"),
            ("max-txn-ops: -5", "max-txn-ops"),
            ("max-txn-ops: 1.5", "max-txn-ops"),
            ("name: 5", "name"),
            ("name: [m1]", "name"),
            ("watch-progress-notify-interval: 5s", "nanoseconds"),
            ("auto-compaction-retention: 1", "auto-compaction-retention"),
            ("log-outputs: stderr", "log-outputs"),
            ("strict-reconfig-check: 1", "strict-reconfig-check"),
            ("client-transport-security: 5", "client-transport-security"),
            ("listen-client-urls: ftp://x", "URL scheme must be"),
            (
                "client-transport-security: {cert-file: a.pem}",
                "--cert-file=a.pem: this version has no TLS",
            ),
            ("- name", "map"),
            ("a: [", "not YAML"),
        ] {
            match parse(text) {
                Err(Refusal::Invalid(sentence)) => {
                    assert!(sentence.contains(key), "{text}: {sentence}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_etcd_does_not_know_is_warned_of_and_an_empty_file_is_no_options() {
        let text = "no-such-option: 5\nclient-transport-security: {nope: 5}\nvv: 1";
        assert_eq!(parse(text).expect("taken").warnings.len(), 3);
        assert!(parse("").expect("taken").warnings.is_empty());
    }
}
