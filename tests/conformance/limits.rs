//! Requests that are too large, too deep or unknown; and that the server goes on after them.

use keystead_proto::etcdserverpb::auth_client::AuthClient;
use keystead_proto::etcdserverpb::kv_client::KvClient;
use keystead_proto::etcdserverpb::{AuthStatusRequest, TxnRequest};
use keystead_tests::{Session, on_both};
use tonic::codegen::http::uri::PathAndQuery;

use super::requests::{get, op, put, txn};

#[tokio::test]
async fn a_request_above_the_raft_limit_and_one_above_the_message_limit_differ() {
    on_both(async |s| {
        for size in [1_572_000, 1_572_864, 2_000_000, 2_097_152, 3_000_000] {
            let value = "v".repeat(size);
            let answer = s.call(put("k", &value)).await;
            s.note(format!(
                "{size} bytes: {:?}",
                answer
                    .map(|_| ())
                    .map_err(|status| (status.code(), status.message().to_owned()))
            ));
        }
        s.call(put("k", "small")).await.ok();
        s.call(get("k")).await.ok();
    })
    .await;
}

/// A transaction's answer, of which what is nested is not taken apart: prost follows only 50 transactions.
#[derive(Clone, PartialEq, prost::Message)]
struct Outline {
    #[prost(bool, tag = "2")]
    succeeded: bool,
    #[prost(bytes = "vec", repeated, tag = "3")]
    responses: Vec<Vec<u8>>,
}

#[tokio::test]
async fn transactions_nest_as_deep_as_their_operations_are_allowed() {
    on_both(async |s| {
        for (innermost, depths) in [
            (vec![], [1, 49, 50, 51, 128, 129, 200]),
            (vec![op(put("deep", "v"))], [1, 49, 50, 51, 127, 128, 200]),
        ] {
            for depth in depths {
                let mut nested = txn(vec![], innermost.clone(), vec![]);
                for _ in 0..depth {
                    nested = txn(vec![], vec![op(nested)], vec![]);
                }
                let mut client = tonic::client::Grpc::new(s.channel());
                client.ready().await.expect("the server is up");
                let codec = tonic_prost::ProstCodec::<TxnRequest, Outline>::default();
                let path = PathAndQuery::from_static("/etcdserverpb.KV/Txn");
                match client.unary(tonic::Request::new(nested), path, codec).await {
                    Ok(answer) => s.note(format!("depth {depth}: {:?}", answer.into_inner())),
                    Err(status) => s.refusal("a nested txn", &status),
                }
                s.call(get("deep")).await.ok();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn auth_is_off_until_it_is_enabled() {
    on_both(async |s| {
        let answer = AuthClient::new(s.channel())
            .auth_status(AuthStatusRequest {})
            .await;
        match answer {
            Ok(answer) => s.note(format!("auth enabled: {}", answer.into_inner().enabled)),
            Err(status) => s.refusal("auth status", &status),
        }
    })
    .await;
}

/// Calls a path that no generated client knows.
async fn call_path(s: &mut Session, path: &'static str) {
    let mut client = tonic::client::Grpc::new(s.channel());
    client.ready().await.expect("the server is up");
    let codec = tonic_prost::ProstCodec::<AuthStatusRequest, AuthStatusRequest>::default();
    let request = tonic::Request::new(AuthStatusRequest {});
    if let Err(status) = client
        .unary(request, PathAndQuery::from_static(path), codec)
        .await
    {
        s.refusal(path, &status);
    }
}

#[tokio::test]
async fn unknown_methods_and_services_are_unimplemented_by_name() {
    on_both(async |s| {
        for path in [
            "/etcdserverpb.KV/Nothing",
            "/etcdserverpb.Nothing/Range",
            "/nothing",
            "/",
            "/a/b/c",
            "//",
        ] {
            call_path(s, path).await;
        }
        call_path(
            s,
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        )
        .await;
        s.call(get("k")).await.ok();
    })
    .await;
}

#[tokio::test]
async fn metadata_that_asks_for_a_leader_or_names_a_version_changes_no_answer() {
    on_both(async |s| {
        for (name, value) in [
            ("hasleader", "true"),
            ("hasleader", "false"),
            ("client-api-version", "3.6"),
        ] {
            let mut request = tonic::Request::new(get("k"));
            request
                .metadata_mut()
                .insert(name, value.parse().expect("plain text"));
            let answer = KvClient::new(s.channel()).range(request).await;
            s.note(format!(
                "{name} {value}: {:?}",
                answer
                    .map(|answer| answer.into_inner().count)
                    .map_err(|e| e.code())
            ));
        }
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_cancelled_calls_disturb_nobody() {
    on_both(async |s| {
        for batch in 0..100 {
            let calls = (0..100).map(|number| {
                let mut client = KvClient::new(s.channel());
                let request = put(&format!("cancelled-{batch}-{number}"), "v");
                // Long enough to be sent, too short to be answered: dropping the call resets its stream.
                async move {
                    tokio::time::timeout(std::time::Duration::from_micros(200), client.put(request))
                        .await
                        .is_ok()
                }
            });
            futures::future::join_all(calls).await;
        }
        // How many of them were applied is chance: only that the next one is answered is compared.
        let answer = KvClient::new(s.channel()).put(put("after", "v")).await;
        s.note(format!("answered: {}", answer.is_ok()));
    })
    .await;
}
