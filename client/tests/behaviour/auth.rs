//! Tokens: had once, shared, had anew for every way in which a server refuses one.

use futures::future::join_all;
use keystead_client::{Client, ConnectOptions, Credentials, Kind, Outcome};

use crate::fake::{Act, Fake};

fn client(fake: &Fake) -> Client {
    Client::lazy(ConnectOptions {
        credentials: Some(Credentials::new("root", "secret")),
        ..fake.options()
    })
    .expect("the URL is right")
}

/// The fake takes the user's name for the key of the request.
const AUTHENTICATED: &str = "root";

#[tokio::test]
async fn a_token_is_had_anew_for_every_form_of_rejection() {
    for (code, text) in [
        (16, "etcdserver: invalid auth token"),
        (3, "etcdserver: revision of auth store is old"),
        (3, "etcdserver: user name is empty"),
    ] {
        let fake = Fake::start([Act::Answer, Act::Refuse(code, text)]).await;
        client(&fake).put("k", "v").await.expect("another token");
        assert_eq!(fake.ran(), [AUTHENTICATED, AUTHENTICATED, "k"], "{text}");
        assert_eq!(fake.requests(), 4, "{text}");
    }
}

#[tokio::test]
async fn many_calls_share_one_token_and_one_renewal() {
    const CALLS: usize = 30;
    let stale = Act::Refuse(16, "etcdserver: invalid auth token");
    let mut script = vec![Act::Answer];
    script.extend(vec![stale; CALLS]);
    let fake = Fake::start(script).await;
    let client = client(&fake);
    let calls = (0..CALLS).map(|call| client.put(format!("{call}"), "v"));
    for answer in join_all(calls).await {
        answer.expect("another token");
    }
    let ran = fake.ran();
    assert_eq!(ran.len(), 2 + CALLS);
    assert_eq!(ran.iter().filter(|key| **key == AUTHENTICATED).count(), 2);
}

#[tokio::test]
async fn a_wrong_password_is_told_at_once_and_nothing_was_sent() {
    let wrong = "etcdserver: authentication failed, invalid user ID or password";
    let fake = Fake::start([Act::Refuse(3, wrong)]).await;
    let error = client(&fake).put("k", "v").await.expect_err("wrong");
    assert_eq!(
        (error.kind, error.message.as_str(), error.outcome),
        (Kind::Unauthenticated, wrong, Outcome::NotApplied)
    );
    assert!(!error.retryable);
    assert_eq!(fake.requests(), 1);
}

#[tokio::test]
async fn a_server_that_refuses_every_token_is_believed_in_the_end() {
    let mut script = Vec::new();
    for _ in 0..20 {
        script.extend([
            Act::Answer,
            Act::Refuse(16, "etcdserver: invalid auth token"),
        ]);
    }
    let fake = Fake::start(script).await;
    let error = client(&fake).put("k", "v").await.expect_err("never");
    assert_eq!(
        (error.kind, error.outcome),
        (Kind::Unauthenticated, Outcome::NotApplied)
    );
    assert!((4..=10).contains(&fake.requests()), "{}", fake.requests());
}

#[tokio::test]
async fn a_server_without_authentication_is_used_without_a_token_until_it_wants_one() {
    let fake = Fake::start([
        Act::Refuse(9, "etcdserver: authentication is not enabled"),
        Act::Answer,
        Act::Answer,
        Act::Refuse(3, "etcdserver: user name is empty"),
    ])
    .await;
    let client = client(&fake);
    for key in ["a", "b", "c"] {
        client.put(key, "v").await.expect("it is served");
    }
    assert_eq!(fake.ran(), ["a", "b", AUTHENTICATED, "c"]);
}

#[tokio::test]
async fn a_stream_that_was_refused_has_another_token_when_it_is_opened_again() {
    let fake = Fake::start([
        Act::Answer,
        Act::Refuse(16, "etcdserver: invalid auth token"),
    ])
    .await;
    let client = client(&fake);
    let mut refused = client.snapshot().await.expect("it opens");
    let error = refused.next().await.expect_err("the token is stale");
    assert_eq!((error.kind, error.retryable), (Kind::Unauthenticated, true));
    let mut again = client.snapshot().await.expect("it opens");
    again.next().await.expect("the token is new");
    assert_eq!(fake.ran()[..2], [AUTHENTICATED, AUTHENTICATED]);
}
