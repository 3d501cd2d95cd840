//! Keep alive, once: for who counts the time by himself. A session does it for as long as it lives.

use std::time::Duration;

use keystead_proto::etcdserverpb::LeaseKeepAliveRequest;
use tokio::time::timeout;
use tonic::Code;

use crate::channel::rpc;
use crate::client::Client;
use crate::error::{Error, Kind, Result};
use crate::lease::ttl;

impl Client {
    /// Gives a lease its whole TTL again, once, and says how long that is. It counts from a moment between the call and its
    /// answer, so whoever must not be late counts from the call.
    ///
    /// # Errors
    /// `LeaseNotFound`: its time was up, or it was revoked. Otherwise those of every call; trying again is safe.
    pub async fn keep_alive_once(&self, lease: i64) -> Result<Duration> {
        let deadline = self.call_options().deadline;
        timeout(deadline, self.renew(lease))
            .await
            .unwrap_or_else(|_| {
                let message = format!("the lease was not renewed within {deadline:?}");
                Err(Error::local(
                    Kind::DeadlineExceeded,
                    Code::DeadlineExceeded,
                    message,
                ))
            })
    }

    async fn renew(&self, lease: i64) -> Result<Duration> {
        let options = self.call_options();
        let opened = self.channel().open(&rpc::LEASE_KEEP_ALIVE, &options);
        let (mut sender, mut receiver) = opened.await?;
        sender.send(&LeaseKeepAliveRequest { id: lease });
        sender.finish();
        match receiver.next().await? {
            Some(answer) if answer.ttl > 0 => Ok(ttl(answer.ttl)),
            Some(_) => Err(Error::local(
                Kind::LeaseNotFound,
                Code::NotFound,
                "etcdserver: requested lease not found",
            )),
            None => Err(Error::garbled("a keepalive without an answer")),
        }
    }
}
