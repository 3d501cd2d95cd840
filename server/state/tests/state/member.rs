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

fn added(id: u64, peer: &str, is_learner: bool) -> Member {
    Member {
        id,
        peer_urls: vec![peer.into()],
        is_learner,
        ..Member::default()
    }
}

fn publish(member: &Member) -> Record {
    record(RecordKind::MemberAttributes, member)
}

#[test]
fn a_known_member_publishes_its_name_and_client_urls_alone() {
    let mut machine = Machine::new();
    let id = member("", "", true).id;
    machine.change_members(vec![added(id, "http://peer:2380", true)]);
    machine.script([(
        publish(&member("other", "http://elsewhere:2380", false)),
        "@1",
    )]);
    let expected = member("other", "http://peer:2380", true);
    assert_eq!(machine.reader.members(), std::slice::from_ref(&expected));
    assert_eq!(machine.restart().reader.members(), [expected]);
}

#[test]
fn a_change_of_members_keeps_what_those_that_stay_have_published() {
    let mut machine = Machine::new();
    let one = member("one", "http://old:2380", true);
    let founder = Member {
        name: "founded".into(),
        ..added(one.id, "http://old:2380", true)
    };
    machine.change_members(vec![founder.clone()]);
    assert_eq!(machine.reader.members(), [founder]);
    machine.script([(publish(&one), "@1")]);
    machine.change_members(vec![
        added(2, "http://two:2380", true),
        added(one.id, "http://moved:2380", false),
    ]);
    let expected = [
        added(2, "http://two:2380", true),
        member("one", "http://moved:2380", false),
    ];
    assert_eq!(machine.reader.members(), expected);
    assert_eq!(machine.restart().reader.members(), expected);
}

#[test]
fn a_removed_member_is_remembered_and_no_longer_heard() {
    let mut machine = Machine::new();
    let one = member("one", "http://one:2380", false);
    let two = added(2, "http://two:2380", false);
    machine.change_members(vec![added(one.id, "http://one:2380", false), two.clone()]);
    for _again in 0..2 {
        machine.change_members(vec![two.clone()]);
        machine.script([(publish(&one), "@1")]);
        assert_eq!(machine.reader.members(), std::slice::from_ref(&two));
        assert!(machine.reader.was_removed(one.id) && !machine.reader.was_removed(2));
    }
    let machine = machine.restart();
    assert!(machine.reader.was_removed(one.id) && !machine.reader.was_removed(2));
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
