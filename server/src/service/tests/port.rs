//! What the port answers whichever service is asked, and health.

use keystead_proto::health::{HealthCheckRequest, HealthCheckResponse};

use super::Running;
use crate::testing::{GRPC, framed, request};

#[tokio::test]
async fn calls_that_tonic_serves_keep_the_rules_of_the_port() {
    let member = Running::start();
    let client = member.client().await;
    let large = framed(&vec![0; (2 << 20) + 1]);
    let (_, code, text) = client.call("/etcdserverpb.Maintenance/Status", large).await;
    assert_eq!(
        (code, text.as_str()),
        (
            8,
            "grpc: received message larger than max (2097153 vs. 2097152)"
        )
    );
    let with_leader = request(
        "/etcdserverpb.Maintenance/Status",
        &[GRPC, ("hasleader", "true")],
    );
    assert_eq!(client.send(with_leader, framed(b"")).await.1, 0);
    for (path, text) in [
        (
            "/etcdserverpb.KV/Frob",
            "unknown method Frob for service etcdserverpb.KV",
        ),
        ("/nobody/X", "unknown service nobody"),
    ] {
        let (_, code, refused) = client.call(path, framed(b"")).await;
        assert_eq!((code, refused.as_str()), (12, text));
    }
}

#[tokio::test]
async fn health_knows_the_empty_name_alone() {
    let member = Running::start();
    let client = member.client().await;
    let check = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let serving: HealthCheckResponse = client
        .unary("/grpc.health.v1.Health/Check", &check(""))
        .await
        .expect("health");
    assert_eq!(serving.status, 1);
    let unknown = client
        .unary::<HealthCheckResponse>("/grpc.health.v1.Health/Check", &check("x"))
        .await;
    assert_eq!(unknown, Err((5, "unknown service".to_owned())));
}
