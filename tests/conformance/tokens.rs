//! Tokens: what ends them, what signed ones say, and what each member makes of one that another gave.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use keystead_proto::authpb::permission::Type;
use keystead_proto::etcdserverpb::watch_client::WatchClient;
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::*;
use keystead_tests::{Cluster, Kind, Server, Session, Unary, keep_alive_as, on_both_with, oracle};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::auth::{
    CHEAP, change_password, enable, forbid, log_in, login, note_code, permit, role_add, role_get,
    user_add, user_delete, user_get, user_grant, user_revoke,
};
use super::requests::{FROM_KEY, get, grant, op, put, txn, watch};

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_token_ends_with_its_password_and_its_user_not_with_a_role() {
    on_both_with(&CHEAP, async |s| {
        enable(s).await;
        log_in(s, "alice", "alicepw").await;
        let alice = s.token().map(str::to_owned);
        log_in(s, "root", "rootpw").await;
        let root = s.token().map(str::to_owned);
        s.call(forbid("clerk", "b", "c")).await.ok();
        s.set_token(alice.clone());
        s.call(get("b/1")).await.ok();
        s.call(get("a/1")).await.ok();
        s.call(user_get("alice")).await.ok();
        s.set_token(root.clone());
        s.call(user_revoke("alice", "clerk")).await.ok();
        s.set_token(alice.clone());
        s.call(get("a/1")).await.ok();
        s.call(role_get("clerk")).await.ok();
        s.set_token(root.clone());
        s.call(change_password("alice", "other")).await.ok();
        s.set_token(alice);
        s.call(get("a/1")).await.ok();
        log_in(s, "alice", "alicepw").await;
        log_in(s, "alice", "other").await;
        let alice = s.token().map(str::to_owned);
        s.set_token(root.clone());
        s.call(user_delete("alice")).await.ok();
        s.set_token(alice);
        s.call(get("a/1")).await.ok();
        s.call(user_get("alice")).await.ok();
        s.set_token(root.clone());
        // It is the first one that counts, and `authorization` where there is no token.
        for headers in [
            &[("authorization", "")][..],
            &[("authorization", "Bearer ")],
            &[("token", "Bearer ")],
            &[("authorization", ""), ("token", "x")],
            &[("token", ""), ("authorization", "x")],
        ] {
            let mut request = tonic::Request::new(get("a/1"));
            for (name, before) in headers {
                let value = match *before {
                    "x" => "x".to_owned(),
                    before => format!("{before}{}", root.as_deref().unwrap_or_default()),
                };
                let value = value.parse().expect("visible ASCII");
                request.metadata_mut().append(*name, value);
            }
            let mut client = kv_client::KvClient::new(s.channel());
            let read = client.range(request).await;
            note_code(s, &format!("{headers:?}"), read);
        }
        s.call(AuthDisableRequest {}).await.ok();
        s.set_token(None);
        s.call(AuthEnableRequest {}).await.ok();
        s.set_token(root);
        s.call(get("a/1")).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_simple_token_that_nobody_uses_ends() {
    let short = ["--bcrypt-cost", "4", "--auth-token-ttl", "1"];
    on_both_with(&short, async |s| {
        enable(s).await;
        log_in(s, "root", "rootpw").await;
        let begin = Instant::now();
        loop {
            // Longer than the TTL each time, for a use would keep it; etcd looks for what has ended once a second.
            tokio::time::sleep(Duration::from_millis(2100)).await;
            let read = get("a/1").send_as(s.channel(), s.token()).await;
            if let Err(status) = read {
                s.refusal("later", &status);
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "it never ends");
        }
        log_in(s, "root", "rootpw").await;
        s.call(get("a/1")).await.ok();
    })
    .await;
}

/// A server whose tokens are signed: `keys` is the end of `--auth-token`.
async fn with_signed_tokens(kind: Kind, keys: &str) -> Option<Session> {
    let token = format!("jwt,{keys}");
    let arguments = ["--bcrypt-cost", "4", "--auth-token", &token];
    let server = Server::start(kind, &arguments, &[]).await?;
    let mut session = Session::new(server);
    enable(&mut session).await;
    Some(session)
}

async fn token_of(s: &Session, name: &str, password: &str) -> Result<String, Status> {
    let answer = login(name, password).send(s.channel()).await;
    answer.map(|answer| answer.token)
}

#[tokio::test]
async fn signed_tokens_are_the_same_on_etcd() {
    if oracle("etcd").is_none() {
        println!("skipped: there is no etcd to compare with");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key pair");
    let file = |name: &str, contents: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, contents).expect("it can be written");
        path.display().to_string()
    };
    let private = file("private.pem", pair.serialize_pem());
    let public = file("public.pem", pair.public_key_pem());
    let both = format!("sign-method=ES256,ttl=10m,priv-key={private},pub-key={public}");
    let signers = tokio::join!(
        with_signed_tokens(Kind::Etcd, &both),
        with_signed_tokens(Kind::Keystead, &both),
    );
    let (etcd, keystead) = (
        signers.0.expect("there is one"),
        signers.1.expect("there is one"),
    );
    let verifying = format!("sign-method=ES256,pub-key={public}");
    let verifier = with_signed_tokens(Kind::Keystead, &verifying).await;
    let verifier = verifier.expect("there is one");
    let refused = token_of(&verifier, "alice", "alicepw")
        .await
        .expect_err("it has no key to sign");
    let text = "auth: token signing attempted with verify-only key";
    assert_eq!((refused.code(), refused.message()), (Code::Unknown, text));
    let tokens = [
        token_of(&etcd, "alice", "alicepw").await.expect("etcd's"),
        token_of(&keystead, "alice", "alicepw").await.expect("ours"),
    ];
    let servers = [&etcd, &keystead, &verifier];
    for token in &tokens {
        for s in servers {
            let read = get("a/1").send_as(s.channel(), Some(token)).await;
            assert_eq!(read.expect("alice may").count, 1);
            let denied = get("q/1").send_as(s.channel(), Some(token)).await;
            assert_eq!(
                denied.expect_err("alice may not").code(),
                Code::PermissionDenied
            );
            put("a/1", "v")
                .send_as(s.channel(), Some(token))
                .await
                .expect("alice may");
        }
    }
    // A role that changes makes every token old. Root's is as good as before: it is not asked for its revision.
    for s in [&etcd, &keystead] {
        let root = token_of(s, "root", "rootpw").await.expect("a token");
        let changed = permit("clerk", Type::Read, "q/", "q0").send_as(s.channel(), Some(&root));
        changed.await.expect("root may");
        let old = "etcdserver: revision of auth store is old";
        for token in &tokens {
            let refusals = [
                get("a/1").send_as(s.channel(), Some(token)).await.map(drop),
                put("a/1", "v")
                    .send_as(s.channel(), Some(token))
                    .await
                    .map(drop),
                txn(vec![], vec![op(get("a/1"))], vec![])
                    .send_as(s.channel(), Some(token))
                    .await
                    .map(drop),
                get("a/1").send_as(s.channel(), Some(&root)).await.map(drop),
            ];
            for refused in refusals {
                let refused = refused.expect_err("it is old");
                assert_eq!(
                    (refused.code(), refused.message()),
                    (Code::InvalidArgument, old)
                );
            }
        }
        let listed = AuthUserListRequest {}
            .send_as(s.channel(), Some(&root))
            .await;
        assert_eq!(listed.expect("root may").users, ["alice", "root"]);
        let anew = token_of(s, "alice", "alicepw").await.expect("a token");
        get("q/1")
            .send_as(s.channel(), Some(&anew))
            .await
            .expect("she may now");
    }
}

#[tokio::test]
async fn a_token_of_one_member_is_one_of_all() {
    for kind in [Kind::Etcd, Kind::Keystead] {
        let Some(cluster) = Cluster::start(kind, 3, &CHEAP).await else {
            println!("skipped: there is no etcd");
            continue;
        };
        let anybody = cluster.channel(0);
        for (name, password) in [("root", "rootpw"), ("alice", "alicepw")] {
            let added = user_add(name, password).send(anybody.clone()).await;
            added.expect("she is new");
        }
        role_add("clerk")
            .send(anybody.clone())
            .await
            .expect("it is new");
        for (user, role) in [("root", "root"), ("alice", "clerk")] {
            let granted = user_grant(user, role).send(anybody.clone()).await;
            granted.expect("both are there");
        }
        let permitted = permit("clerk", Type::Readwrite, "a/", "a0");
        permitted.send(anybody.clone()).await.expect("it is there");
        AuthEnableRequest {}
            .send(anybody)
            .await
            .expect("root is there");
        for member in 0..3 {
            let given = login("alice", "alicepw")
                .send(cluster.channel(member))
                .await;
            let alice = Some(given.expect("she is known").token);
            let alice = alice.as_deref();
            for other in 0..3 {
                let channel = cluster.channel(other);
                let begun = Instant::now();
                while let Err(status) = put("a/k", "v").send_as(channel.clone(), alice).await {
                    // A member of etcd's knows a token once it has applied the login; ours looks for it first.
                    let unknown = status.message() == "etcdserver: invalid auth token";
                    let behind = kind == Kind::Etcd && unknown && begun.elapsed() < PATIENCE;
                    assert!(behind, "{kind:?} {member} {other}: {status}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let read = get("a/k").send_as(channel.clone(), alice).await;
                assert_eq!(read.expect("she may").count, 1);
                let denied = put("b", "v").send_as(channel.clone(), alice).await;
                assert_eq!(
                    denied.expect_err("she may not").code(),
                    Code::PermissionDenied
                );
                let nobody = put("a/k", "v").send(channel.clone()).await;
                let text = "etcdserver: user name is empty";
                assert_eq!(nobody.expect_err("who is it?").message(), text);
                let granted = grant(0, 60).send_as(channel.clone(), alice).await;
                let lease = granted.expect("any user may").id;
                let kept = keep_alive_as(channel.clone(), alice, lease).await;
                assert_eq!(kept.expect("any user may"), 60, "{kind:?} {other}");
                let nobody = keep_alive_as(channel, None, lease).await;
                assert_eq!(nobody.expect_err("who is it?").message(), text);
            }
        }
        if kind == Kind::Keystead {
            // etcd waits for what its log may yet bring as long as the client does.
            let future = Some("lettersofchance.99999999");
            let read = get("a/k").send_as(cluster.channel(2), future).await;
            assert_eq!(
                read.expect_err("nobody has it").code(),
                Code::Unauthenticated
            );
        }
        // Everybody who follows has followed by the time that it answers a linearizable read.
        let root = login("root", "rootpw").send(cluster.channel(1)).await;
        let root = root.expect("it is known").token;
        let given = login("alice", "alicepw").send(cluster.channel(0)).await;
        let alice = given.expect("she is known").token;
        let changed = change_password("alice", "other").send_as(cluster.channel(2), Some(&root));
        changed.await.expect("root may");
        for member in 0..3 {
            let read = get("a/k")
                .send_as(cluster.channel(member), Some(&alice))
                .await;
            let refused = read.expect_err("her token is gone");
            assert_eq!(refused.code(), Code::Unauthenticated, "{kind:?} {member}");
        }
    }
}

/// By what it knows nobody has to say who it is; etcd serves nobody before it is current.
#[tokio::test]
async fn a_member_that_was_away_while_authentication_was_enabled_lets_nobody_watch_unasked() {
    let mut cluster = Cluster::start(Kind::Keystead, 3, &CHEAP)
        .await
        .expect("only etcd may be missing");
    let leader = cluster.leader().await;
    let (other, away) = ((leader + 1) % 3, (leader + 2) % 3);
    let channel = cluster.channel(leader);
    let added = user_add("root", "rootpw").send(channel.clone()).await;
    added.expect("it is new");
    let granted = user_grant("root", "root").send(channel.clone()).await;
    granted.expect("both are there");
    cluster.member(away).kill();
    let enabled = AuthEnableRequest {}.send(channel).await;
    enabled.expect("root is there");
    for member in [leader, other] {
        cluster.member(member).pause();
    }
    cluster.member(away).launch();

    let channel = cluster.channel(away);
    let serializable = RangeRequest {
        serializable: true,
        ..get("k")
    };
    let begin = Instant::now();
    while let Err(status) = serializable.clone().send(channel.clone()).await {
        assert!(begin.elapsed() < PATIENCE, "{status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = tokio::spawn(first_of_watch(channel.clone()));
    // Time enough to be told what must not be; a slow machine tells it later, and nothing else.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for member in [leader, other] {
        cluster.member(member).resume();
    }
    match told.await.expect("no panic") {
        Ok(Some(answer)) => assert!(
            answer.canceled && answer.cancel_reason.ends_with("user name is empty"),
            "{answer:?}"
        ),
        Ok(None) => panic!("the stream ended as if all were well"),
        Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
    }
    cluster.ready().await;
    let refused = first_of_watch(channel).await.expect("it is answered");
    let refused = refused.expect("the stream goes on");
    assert!(
        refused.cancel_reason.ends_with("user name is empty"),
        "{refused:?}"
    );
}

/// What somebody without a token is told first who asks to watch everything.
async fn first_of_watch(channel: Channel) -> Result<Option<WatchResponse>, Status> {
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(watch("\0", FROM_KEY, 1))),
    };
    let requests = stream::iter([request]).chain(stream::pending());
    let mut answers = WatchClient::new(channel)
        .watch(requests)
        .await?
        .into_inner();
    answers.message().await
}
