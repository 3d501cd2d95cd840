//! The Election service.

use keystead_proto::etcdserverpb::LeaseRevokeRequest;
use keystead_proto::v3electionpb::election_client::ElectionClient;
use keystead_proto::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use keystead_tests::{Session, Unary, on_both};

use super::requests::{FROM_KEY, grant, range};

fn campaign(lease: i64, value: &str) -> CampaignRequest {
    CampaignRequest {
        name: "e".into(),
        lease,
        value: value.to_owned().into(),
    }
}

fn leader() -> LeaderRequest {
    LeaderRequest { name: "e".into() }
}

#[tokio::test]
async fn campaigns_are_won_in_order_and_resigned() {
    on_both(async |s| {
        s.call(leader()).await.ok();
        s.call(grant(0xa, 600)).await.ok();
        s.call(grant(0xb, 600)).await.ok();
        let first = s
            .call(campaign(0xa, "one"))
            .await
            .expect("nobody leads")
            .leader;
        s.call(leader()).await.ok();
        s.call(campaign(0xa, "one again")).await.ok();
        s.call(ProclaimRequest {
            leader: first.clone(),
            value: "new".into(),
        })
        .await
        .ok();
        s.call(leader()).await.ok();
        let waiting = tokio::spawn(campaign(0xb, "two").send(s.channel()));
        while candidates(s).await < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        s.call(ResignRequest {
            leader: first.clone(),
        })
        .await
        .ok();
        let second = waiting
            .await
            .expect("it does not panic")
            .expect("the next one leads")
            .leader;
        s.note(format!("next leader {second:?}"));
        s.call(ProclaimRequest {
            leader: first.clone(),
            value: "too late".into(),
        })
        .await
        .ok();
        s.call(ResignRequest { leader: first }).await.ok();
        s.call(leader()).await.ok();
        s.call(LeaseRevokeRequest { id: 0xb }).await.ok();
        s.call(leader()).await.ok();
        s.call(range("e", FROM_KEY)).await.ok();
    })
    .await;
}

async fn candidates(s: &Session) -> i64 {
    range("e/", "e0")
        .send(s.channel())
        .await
        .map_or(0, |answer| answer.count)
}

#[tokio::test]
async fn requests_without_a_leader_or_lease_are_refused() {
    on_both(async |s| {
        s.call(ProclaimRequest {
            leader: None,
            value: "v".into(),
        })
        .await
        .ok();
        s.call(ResignRequest { leader: None }).await.ok();
        let stranger = LeaderKey {
            name: "e".into(),
            key: "e/1".into(),
            rev: 7,
            lease: 1,
        };
        s.call(ProclaimRequest {
            leader: Some(stranger.clone()),
            value: "v".into(),
        })
        .await
        .ok();
        s.call(ResignRequest {
            leader: Some(stranger),
        })
        .await
        .ok();
        s.call(campaign(404, "no lease")).await.ok();
        s.call(leader()).await.ok();
    })
    .await;
}

#[tokio::test]
async fn an_observer_sees_the_leader_and_each_change() {
    on_both(async |s| {
        s.call(grant(0xa, 600)).await.ok();
        let first = s
            .call(campaign(0xa, "one"))
            .await
            .expect("nobody leads")
            .leader;
        let mut client = ElectionClient::new(s.channel());
        let mut seen = client
            .observe(leader())
            .await
            .expect("the stream opens")
            .into_inner();
        for value in ["two", "three"] {
            let answer = seen
                .message()
                .await
                .expect("a leader")
                .expect("the stream is open");
            s.note(format!("observed {:?}", answer.kv));
            s.call(ProclaimRequest {
                leader: first.clone(),
                value: value.into(),
            })
            .await
            .ok();
        }
        let answer = seen
            .message()
            .await
            .expect("a leader")
            .expect("the stream is open");
        s.note(format!("observed {:?}", answer.kv));
    })
    .await;
}
