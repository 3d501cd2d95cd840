//! Maintenance: status, alarms, hashes, defragmentation, snapshots.

use std::collections::BTreeSet;

use keystead_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keystead_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DefragmentRequest, HashKvRequest, HashRequest, PutRequest,
    SnapshotRequest, StatusRequest,
};
use keystead_tests::{Session, Unary, on_both};

use super::requests::{compact, delete, delete_range, everything, get, grant, op, put, txn};

const GET: i32 = 0;
const ACTIVATE: i32 = 1;
const DEACTIVATE: i32 = 2;

/// One write of each kind, in a txn too.
async fn history(s: &mut Session) {
    s.call(grant(5, 1000)).await.ok();
    for number in 0..12 {
        s.call(PutRequest {
            lease: 5 * (number % 2),
            ..put(&format!("k{}", number % 5), "v")
        })
        .await
        .ok();
    }
    s.call(txn(
        vec![],
        vec![
            op(put("a", "1")),
            op(put("b", "2")),
            op(delete_range("k0", "k2")),
        ],
        vec![],
    ))
    .await
    .ok();
    s.call(delete("k3")).await.ok();
}

#[tokio::test]
async fn the_same_history_has_the_same_hash_at_every_revision() {
    on_both(async |s| {
        history(s).await;
        for revision in -1..18 {
            s.call(HashKvRequest { revision }).await.ok();
        }
        s.call(HashRequest {}).await.ok();
        for compacted in [9, 15] {
            s.call(physically(compacted)).await.ok();
            for revision in 7..18 {
                s.call(HashKvRequest { revision }).await.ok();
            }
        }
        s.server().kill();
        s.server().restart().await;
        for revision in [0, 9, 16] {
            s.call(HashKvRequest { revision }).await.ok();
        }
    })
    .await;
}

#[tokio::test]
async fn the_hashes_of_the_last_ten_compactions_are_repeated() {
    on_both(async |s| {
        for round in 0..36 {
            s.call(put(&format!("k{}", round % 5), "v")).await.ok();
            if round % 4 == 1 {
                s.call(delete(&format!("k{}", round % 3))).await.ok();
            }
            if round % 3 == 2 {
                s.call(physically(round)).await.ok();
            }
        }
        // Nothing lives at this one.
        s.call(delete_range("k", "l")).await.ok();
        s.call(put("after", "v")).await.ok();
        s.call(physically(46)).await.ok();
        s.call(physically(47)).await.ok();
        for revision in -1..49 {
            s.call(HashKvRequest { revision }).await.ok();
        }
    })
    .await;
}

/// A compaction that is answered when the revisions are gone.
fn physically(revision: i64) -> CompactionRequest {
    CompactionRequest {
        revision,
        physical: true,
    }
}

#[tokio::test]
async fn status_has_every_field_that_etcd_fills() {
    on_both(async |s| {
        s.call(StatusRequest {}).await.ok();
        history(s).await;
        s.call(StatusRequest {}).await.ok();
        s.call(AlarmRequest {
            action: ACTIVATE,
            alarm: 1,
            member_id: 0,
        })
        .await
        .ok();
        s.call(StatusRequest {}).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_space_alarm_refuses_what_grows_and_nothing_else() {
    on_both(async |s| {
        history(s).await;
        s.call(AlarmRequest {
            action: GET,
            alarm: 0,
            member_id: 0,
        })
        .await
        .ok();
        s.call(AlarmRequest {
            action: ACTIVATE,
            alarm: 1,
            member_id: 77,
        })
        .await
        .ok();
        s.call(AlarmRequest {
            action: ACTIVATE,
            alarm: 1,
            member_id: 77,
        })
        .await
        .ok();
        s.call(AlarmRequest {
            action: GET,
            alarm: 0,
            member_id: 0,
        })
        .await
        .ok();
        while_alarmed(s).await;
        s.call(AlarmRequest {
            action: DEACTIVATE,
            alarm: 2,
            member_id: 77,
        })
        .await
        .ok();
        s.call(AlarmRequest {
            action: DEACTIVATE,
            alarm: 1,
            member_id: 78,
        })
        .await
        .ok();
        s.call(AlarmRequest {
            action: DEACTIVATE,
            alarm: 1,
            member_id: 77,
        })
        .await
        .ok();
        s.call(AlarmRequest {
            action: GET,
            alarm: 1,
            member_id: 0,
        })
        .await
        .ok();
        while_alarmed(s).await;
    })
    .await;
}

#[tokio::test]
async fn a_corruption_alarm_refuses_every_write() {
    on_both(async |s| {
        history(s).await;
        s.call(AlarmRequest {
            action: ACTIVATE,
            alarm: 2,
            member_id: 77,
        })
        .await
        .ok();
        while_alarmed(s).await;
        s.call(AlarmRequest {
            action: DEACTIVATE,
            alarm: 2,
            member_id: 77,
        })
        .await
        .ok();
        while_alarmed(s).await;
    })
    .await;
}

async fn while_alarmed(s: &mut Session) {
    s.call(put("k", "v")).await.ok();
    s.call(get("k")).await.ok();
    s.call(txn(vec![], vec![op(put("k", "v"))], vec![]))
        .await
        .ok();
    s.call(txn(vec![], vec![op(get("k"))], vec![])).await.ok();
    s.call(txn(vec![], vec![op(delete("nothing"))], vec![]))
        .await
        .ok();
    s.call(grant(60, 100)).await.ok();
    s.call(delete("a")).await.ok();
    s.call(compact(4)).await.ok();
    s.call(keystead_proto::etcdserverpb::LeaseRevokeRequest { id: 60 })
        .await
        .ok();
    s.call(everything()).await.ok();
}

#[tokio::test]
async fn alarms_of_no_kind_and_unknown_kinds() {
    on_both(async |s| {
        s.call(AlarmRequest {
            action: ACTIVATE,
            alarm: 0,
            member_id: 1,
        })
        .await
        .ok();
        s.call(AlarmRequest {
            action: DEACTIVATE,
            alarm: 0,
            member_id: 1,
        })
        .await
        .ok();
        s.call(AlarmRequest {
            action: GET,
            alarm: 0,
            member_id: 0,
        })
        .await
        .ok();
        s.call(put("k", "v")).await.ok();
    })
    .await;
}

#[tokio::test]
async fn the_quota_raises_the_alarm_and_space_comes_back() {
    let quota = ["--quota-backend-bytes", "1048576"];
    let Some(etcd) = keystead_tests::Server::start(keystead_tests::Kind::Etcd, &quota, &[]).await
    else {
        return;
    };
    let keystead = keystead_tests::Server::start(keystead_tests::Kind::Keystead, &quota, &[]).await;
    for server in [etcd, keystead.expect("only etcd may be missing")] {
        let kind = server.kind();
        let mut s = Session::new(server);
        let value = "v".repeat(100 * 1024);
        let mut refused = None;
        for number in 0..100 {
            if let Err(status) = s.call(put("same", &format!("{number}{value}"))).await {
                refused = Some(status);
                break;
            }
        }
        let refused = refused.expect("ten times the quota was written");
        assert_eq!(
            refused.message(),
            "etcdserver: mvcc: database space exceeded",
            "{kind:?}"
        );
        let read = s.call(get("same")).await.expect("reads go on");
        let revision = read.header.expect("a header").revision;
        s.call(compact(revision))
            .await
            .expect("compaction makes room");
        s.call(DefragmentRequest {})
            .await
            .expect("defragmentation gives it back");
        s.call(AlarmRequest {
            action: DEACTIVATE,
            alarm: 1,
            member_id: 0,
        })
        .await
        .expect("the call is answered");
        let alarms = s
            .call(AlarmRequest {
                action: GET,
                alarm: 0,
                member_id: 0,
            })
            .await
            .expect("the list")
            .alarms;
        let raised = keystead_tests::Unary::send(
            AlarmRequest {
                action: GET,
                alarm: 0,
                member_id: 0,
            },
            s.channel(),
        )
        .await;
        assert_eq!(
            alarms.len(),
            1,
            "{kind:?}: the alarm names the member and so stays"
        );
        for alarm in raised.expect("the list").alarms {
            let disarm = AlarmRequest {
                action: DEACTIVATE,
                alarm: alarm.alarm,
                member_id: alarm.member_id,
            };
            s.call(disarm).await.expect("it can be disarmed");
        }
        s.call(put("same", "small"))
            .await
            .unwrap_or_else(|status| panic!("{kind:?} takes writes again: {status}"));
    }
}

#[tokio::test]
async fn a_defragmentation_changes_no_answer() {
    on_both(async |s| {
        history(s).await;
        s.call(compact(12)).await.ok();
        s.call(everything()).await.ok();
        s.call(DefragmentRequest {}).await.ok();
        s.call(everything()).await.ok();
        s.call(HashKvRequest { revision: 0 }).await.ok();
        s.call(put("after", "v")).await.ok();
        s.server().kill();
        s.server().restart().await;
        s.call(everything()).await.ok();
        s.call(HashKvRequest { revision: 0 }).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_comes_in_etcds_parts_and_ends_with_a_digest_of_all_before_it() {
    on_both(async |s| {
        history(s).await;
        // Some pages of either's file.
        let large = "v".repeat(50_000);
        for number in 0..10 {
            put(&format!("large{number}"), &large)
                .send(s.channel())
                .await
                .expect("a put");
        }
        let mut client = MaintenanceClient::new(s.channel()).max_decoding_message_size(usize::MAX);
        let mut parts = client
            .snapshot(SnapshotRequest {})
            .await
            .expect("the stream opens")
            .into_inner();
        let mut sizes = Vec::new();
        let mut remaining = Vec::new();
        let mut versions = BTreeSet::new();
        while let Some(part) = parts.message().await.expect("no part fails") {
            assert!(part.header.is_none());
            sizes.push(part.blob.len());
            remaining.push(usize::try_from(part.remaining_bytes).expect("a small file"));
            versions.insert(part.version);
        }
        let total: usize = sizes.iter().sum();
        s.note(format!("versions {versions:?}"));
        s.note(format!("file and digest: {}", total % 512 == 32));
        s.note(format!("digest: {:?}", (sizes.pop(), remaining.pop())));
        let last = sizes.pop().expect("a part of the file");
        s.note(format!(
            "parts before the last: {:?}",
            BTreeSet::from_iter(sizes)
        ));
        s.note(format!(
            "pages in the last: {}",
            last % 4096 == 0 && last > 0
        ));
        s.note(format!("after the last remain {:?}", remaining.last()));
        s.note(format!(
            "remaining bytes after the first: all but 32 KiB is {}",
            remaining[0] + (32 << 10) == total - 32
        ));
    })
    .await;
}
