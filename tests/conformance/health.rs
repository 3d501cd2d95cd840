//! gRPC's health service.

use keystead_proto::health::HealthCheckRequest;
use keystead_proto::health::health_client::HealthClient;
use keystead_tests::on_both;

#[tokio::test]
async fn the_server_as_a_whole_is_serving_and_no_part_has_a_name() {
    on_both(async |s| {
        for service in ["", "etcdserverpb.KV", "nothing"] {
            s.call(HealthCheckRequest {
                service: service.to_owned(),
            })
            .await
            .ok();
        }
        for service in ["", "nothing"] {
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            let mut states = HealthClient::new(s.channel())
                .watch(request)
                .await
                .expect("the stream opens")
                .into_inner();
            let state = states.message().await;
            s.note(format!("watched {service:?}: {state:?}"));
        }
    })
    .await;
}
