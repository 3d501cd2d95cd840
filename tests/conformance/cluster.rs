//! Cluster, and Maintenance.MoveLeader, as far as one member has something to say.

use std::collections::BTreeMap;

use keystead_proto::etcdserverpb::cluster_client::ClusterClient;
use keystead_proto::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, MoveLeaderRequest,
};
use keystead_tests::{Session, Unary, on_both};

use super::requests::{get, put};

/// Where nobody listens.
const ELSEWHERE: &str = "http://127.0.0.1:1";

fn add(urls: &[&str], is_learner: bool) -> MemberAddRequest {
    MemberAddRequest {
        peer_urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        is_learner,
    }
}

fn update(id: u64, url: &str) -> MemberUpdateRequest {
    MemberUpdateRequest {
        id,
        peer_urls: vec![url.to_owned()],
    }
}

/// The ids of the member itself and of the learner, or zero; they differ between servers, so they never come into the transcript.
async fn ids(s: &Session) -> (u64, u64) {
    let mut client = ClusterClient::new(s.channel());
    let list = client.member_list(MemberListRequest::default()).await;
    let members = list.expect("the members are listed").into_inner().members;
    let by_role: BTreeMap<bool, u64> = members
        .iter()
        .map(|member| (member.is_learner, member.id))
        .collect();
    let id = |is_learner| by_role.get(&is_learner).copied().unwrap_or_default();
    (id(false), id(true))
}

/// Calls with an id that differs between servers.
async fn call<R: Unary>(s: &mut Session, what: &str, request: R) {
    match request.send(s.channel()).await {
        Ok(mut answer) => {
            R::blur(&mut answer);
            s.note(format!("{what}\n    => {answer:?}"));
        }
        Err(status) => s.refusal(what, &status),
    }
}

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

#[tokio::test]
async fn a_lone_member_refuses_what_makes_no_sense_and_stays() {
    on_both(async |s| {
        for urls in [
            &[][..],
            &[""],
            &["127.0.0.1:1"],
            &["ftp://127.0.0.1:1"],
            &["http://127.0.0.1"],
            &["http://127.0.0.1:1/path"],
            &["http://127.0.0.1:1", "nothing"],
        ] {
            for is_learner in [false, true] {
                s.call(add(urls, is_learner)).await.ok();
            }
        }
        s.call(MemberRemoveRequest { id: 7 }).await.ok();
        s.call(MemberPromoteRequest { id: 7 }).await.ok();
        s.call(update(7, ELSEWHERE)).await.ok();
        s.call(MoveLeaderRequest { target_id: 7 }).await.ok();
        let (own, _) = ids(s).await;
        call(s, "remove itself", MemberRemoveRequest { id: own }).await;
        call(s, "promote itself", MemberPromoteRequest { id: own }).await;
        call(s, "lead itself", MoveLeaderRequest { target_id: own }).await;
        s.call(put("k", "v")).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_learner_that_never_starts_is_added_moved_and_removed() {
    on_both(async |s| {
        let list = || MemberListRequest { linearizable: true };
        s.call(add(&[ELSEWHERE], true)).await.ok();
        s.call(list()).await.ok();
        s.call(add(&[ELSEWHERE], true)).await.ok();
        s.call(add(&["http://127.0.0.1:2", ELSEWHERE], false))
            .await
            .ok();
        s.call(add(&["http://127.0.0.1:2"], true)).await.ok();
        let (own, learner) = ids(s).await;
        call(s, "promote it", MemberPromoteRequest { id: learner }).await;
        call(s, "let it lead", MoveLeaderRequest { target_id: learner }).await;
        call(s, "move it", update(learner, "http://127.0.0.1:3")).await;
        call(s, "take its place", update(own, "http://127.0.0.1:3")).await;
        s.call(put("k", "v")).await.ok();
        s.server().kill();
        s.server().restart().await;
        s.call(list()).await.ok();
        for _again in 0..2 {
            call(s, "remove it", MemberRemoveRequest { id: learner }).await;
            call(
                s,
                "promote what is gone",
                MemberPromoteRequest { id: learner },
            )
            .await;
            call(s, "move what is gone", update(learner, ELSEWHERE)).await;
        }
        s.call(add(&["http://127.0.0.1:2"], true)).await.ok();
        s.call(list()).await.ok();
    })
    .await;
}

#[tokio::test]
async fn the_second_voter_is_added_at_once_and_a_third_waits_for_it() {
    on_both(async |s| {
        s.call(put("k", "v")).await.ok();
        s.call(add(&[ELSEWHERE], false)).await.ok();
        s.call(MemberListRequest {
            linearizable: false,
        })
        .await
        .ok();
        s.call(add(&["http://127.0.0.1:2"], false)).await.ok();
        let mut read = get("k");
        read.serializable = true;
        s.call(read).await.ok();
    })
    .await;
}
