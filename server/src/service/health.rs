//! gRPC's health service. Like etcd it knows one name, the empty one, which serves.

use std::pin::Pin;
use std::task::{Context, Poll};

use keystead_proto::health::health_check_response::ServingStatus;
use keystead_proto::health::health_server::Health as HealthService;
use keystead_proto::health::{HealthCheckRequest, HealthCheckResponse};
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::error::GrpcStatus;

/// The service.
pub(super) struct Health;

#[tonic::async_trait]
impl HealthService for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if request.get_ref().service.is_empty() {
            return Ok(Response::new(response(ServingStatus::Serving)));
        }
        Err(GrpcStatus::UNKNOWN_HEALTH_SERVICE.into())
    }

    type WatchStream = SaidOnce;

    /// Unlike Check this knows every name: one that may come yet is unknown for now.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<SaidOnce>, Status> {
        let known = request.get_ref().service.is_empty();
        let status = if known {
            ServingStatus::Serving
        } else {
            ServingStatus::ServiceUnknown
        };
        Ok(Response::new(SaidOnce(Some(response(status)))))
    }
}

/// The present health, then nothing until the client goes: it does not change while we serve at all.
pub(super) struct SaidOnce(Option<HealthCheckResponse>);

impl Stream for SaidOnce {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.0.take() {
            Some(response) => Poll::Ready(Some(Ok(response))),
            None => Poll::Pending,
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}
