//! Tokens: had once, shared, had anew for every way in which a server refuses one.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use keystead_client::{
    Client, ConnectOptions, Credentials, KeyRange, Kind, Notice, Outcome, Watch,
};
use keystead_proto::etcdserverpb::{AuthenticateResponse, ResponseHeader, WatchResponse};
use keystead_proto::mvccpb::{Event, KeyValue};

use crate::fake::{Act, Fake};
use crate::member::{Member, Reply, say, say_all};

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

#[tokio::test]
async fn a_watch_that_is_refused_for_its_token_goes_on_with_another() {
    for reason in [
        "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
        "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old",
        "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
    ] {
        let header = |revision| {
            Some(ResponseHeader {
                revision,
                ..Default::default()
            })
        };
        let creations = AtomicUsize::new(0);
        let member = Member::start(move |call| match call.method.as_str() {
            "Authenticate" => say(&AuthenticateResponse {
                header: header(5),
                token: "a token".to_owned(),
            }),
            "Watch" => {
                let Some(create) = call.watch() else {
                    return Reply::Silence;
                };
                // As etcd says it: made and cancelled in one, under an id that no watch has.
                let refused = WatchResponse {
                    header: header(5),
                    watch_id: -1,
                    created: true,
                    canceled: true,
                    cancel_reason: reason.to_owned(),
                    ..Default::default()
                };
                let created = WatchResponse {
                    header: header(5),
                    watch_id: create.watch_id,
                    created: true,
                    ..Default::default()
                };
                let event = WatchResponse {
                    header: header(6),
                    watch_id: create.watch_id,
                    events: vec![Event {
                        kv: Some(KeyValue {
                            key: "k".into(),
                            mod_revision: 6,
                            ..Default::default()
                        }),
                        ..Default::default()
                    }],
                    ..Default::default()
                };
                match creations.fetch_add(1, Ordering::Relaxed) {
                    0 => say(&refused),
                    _ => say_all(&[created, event]),
                }
            }
            method => unreachable!("a watch does not call {method}"),
        })
        .await;
        let client = Client::lazy(ConnectOptions {
            credentials: Some(Credentials::new("root", "secret")),
            ..member.options()
        })
        .expect("the URL is right");
        let watcher = client.watch(Watch::new(KeyRange::all())).await;
        let watcher = watcher.expect("it is created with the second token");
        let notice = watcher.next().await.expect("it goes on");
        assert!(matches!(notice, Some(Notice::Events { .. })), "{notice:?}");
        assert_eq!(member.calls("Authenticate").len(), 2, "{reason}");
        let streams: Vec<usize> = member
            .calls("Watch")
            .iter()
            .map(|call| call.stream)
            .collect();
        assert!(streams.len() == 2 && streams[0] != streams[1], "{reason}");
    }
}
