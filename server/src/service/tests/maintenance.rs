//! What operators ask for: alarms, status, members, hashes.

use std::time::Duration;

use keystead_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DeleteRangeRequest, DeleteRangeResponse, HashKvRequest, HashKvResponse, MemberListRequest,
    MemberListResponse, MoveLeaderRequest, MoveLeaderResponse, PutResponse, StatusRequest,
    StatusResponse, alarm_request::AlarmAction,
};

use super::{MEMBER, Running, do_put, header, put};
use crate::testing::Client;

#[tokio::test]
async fn over_the_quota_only_what_frees_space_is_taken_until_the_alarm_is_disarmed() {
    let member = Running::start_with(|config| config.quota_bytes = Some(1 << 20));
    let client = member.client().await;
    let mut refused = None;
    for n in 0..200 {
        let put = put(&format!("k{n}"), &"v".repeat(32 << 10));
        refused = client
            .unary::<PutResponse>("/etcdserverpb.KV/Put", &put)
            .await
            .err();
        if refused.is_some() {
            break;
        }
    }
    let no_space = (8, "etcdserver: mvcc: database space exceeded".to_owned());
    assert_eq!(refused, Some(no_space.clone()));
    let list = AlarmRequest::default();
    let alarms: AlarmResponse = wait_for_alarm(&client, &list).await;
    assert_eq!(
        (alarms.alarms[0].member_id, alarms.alarms[0].alarm()),
        (MEMBER, AlarmType::Nospace)
    );
    let small = client
        .unary::<PutResponse>("/etcdserverpb.KV/Put", &put("small", "v"))
        .await;
    assert_eq!(small, Err(no_space));
    let delete = DeleteRangeRequest {
        key: "k0".into(),
        ..DeleteRangeRequest::default()
    };
    client
        .unary::<DeleteRangeResponse>("/etcdserverpb.KV/DeleteRange", &delete)
        .await
        .expect("deleting is allowed");
    let status: StatusResponse = client
        .unary(
            "/etcdserverpb.Maintenance/Status",
            &StatusRequest::default(),
        )
        .await
        .expect("status");
    assert_eq!(status.errors, [format!("memberID:{MEMBER} alarm:NOSPACE ")]);
    let disarm = AlarmRequest {
        action: AlarmAction::Deactivate.into(),
        ..AlarmRequest::default()
    };
    let disarm = AlarmRequest {
        member_id: MEMBER,
        alarm: AlarmType::Nospace.into(),
        ..disarm
    };
    let gone: AlarmResponse = client
        .unary("/etcdserverpb.Maintenance/Alarm", &disarm)
        .await
        .expect("disarmed");
    assert_eq!(gone.alarms.len(), 1);
}

/// The alarm is proposed when the first put is refused, and is there when it is applied.
async fn wait_for_alarm(client: &Client, list: &AlarmRequest) -> AlarmResponse {
    for _ in 0..1000 {
        let alarms: AlarmResponse = client
            .unary("/etcdserverpb.Maintenance/Alarm", list)
            .await
            .expect("listed");
        if !alarms.alarms.is_empty() {
            return alarms;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no alarm was raised");
}

#[tokio::test]
async fn operators_tools_find_what_they_ask_for() {
    let member = Running::start();
    let client = member.client().await;
    do_put(&client, "k", "v").await;
    let status: StatusResponse = client
        .unary(
            "/etcdserverpb.Maintenance/Status",
            &StatusRequest::default(),
        )
        .await
        .expect("status");
    assert_eq!(
        (status.version.as_str(), status.leader, status.raft_term),
        (crate::REPORTED_VERSION, MEMBER, 1)
    );
    assert!(status.db_size > 0 && status.errors.is_empty() && status.db_size_quota == 2 << 30);
    let members: MemberListResponse = client
        .unary(
            "/etcdserverpb.Cluster/MemberList",
            &MemberListRequest { linearizable: true },
        )
        .await
        .expect("the members");
    assert_eq!(
        members.header,
        header(0),
        "the cluster's answers carry no revision"
    );
    assert_eq!(
        (members.members[0].id, members.members[0].name.as_str()),
        (MEMBER, "default")
    );
    let hash: HashKvResponse = client
        .unary(
            "/etcdserverpb.Maintenance/HashKV",
            &HashKvRequest::default(),
        )
        .await
        .expect("a hash");
    assert_eq!(
        (hash.header, hash.compact_revision, hash.hash_revision),
        (header(2), -1, 2)
    );
    let defragmented: DefragmentResponse = client
        .unary(
            "/etcdserverpb.Maintenance/Defragment",
            &DefragmentRequest::default(),
        )
        .await
        .expect("defragmented");
    assert_eq!(defragmented.header, None);
    for (target_id, expected) in [
        (MEMBER, Ok(MoveLeaderResponse::default())),
        (1, Err((9, "etcdserver: bad leader transferee".to_owned()))),
    ] {
        let moved = client
            .unary(
                "/etcdserverpb.Maintenance/MoveLeader",
                &MoveLeaderRequest { target_id },
            )
            .await;
        assert_eq!(moved, expected);
    }
}
