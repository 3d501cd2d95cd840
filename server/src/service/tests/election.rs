//! Election on a member.

use keystead_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};

use super::calls::{Client, Ended, with_member};

async fn campaign(client: &Client, lease: i64, value: &'static str) -> LeaderKey {
    let request = CampaignRequest {
        name: "seat".into(),
        lease,
        value: value.into(),
    };
    let won: CampaignResponse = client
        .unary("/v3electionpb.Election/Campaign", &request)
        .await
        .expect("won");
    won.leader.expect("a leader")
}

async fn proclaim(
    client: &Client,
    leader: Option<LeaderKey>,
    value: &'static str,
) -> Result<ProclaimResponse, Ended> {
    let request = ProclaimRequest {
        leader,
        value: value.into(),
    };
    client
        .unary("/v3electionpb.Election/Proclaim", &request)
        .await
}

async fn leader(client: &Client) -> Result<LeaderResponse, Ended> {
    client
        .unary(
            "/v3electionpb.Election/Leader",
            &LeaderRequest {
                name: "seat".into(),
            },
        )
        .await
}

async fn resign(client: &Client, leader: Option<LeaderKey>) -> Result<ResignResponse, Ended> {
    client
        .unary("/v3electionpb.Election/Resign", &ResignRequest { leader })
        .await
}

fn said(answer: LeaderResponse) -> (i64, String) {
    let kv = answer.kv.expect("a kv");
    assert!(answer.header.expect("a header").revision >= kv.mod_revision);
    (
        kv.create_revision,
        String::from_utf8_lossy(&kv.value).into_owned(),
    )
}

#[test]
fn a_leader_leads_until_it_resigns() {
    with_member(async |client| {
        assert_eq!(
            leader(&client).await.expect_err("none yet"),
            (2, "election: no leader".into())
        );
        let lease = client.grant(60).await;
        let first = campaign(&client, lease, "one").await;
        assert_eq!((first.lease, &first.name[..]), (lease, &b"seat"[..]));
        assert_eq!(first.key, format!("seat/{lease:x}"));
        assert_eq!(
            said(leader(&client).await.expect("one")),
            (first.rev, "one".into())
        );
        let again = campaign(&client, lease, "uno").await;
        assert_eq!(
            (again.rev, said(leader(&client).await.expect("one")).1),
            (first.rev, "uno".into())
        );
        proclaim(&client, Some(first.clone()), "eins")
            .await
            .expect("it leads");
        assert_eq!(said(leader(&client).await.expect("one")).1, "eins");

        let lease = client.grant(60).await;
        let mut second = client
            .another()
            .await
            .open("/v3electionpb.Election/Campaign")
            .await;
        second.say(&CampaignRequest {
            name: "seat".into(),
            lease,
            value: "two".into(),
        });
        second.half_close();
        assert!(second.is_silent::<CampaignResponse>().await);
        resign(&client, Some(first.clone()))
            .await
            .expect("resigned");
        let won: CampaignResponse = second.heard().await;
        assert_eq!(won.leader.expect("a leader").lease, lease);
        assert_eq!(said(leader(&client).await.expect("two")).1, "two");

        let late = proclaim(&client, Some(first.clone()), "late")
            .await
            .expect_err("it leads no longer");
        assert_eq!(late, (2, "election: not leader".into()));
        resign(&client, Some(first))
            .await
            .expect("resigning twice is no error");
        assert_eq!(said(leader(&client).await.expect("two")).1, "two");
    });
}

#[test]
fn what_names_no_leader_is_refused() {
    with_member(async |client| {
        let missing = (2, "\"leader\" field must be provided".to_owned());
        assert_eq!(
            proclaim(&client, None, "x").await.expect_err("no leader"),
            missing
        );
        assert_eq!(resign(&client, None).await.expect_err("no leader"), missing);
    });
}

#[test]
fn observers_hear_every_leader_and_everything_they_say() {
    with_member(async |client| {
        let mut observer = client
            .another()
            .await
            .open("/v3electionpb.Election/Observe")
            .await;
        observer.say(&LeaderRequest {
            name: "seat".into(),
        });
        assert!(observer.is_silent::<LeaderResponse>().await);
        let lease = client.grant(60).await;
        let first = campaign(&client, lease, "one").await;
        assert_eq!(said(observer.heard().await), (first.rev, "one".into()));
        for value in ["two", "three", "four"] {
            proclaim(&client, Some(first.clone()), value)
                .await
                .expect("it leads");
        }
        for value in ["two", "three", "four"] {
            assert_eq!(said(observer.heard().await), (first.rev, value.into()));
        }
        resign(&client, Some(first)).await.expect("resigned");
        assert!(observer.is_silent::<LeaderResponse>().await);
        let lease = client.grant(60).await;
        let next = campaign(&client, lease, "five").await;
        assert_eq!(said(observer.heard().await), (next.rev, "five".into()));
    });
}
