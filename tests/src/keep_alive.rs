//! One keepalive of a lease.

use futures::StreamExt;
use keystead_proto::etcdserverpb::LeaseKeepAliveRequest;
use keystead_proto::etcdserverpb::lease_client::LeaseClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::unary::with_token;

/// Keeps a lease alive once, by a stream of its own. Gives the TTL that is answered, in seconds: 0 when there is no such lease.
pub async fn keep_alive(channel: Channel, lease: i64) -> Result<i64, Status> {
    keep_alive_as(channel, None, lease).await
}

/// The same with a token, where there is one.
pub async fn keep_alive_as(
    channel: Channel,
    token: Option<&str>,
    lease: i64,
) -> Result<i64, Status> {
    let once = futures::stream::iter([LeaseKeepAliveRequest { id: lease }]);
    let once = once.chain(futures::stream::pending());
    let mut answers = LeaseClient::new(channel)
        .lease_keep_alive(with_token(once, token))
        .await?
        .into_inner();
    let answer = answers.message().await?;
    answer
        .map(|it| it.ttl)
        .ok_or_else(|| Status::unavailable("the stream ended"))
}
