//! Cluster.MemberList of a single member.

use keystead_proto::etcdserverpb::MemberListRequest;
use keystead_tests::on_both;

use super::requests::put;

#[tokio::test]
async fn a_lone_member_lists_itself_with_revision_zero() {
    on_both(async |s| {
        s.call(put("k", "v")).await.ok();
        s.call(MemberListRequest { linearizable: true }).await.ok();
        s.call(MemberListRequest {
            linearizable: false,
        })
        .await
        .ok();
        s.server().kill();
        s.server().restart().await;
        s.call(MemberListRequest { linearizable: true }).await.ok();
    })
    .await;
}
