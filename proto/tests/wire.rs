//! What the generated code puts on the wire, held against bytes and names that etcd's clients depend on.

use bytes::Bytes;
use keystead_proto::etcdserverpb::compare::TargetUnion;
use keystead_proto::etcdserverpb::*;
use keystead_proto::internal::{Authenticate, Entry, Origin, Record, RecordKind};
use keystead_proto::mvccpb::{Event, KeyValue, event::EventType};
use prost::Message;

#[track_caller]
fn check(message: &impl Message, encoded: &[u8]) {
    assert_eq!(message.encode_to_vec(), encoded);
}

#[test]
fn a_key_is_encoded_as_etcd_encodes_it() {
    let kv = KeyValue {
        key: Bytes::from_static(b"k"),
        create_revision: 2,
        mod_revision: 300,
        version: 1,
        value: Bytes::from_static(b"v"),
        lease: 7,
    };
    check(
        &kv,
        b"\x0a\x01k\x10\x02\x18\xac\x02\x20\x01\x2a\x01v\x30\x07",
    );
}

#[test]
fn the_numbers_that_are_out_of_line_are_etcds() {
    let compare = Compare {
        target: 2,
        target_union: Some(TargetUnion::ModRevision(5)),
        range_end: Bytes::from_static(b"\0"),
        ..Default::default()
    };
    check(&compare, b"\x10\x02\x30\x05\x82\x04\x01\x00");
    let event = Event {
        r#type: EventType::Delete.into(),
        kv: None,
        prev_kv: None,
    };
    check(
        &WatchResponse {
            watch_id: -1,
            events: vec![event],
            ..Default::default()
        },
        b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x5a\x02\x08\x01",
    );
    check(&LeaseGrantRequest { ttl: 10, id: 0 }, b"\x08\x0a");
    check(
        &AuthUserRevokeRoleRequest {
            name: "u".into(),
            role: "r".into(),
        },
        b"\x0a\x01u\x12\x01r",
    );
    let member = Member {
        id: 1,
        client_urls: vec!["c".into()],
        is_learner: true,
        ..Default::default()
    };
    check(&member, b"\x08\x01\x22\x01c\x28\x01");
}

#[test]
fn an_entry_of_the_log_stays_readable() {
    let record = Record {
        kind: RecordKind::Txn.into(),
        payload: Bytes::from_static(b"\x01"),
        user: "u".into(),
        auth_revision: 4,
        own: false,
    };
    let own = Record {
        kind: RecordKind::RoleRevokePermission.into(),
        own: true,
        ..Default::default()
    };
    let origin = Origin {
        sender: 1,
        number: 2,
        first: 3,
        count: 4,
    };
    let entry = Entry {
        version: 1,
        records: vec![record, own],
        origins: vec![origin],
    };
    let golden: &[u8] =
        b"\x08\x01\x12\x0a\x08\x03\x12\x01\x01\x1a\x01u\x20\x04\x12\x04\x08\x15\x28\x01\x1a\x08\x08\x01\x10\x02\x18\x03\x20\x04";
    check(&entry, golden);
    assert_eq!(Entry::decode(golden), Ok(entry));
    let login = Authenticate {
        name: "u".into(),
        simple_token: "t".into(),
    };
    check(&login, b"\x0a\x01u\x12\x01t");
}

#[test]
fn decoding_from_shared_bytes_copies_no_value() {
    let put = PutRequest {
        value: Bytes::from_static(b"value"),
        ..Default::default()
    };
    let encoded = Bytes::from(put.encode_to_vec());
    let decoded = PutRequest::decode(encoded.clone()).expect("decodes");
    assert!(encoded.as_ptr_range().contains(&decoded.value.as_ptr()));
}

#[test]
fn services_have_etcds_names() {
    use keystead_proto::{health, v3electionpb, v3lockpb};
    let names = [
        kv_server::SERVICE_NAME,
        watch_server::SERVICE_NAME,
        lease_server::SERVICE_NAME,
        cluster_server::SERVICE_NAME,
        maintenance_server::SERVICE_NAME,
        auth_server::SERVICE_NAME,
        v3lockpb::lock_server::SERVICE_NAME,
        v3electionpb::election_server::SERVICE_NAME,
        health::health_server::SERVICE_NAME,
    ];
    let expected = [
        "etcdserverpb.KV",
        "etcdserverpb.Watch",
        "etcdserverpb.Lease",
        "etcdserverpb.Cluster",
        "etcdserverpb.Maintenance",
        "etcdserverpb.Auth",
        "v3lockpb.Lock",
        "v3electionpb.Election",
        "grpc.health.v1.Health",
    ];
    assert_eq!(names, expected);
}
