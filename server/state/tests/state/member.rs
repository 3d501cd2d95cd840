//! Members' records, the cluster's version, and records that stop a member.

use bytes::Bytes;
use keystead_proto::etcdserverpb::Member;
use keystead_proto::internal::{Record, RecordKind};
use keystead_state::{Fatal, Requests};

use crate::machine::Machine;
use crate::records::*;

fn member(name: &str, peer: &str, is_learner: bool) -> Member {
    Member {
        id: 0xfeed_0000_0000_0001,
        name: name.into(),
        peer_urls: vec![peer.into()],
        client_urls: vec![format!("http://{name}:2379")],
        is_learner,
    }
}

#[test]
fn a_known_member_publishes_its_name_and_client_urls_alone() {
    let mut machine = Machine::new();
    let publish = |member: &Member| record(RecordKind::MemberAttributes, member);
    machine.script([
        (publish(&member("one", "http://peer:2380", true)), "@1"),
        (
            publish(&member("other", "http://elsewhere:2380", false)),
            "@1",
        ),
    ]);
    let expected = member("other", "http://peer:2380", true);
    assert_eq!(machine.reader.members(), std::slice::from_ref(&expected));
    assert_eq!(machine.restart().reader.members(), [expected]);
}

#[test]
fn the_cluster_version_is_kept() {
    let mut machine = Machine::new();
    assert_eq!(machine.reader.cluster_version(), None);
    let kind = RecordKind::ClusterVersion.into();
    machine.script([(
        Record {
            kind,
            payload: bytes("3.6.0"),
            ..Default::default()
        },
        "@1",
    )]);
    assert_eq!(
        machine.restart().reader.cluster_version().as_deref(),
        Some("3.6.0")
    );
}

#[test]
fn a_record_that_can_not_be_understood_stops_the_member() {
    let payload = Bytes::from_static(b"\xff");
    let of = |kind: i32| Record {
        kind,
        payload: payload.clone(),
        ..Default::default()
    };
    let read = |record| Requests::read(&[record]);
    assert!(matches!(read(of(99)), Err(Fatal::UnknownKind(99))));
    assert!(matches!(read(of(0)), Err(Fatal::UnknownKind(0))));
    assert!(matches!(
        read(of(RecordKind::Put.into())),
        Err(Fatal::Undecodable { kind: "PUT", .. })
    ));
    assert!(matches!(
        read(of(RecordKind::ClusterVersion.into())),
        Err(Fatal::VersionNotText)
    ));
}
