//! The JSON form: what Go's encoder makes of etcd's messages. Numbers stay numbers, bytes are base64, and in most messages what is zero
//! is left out. Fields stand in the order of the messages.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keystead_client::{
    Access, Alarm, AlarmKind, DeleteResult, Event, EventKind, Header, KeyValue, Member, Members,
    OpResult, Permission, PutResult, RangeResult, Status, TxnResult,
};
use serde::Serialize;

use super::answer::{Answer, Changes, Health};
use super::{Printer, Written};
use crate::go_text::duration;

pub(super) fn write(
    out: &mut impl Write,
    printer: &Printer,
    answer: &Answer,
) -> io::Result<Written> {
    let text = match answer {
        Answer::Put(result) => put(result),
        Answer::Range(result) => range(result),
        Answer::Delete(result) => deleted(result),
        Answer::Txn(result) => txn(result),
        Answer::Watch(changes) => watch(changes),
        Answer::Granted(granted) => object(header_fields(&granted.header).into_iter().chain([
            always("ID", granted.lease),
            always("TTL", granted.ttl.as_secs()),
            always("Error", ""),
        ])),
        Answer::Revoked { header, .. }
        | Answer::LeaderMoved { header, .. }
        | Answer::Done { header, .. } => object([headed(header)]),
        Answer::KeptAlive { lease, ttl, header } => object(
            header_fields(header)
                .into_iter()
                .chain([always("ID", lease), always("TTL", ttl.as_secs())]),
        ),
        Answer::TimeToLive { lease, .. } => {
            let keys: Vec<_> = lease.keys.iter().map(|key| base64(key)).collect();
            let ttl = lease.remaining.map_or(-1, |ttl| ttl.as_secs() as i64);
            object(header_fields(&lease.header).into_iter().chain([
                always("id", lease.lease),
                always("ttl", ttl),
                always("granted-ttl", lease.granted.as_secs()),
                always("keys", (!keys.is_empty()).then_some(keys)),
            ]))
        }
        Answer::Leases(leases) => {
            let ids = leases
                .leases
                .iter()
                .map(|lease| object([always("id", lease)]));
            object(
                header_fields(&leases.header)
                    .into_iter()
                    .chain([raw("leases", array(ids))]),
            )
        }
        Answer::Members(listed) if printer.hex => members_in_hex(listed),
        Answer::Members(listed)
        | Answer::MemberChanged {
            members: listed, ..
        } => object([headed(&listed.header), members(&listed.members)]),
        Answer::MemberAdded { added, .. } => object([
            headed(&added.header),
            raw("member", member(&added.member)),
            members(&added.members),
        ]),
        Answer::Health(endpoints) => array_or_null(endpoints.iter().map(health)),
        Answer::Statuses(statuses) => array_or_null(statuses.iter().map(|(endpoint, found)| {
            object([always("Endpoint", endpoint), raw("Status", status(found))])
        })),
        Answer::Hashes(hashes) => array_or_null(hashes.iter().map(|(endpoint, hash)| {
            let found = object([
                headed(&hash.header),
                nonzero("hash", hash.hash),
                nonzero("compact_revision", hash.compact_revision),
                nonzero("hash_revision", hash.revision),
            ]);
            object([always("Endpoint", endpoint), raw("HashKV", found)])
        })),
        Answer::AuthStatus(status) => object([
            headed(&status.header),
            nonzero("enabled", status.enabled),
            nonzero("authRevision", status.auth_revision),
        ]),
        Answer::User { user, .. } => object([
            headed(&user.header),
            nonzero("roles", user.roles.as_slice()),
        ]),
        Answer::Users(users) => object([
            headed(&users.header),
            nonzero("users", users.users.as_slice()),
        ]),
        Answer::Role { role, .. } => object([
            headed(&role.header),
            filled("perm", role.permissions.iter().map(permission)),
        ]),
        Answer::Roles(roles) => object([
            headed(&roles.header),
            nonzero("roles", roles.roles.as_slice()),
        ]),
        Answer::Alarms { header, alarms } => object([
            header.and_then(headed),
            filled("alarms", alarms.iter().map(alarm)),
        ]),
    };
    writeln!(out, "{}", as_go_escapes(&text))?;
    Ok(Written::Yes)
}

/// A field, if it is not left out.
type Field = Option<(&'static str, String)>;

fn object(fields: impl IntoIterator<Item = Field>) -> String {
    let fields = fields.into_iter().flatten();
    let fields: Vec<_> = fields
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", fields.join(","))
}

fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// A list of Go's that nothing was ever put in.
fn array_or_null(items: impl ExactSizeIterator<Item = String>) -> String {
    if items.len() == 0 {
        "null".to_owned()
    } else {
        array(items)
    }
}

fn raw(name: &'static str, value: String) -> Field {
    Some((name, value))
}

fn always(name: &'static str, value: impl Serialize) -> Field {
    let text = serde_json::to_string(&value).expect("numbers, strings and lists of them are JSON");
    raw(name, text)
}

/// Left out where it is Go's zero.
fn nonzero<T: Serialize + Default + PartialEq>(name: &'static str, value: T) -> Field {
    (value != T::default())
        .then(|| always(name, value))
        .flatten()
}

/// Left out where it is empty.
fn filled(name: &'static str, items: impl ExactSizeIterator<Item = String>) -> Field {
    (items.len() > 0).then(|| (name, array(items)))
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn header_fields(header: &Header) -> [Field; 4] {
    [
        nonzero("cluster_id", header.cluster_id),
        nonzero("member_id", header.member_id),
        nonzero("revision", header.revision),
        nonzero("raft_term", header.raft_term),
    ]
}

fn headed(header: &Header) -> Field {
    raw("header", object(header_fields(header)))
}

fn pair(kv: &KeyValue) -> String {
    object([
        nonzero("key", base64(&kv.key)),
        nonzero("create_revision", kv.create_revision),
        nonzero("mod_revision", kv.mod_revision),
        nonzero("version", kv.version),
        nonzero("value", base64(&kv.value)),
        nonzero("lease", kv.lease),
    ])
}

fn put(result: &PutResult) -> String {
    let before = result.prev_kv.as_ref().map(|kv| ("prev_kv", pair(kv)));
    object([headed(&result.header), before])
}

fn range(result: &RangeResult) -> String {
    object([
        headed(&result.header),
        filled("kvs", result.kvs.iter().map(pair)),
        nonzero("more", result.more),
        nonzero("count", result.count),
    ])
}

fn deleted(result: &DeleteResult) -> String {
    object([
        headed(&result.header),
        nonzero("deleted", result.deleted),
        filled("prev_kvs", result.prev_kvs.iter().map(pair)),
    ])
}

fn txn(result: &TxnResult) -> String {
    let responses = result.results.iter().map(|result| {
        let response = match result {
            OpResult::Range(result) => ("response_range", range(result)),
            OpResult::Put(result) => ("response_put", put(result)),
            OpResult::Delete(result) => ("response_delete_range", deleted(result)),
            OpResult::Txn(result) => ("response_txn", txn(result)),
        };
        object([raw("Response", object([Some(response)]))])
    });
    object([
        headed(&result.header),
        nonzero("succeeded", result.succeeded),
        filled("responses", responses),
    ])
}

fn watch(changes: &Changes) -> String {
    object([
        raw("Header", object(header_fields(&changes.header))),
        raw("Events", array(changes.events.iter().map(event))),
        always("CompactRevision", changes.compact_revision),
        always("Canceled", changes.cancelled),
        always("Created", false),
    ])
}

fn event(event: &Event) -> String {
    let kind = match event.kind {
        EventKind::Put => 0,
        EventKind::Delete => 1,
    };
    let before = event.prev_kv.as_ref().map(|kv| ("prev_kv", pair(kv)));
    object([nonzero("type", kind), raw("kv", pair(&event.kv)), before])
}

fn member(member: &Member) -> String {
    object([
        nonzero("ID", member.id),
        nonzero("name", member.name.as_str()),
        nonzero("peerURLs", member.peer_urls.as_slice()),
        nonzero("clientURLs", member.client_urls.as_slice()),
        nonzero("isLearner", member.is_learner),
    ])
}

fn members(members: &[Member]) -> Field {
    filled("members", members.iter().map(member))
}

/// etcdctl has a form of its own for `member list --hex`: it leaves out the revision, and who is a learner.
fn members_in_hex(members: &Members) -> String {
    let hex = |id: u64| format!("{id:x}");
    let header = object([
        always("cluster_id", hex(members.header.cluster_id)),
        always("member_id", hex(members.header.member_id)),
        always("raft_term", members.header.raft_term),
    ]);
    let member = |member: &Member| {
        let urls = |urls: &[String]| (!urls.is_empty()).then(|| urls.to_vec());
        object([
            always("ID", hex(member.id)),
            always("name", &member.name),
            always("peerURLs", urls(&member.peer_urls)),
            always("clientURLs", urls(&member.client_urls)),
        ])
    };
    object([
        raw("header", header),
        filled("members", members.members.iter().map(member)),
    ])
}

fn health(health: &Health) -> String {
    object([
        always("endpoint", &health.endpoint),
        always("health", health.error.is_none()),
        always("took", duration(health.took)),
        health
            .error
            .as_ref()
            .and_then(|error| always("error", error)),
    ])
}

fn status(status: &Status) -> String {
    let downgrade = status.downgrade.as_ref().map(|downgrade| {
        let fields = object([
            nonzero("enabled", downgrade.enabled),
            nonzero("targetVersion", downgrade.target_version.as_str()),
        ]);
        ("downgradeInfo", fields)
    });
    object([
        headed(&status.header),
        nonzero("version", status.version.as_str()),
        nonzero("dbSize", status.db_size_bytes),
        nonzero("leader", status.leader),
        nonzero("raftIndex", status.raft_index),
        nonzero("raftTerm", status.raft_term),
        nonzero("raftAppliedIndex", status.raft_applied_index),
        nonzero("errors", status.errors.as_slice()),
        nonzero("dbSizeInUse", status.db_size_in_use_bytes),
        nonzero("isLearner", status.is_learner),
        nonzero("storageVersion", status.storage_version.as_str()),
        nonzero("dbSizeQuota", status.db_size_quota_bytes),
        downgrade,
    ])
}

fn alarm(alarm: &Alarm) -> String {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => 1,
        AlarmKind::Corrupt => 2,
        _ => 0,
    };
    object([nonzero("memberID", alarm.member_id), nonzero("alarm", kind)])
}

fn permission(permission: &Permission) -> String {
    let access = match permission.access {
        Access::Write => 1,
        Access::ReadWrite => 2,
        _ => 0,
    };
    object([
        nonzero("permType", access),
        nonzero("key", base64(&permission.keys.key)),
        nonzero("range_end", base64(&permission.keys.end)),
    ])
}

/// Go's encoder escapes what HTML would take for its own. Outside of strings JSON has none of these.
fn as_go_escapes(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_zero_is_left_out_where_go_leaves_it_out() {
        let kv = KeyValue {
            key: "k<".into(),
            version: 1,
            ..KeyValue::default()
        };
        assert_eq!(pair(&kv), r#"{"key":"azw=","version":1}"#);
        let changes = watch(&Changes::default());
        let empty =
            r#"{"Header":{},"Events":[],"CompactRevision":0,"Canceled":false,"Created":false}"#;
        assert_eq!(changes, empty);
        assert_eq!(txn(&TxnResult::default()), r#"{"header":{}}"#);
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        let name = object([always("name", "<a&b>\u{2028}")]);
        assert_eq!(
            as_go_escapes(&name),
            r#"{"name":"\u003ca\u0026b\u003e\u2028"}"#
        );
    }
}
