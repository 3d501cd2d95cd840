//! Requests that are too large, too deep or unknown; and that the server goes on after them.

use keystead_proto::etcdserverpb::auth_client::AuthClient;
use keystead_proto::etcdserverpb::{AuthStatusRequest, TxnRequest};
use keystead_tests::on_both;

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

#[tokio::test]
async fn nesting_as_deep_as_the_operation_limit_allows() {
    on_both(async |s| {
        for depth in [10, 100, 126, 127, 128, 200] {
            let mut nested: TxnRequest = txn(vec![], vec![op(put("deep", "v"))], vec![]);
            for _ in 0..depth {
                nested = txn(vec![], vec![op(nested)], vec![]);
            }
            let answer = s.call(nested).await;
            s.note(format!(
                "depth {depth}: {:?}",
                answer.map(|_| ()).map_err(|status| status.code())
            ));
        }
        s.call(get("deep")).await.ok();
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
            Err(status) if status.code() == tonic::Code::Unimplemented => {
                s.note("auth enabled: false")
            }
            Err(status) => s.refusal("auth status", &status),
        }
    })
    .await;
}
